"""Connections to addresses that were checked, for addresses that somebody else has chosen."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address

import httpx

from agent.tools.addresses import Address


class AddressRefused(Exception):
    """The host has no address that is allowed."""


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to exactly the address that was checked: a second DNS lookup could give another one. A request raises
    `AddressRefused` if `allow` accepts none.

    The name is kept in the Host header and the TLS handshake (`sni_hostname`, httpx's documented request extension).
    """

    def __init__(self, allow: Callable[[Address], bool]) -> None:
        self._allow = allow
        # No keep-alive: connections are pooled by address, so that requests for another host would reuse them.
        self._inner = httpx.AsyncHTTPTransport(
            verify=_tls(), limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{request.url.scheme} is not supported", request=request)
        if request.url.port is not None and not 0 < request.url.port < 65_536:
            raise httpx.ConnectError(f"there is no port {request.url.port}", request=request)
        failure: httpx.TransportError | None = None
        for address in await self._addresses(request.url.raw_host.decode("ascii")):
            try:
                return await self._inner.handle_async_request(_with_address(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError("the name has no address", request=request)

    async def _addresses(self, host: str) -> list[Address]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"{host} was not found") from error
        addresses = list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))
        allowed = [address for address in addresses if self._allow(address)]
        if not allowed:
            raise AddressRefused(f"{host} resolves to {addresses[0]}, which is not an address of the public internet")
        return allowed[:4]

    async def aclose(self) -> None:
        await self._inner.aclose()


def _with_address(request: httpx.Request, address: Address) -> httpx.Request:
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions | {"sni_hostname": request.url.raw_host.decode("ascii")},
    )


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
