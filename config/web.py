"""Settings of the web server, and of the people whom a reverse proxy before it signs in."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from config.channels import User
from config.section import Section, refuse_entries, wrong

Network = IPv4Network | IPv6Network

_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_OF_CLIENTS = frozenset({"authorization", "cookie", "host", "origin", "referer", "user-agent"})
"""Headers that a client sets itself, whatever proxy is before the server."""

_SHORTEST = {4: 8, 6: 7}
"""Bits of the largest networks that are private: 10.0.0.0/8, and fc00::/7 of RFC 4193."""

_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses, as RFC 4291 writes them as IPv6 addresses."""


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", text):
        raise wrong("expected an address without a path, like https://chat.example.com")
    return text.rstrip("/").lower()


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text) or text.lower() in _OF_CLIENTS:
        raise wrong("expected the name of a header that only the proxy sets, like X-Forwarded-User")
    return text


def _fault_of_proxy(text: str) -> str:
    """What is wrong with an entry of `trusted_proxies`, "" if nothing is."""
    try:
        network = ip_network(text)
    except ValueError:
        return "expected an IP address, or a network like 10.0.0.0/8 whose last bits are 0"
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return "write an IPv4 address without ::ffff: before it"
    if network.prefixlen < _SHORTEST[network.version]:
        return (
            "is (nearly) everybody: whoever sends requests from there can sign in as anybody. Write the address of "
            "the proxy, or the smallest network that it is in"
        )
    return ""


class WebSettings(Section):
    """The web server: web chat and HTTP API."""

    enabled: bool = Field(default=True, description="Whether the web server runs.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Network interface to listen on. The default is reachable from this machine only.",
    )
    port: int = Field(default=8321, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    url: Annotated[str, AfterValidator(_origin)] | None = Field(
        default=None,
        description="Public address of the web chat behind a reverse proxy with HTTPS. Default: it has none.",
        examples=["https://chat.example.com"],
    )
    show_reasoning: bool = Field(default=False, description="Whether the model's reasoning is shown in the web chat.")
    trusted_header: Annotated[str, AfterValidator(_header)] | None = Field(
        default=None,
        description="Header in which a reverse proxy names the person whom it has signed in (single sign-on). It is "
        "believed only in requests that come from `trusted_proxies`. Default: nobody is signed in so.",
        examples=["X-Forwarded-User"],
    )
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="IP addresses and networks of the reverse proxies whose `trusted_header` is believed. Whoever can "
        "send requests from there can sign in as anybody.",
        examples=[["127.0.0.1"]],
    )
    trusted_case_sensitive: bool = Field(
        default=False,
        description="Whether names that differ in small and capital letters only are different people, as with subject "
        "identifiers of OpenID Connect. By default they are one, as with e-mail addresses and user names.",
    )
    allow: list[User] = Field(
        default_factory=list,
        description='Allowlist of people whom the proxy signs in, as its header names them, or "*" for all of them. '
        "Empty: only those in the lists below.",
        examples=[["*"]],
    )
    admins: list[User] = Field(
        default_factory=list,
        description='People who see and manage all conversations of the web chat, in the form of `allow`, without "*".',
        examples=[["ann@example.com"]],
    )
    members: list[User] = Field(
        default_factory=list,
        description="People with the rights of [roles.member], in the form of `allow`. If it is set, everybody else "
        "who is admitted is a guest. Default: everybody on the allowlist.",
        examples=[["bob@example.com"]],
    )
    guests: list[User] = Field(
        default_factory=list,
        description="People who are admitted with the rights of [roles.guest], in the form of `allow`, unless they are "
        "among `members` or `admins`.",
        examples=[["carol@example.com"]],
    )

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those of the trusted proxies."""
        return tuple(map(ip_network, self.trusted_proxies))

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: list[str], info: ValidationInfo) -> list[str]:
        for index, proxy in enumerate(proxies):
            if fault := _fault_of_proxy(proxy):
                refuse_entries([index], fault)
        if proxies and info.data.get("trusted_header", "") is None:
            raise wrong("needs trusted_header: the name of the header in which the proxy names the person")
        return proxies

    @field_validator("allow", "admins", "members", "guests")
    @classmethod
    def _are_people_of_the_proxy(cls, users: list[str], info: ValidationInfo) -> list[str]:
        everybody = info.field_name != "admins"
        invalid = [
            index
            for index, user in enumerate(users)
            if not user.strip() or user.startswith(("@", "role:")) or (user == "*" and not everybody)
        ]
        form = "the name that the proxy sends, like ann@example.com"
        refuse_entries(invalid, f'expected {form}, or "*"' if everybody else f"expected {form}")
        if users and info.data.get("trusted_header", "") is None:
            raise wrong("is about people whom a proxy signs in: it needs trusted_header and trusted_proxies")
        return users

    @model_validator(mode="after")
    def _proxies_are_known_and_people_are_admitted(self) -> Self:
        if self.trusted_header is None:
            return self
        if not self.trusted_proxies:
            raise wrong("trusted_header needs trusted_proxies: the addresses of the proxies whose header is believed")
        if not (self.allow or self.admins or self.members or self.guests):
            raise wrong(
                "with trusted_header nobody is admitted yet. Add the people as the proxy names them to allow, or "
                'allow = ["*"] for everybody whom it signs in'
            )
        return self
