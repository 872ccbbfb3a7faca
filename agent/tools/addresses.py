"""Which addresses belong to the public internet: a table of our own, after the registries of IANA.

https://www.iana.org/assignments/iana-ipv4-special-registry and https://www.iana.org/assignments/iana-ipv6-special-registry;
Python's `is_global` changes with its version.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

SPECIAL_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # shared by carriers; 100.100.100.200 is the metadata service of a cloud provider
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # the host of virtual machines of a cloud provider
            "169.254.0.0/16",  # link-local; 169.254.169.254 is the metadata service of most cloud providers
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is the metadata service of a cloud provider
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)

GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All that is assigned for global unicast: all else is loopback, private, link-local, multicast or free."""

SPECIAL_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments
            "2001:db8::/32",  # documentation
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

MAPPED = IPv6Network("::ffff:0:0/96")
COMPATIBLE = IPv6Network("::/96")
TRANSLATED = IPv6Network("::ffff:0:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet. An IPv4 address within an IPv6 one must do so as well."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    if address.scope_id is not None:
        return False
    embedded = _embedded_ipv4(address)
    if embedded is not None:
        return all(map(is_public, embedded))
    return address in GLOBAL_IPV6 and not any(address in network for network in SPECIAL_IPV6)


def _embedded_ipv4(address: IPv6Address) -> tuple[IPv4Address, ...] | None:
    """The IPv4 addresses that a packet to this address may be sent to; None if there is none in it."""
    number = int(address)
    if any(address in network for network in (MAPPED, COMPATIBLE, TRANSLATED, NAT64)):
        return (IPv4Address(number & 0xFFFF_FFFF),)
    if address in SIX_TO_FOUR:
        return (IPv4Address(number >> 80 & 0xFFFF_FFFF),)
    if address in TEREDO:
        # The server, and the client with its bits inverted.
        return IPv4Address(number >> 64 & 0xFFFF_FFFF), IPv4Address(~number & 0xFFFF_FFFF)
    if address in GLOBAL_IPV6 and number >> 32 & 0xFFFF_FFFF in ISATAP:
        return (IPv4Address(number & 0xFFFF_FFFF),)
    return None
