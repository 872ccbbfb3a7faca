"""Settings of people whom a reverse proxy signs in: each part needs the others, and not everybody is believed."""

from ipaddress import ip_address

import pytest

from tests.config.conftest import Operator

HEADER = 'trusted_header = "X-Forwarded-User"\n'
PROXIES = 'trusted_proxies = ["10.0.0.0/8", "127.0.0.1", "::1", "fc00::/7"]\n'
ALLOW = 'allow = ["*"]\n'
EVERYBODY = (
    "is (nearly) everybody: whoever sends requests from there can sign in as anybody. Write the address of the proxy, "
    "or the smallest network that it is in"
)
NO_NETWORK = "expected an IP address, or a network like 10.0.0.0/8 whose last bits are 0"

REFUSED = {
    "a header without proxies": (
        f"{HEADER}{ALLOW}",
        "1: web: trusted_header needs trusted_proxies: the addresses of the proxies whose header is believed",
    ),
    "proxies without a header": (
        PROXIES,
        "2: web.trusted_proxies: needs trusted_header: the name of the header in which the proxy names the person",
    ),
    "people without a header": (
        ALLOW,
        "2: web.allow: is about people whom a proxy signs in: it needs trusted_header and trusted_proxies",
    ),
    "nobody": (
        f"{HEADER}{PROXIES}",
        "1: web: with trusted_header nobody is admitted yet. Add the people as the proxy names them to allow, or "
        'allow = ["*"] for everybody whom it signs in',
    ),
    **{
        f"the network {network}": (
            f'{HEADER}trusted_proxies = ["127.0.0.1", "{network}"]\n{ALLOW}',
            f"3: web.trusted_proxies[1]: {wrong}",
        )
        for network, wrong in {
            "0.0.0.0/0": EVERYBODY,
            "128.0.0.0/1": EVERYBODY,
            "::/0": EVERYBODY,
            "::ffff:0.0.0.0/96": "write an IPv4 address without ::ffff: before it",
            "10.0.0.1/8": NO_NETWORK,
            "proxy.example.com": NO_NETWORK,
            "*": NO_NETWORK,
        }.items()
    },
    **{
        f"the header {header}": (
            f'trusted_header = "{header}"\n{PROXIES}{ALLOW}',
            "2: web.trusted_header: expected the name of a header that only the proxy sets, like X-Forwarded-User",
        )
        for header in ("Authorization", "cookie", "Host", "X User", "")
    },
    "everybody as admin": (
        f'{HEADER}{PROXIES}admins = ["*"]\n',
        "4: web.admins[0]: expected the name that the proxy sends, like ann@example.com",
    ),
    "an @name": (
        f'{HEADER}{PROXIES}allow = ["ann", "@bob"]\n',
        '4: web.allow[1]: expected the name that the proxy sends, like ann@example.com, or "*"',
    ),
}


@pytest.mark.parametrize(("toml", "reported"), REFUSED.values(), ids=REFUSED)
def test_what_is_unsafe_or_of_no_use_is_refused(operator: Operator, toml: str, reported: str) -> None:
    assert operator.refused(f"[web]\n{toml}") == [f"interject.toml:{reported}"]


@pytest.mark.parametrize(
    ("address", "is_trusted"),
    [("10.255.0.1", True), ("127.0.0.1", True), ("127.0.0.2", False), ("11.0.0.1", False), ("fd12::1", True)],
)
def test_addresses_and_networks_are_understood(operator: Operator, address: str, is_trusted: bool) -> None:
    web = operator.settings(f"[web]\n{HEADER}{PROXIES}{ALLOW}").web
    assert any(ip_address(address) in network for network in web.networks) == is_trusted
