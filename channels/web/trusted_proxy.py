"""The reverse proxies that sign people in: they name the person in a header of each request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection

from channels.web.parse import LOCAL, OWNER

MAX_NAME = 200
"""Characters of a person's name."""

RESERVED = frozenset({OWNER.id, LOCAL})
"""Names that mean the owner, and the place of the owner's conversations."""

PROGRAMS = "api:"
"""Begins the ids of programs."""


class BadIdentity(Exception):
    """The header of a trusted proxy names nobody who can be signed in; the text says why."""


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """`header` is believed in requests from these `networks`, and nowhere else: anybody can send a header."""

    header: str = ""
    networks: Sequence[IPv4Network | IPv6Network] = ()

    def person(self, request: HTTPConnection) -> str | None:
        """The name of the person whom a proxy has signed in; None if it says nothing, or the request comes from
        elsewhere. Raises `BadIdentity`."""
        if not self.header or not self._is_from_one(request):
            return None
        given = request.headers.getlist(self.header)
        if not given:
            return None
        if len(given) > 1:
            raise BadIdentity(
                f"The request has the header {self.header} {len(given)} times. The proxy has to replace what clients "
                "send, not add to it."
            )
        return self._name(given[0])

    def _is_from_one(self, request: HTTPConnection) -> bool:
        """By the other end of the connection; what the request says of its way does not count."""
        if request.client is None:
            return False
        try:
            peer = ip_address(request.client.host)
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            # So a socket for both versions names peers of IPv4.
            peer = peer.ipv4_mapped
        return any(peer in network for network in self.networks)

    def _name(self, given: str) -> str:
        try:
            # Headers are bytes, which arrive as if they were Latin-1.
            name = given.encode("latin-1").decode("utf-8").strip()
        except UnicodeError:
            raise BadIdentity(f"The header {self.header} is not text in UTF-8.") from None
        if not name:
            raise BadIdentity(f"The header {self.header} is empty: the proxy has signed nobody in.")
        if len(name) > MAX_NAME:
            raise BadIdentity(f"The header {self.header} is longer than {MAX_NAME} characters.")
        if not name.isprintable():
            raise BadIdentity(f"The header {self.header} has characters that no name has.")
        if name.lower() in RESERVED or name.lower().startswith(PROGRAMS):
            raise BadIdentity(f'The header {self.header} names "{name}", which is a name of the gateway itself.')
        return name
