"""Limits on the connections of the HTTP server: their number, and the time for headers, bodies and answers."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application."""

Client = tuple[str, int]
"""Address and port of the other side of a connection."""

MAX_CONNECTIONS = 4096
FILE_SHARE = 4
"""One in so many of the files that the process may open can be a connection; the others are for everything else."""

MIN_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`total` connections, and `per_address` from one address; None: no limit of its own.

    Headers must be complete within `header_seconds`. A body has `body_seconds`, and another second per `body_rate`
    bytes received. A client that takes nothing of its answer for `send_seconds` is disconnected.
    """

    total: int = MAX_CONNECTIONS
    per_address: int | None = None
    header_seconds: float = 15.0
    body_seconds: float = 30.0
    body_rate: int = 8192
    send_seconds: float = 60.0


def default_limits(*, behind_proxy: bool) -> ConnectionLimits:
    """Limits that fit the number of files that this process may open. Behind a proxy, all people have its address."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    total = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // FILE_SHARE)
    total = max(MIN_CONNECTIONS, total)
    return ConnectionLimits(total=total, per_address=None if behind_proxy else total // 4)


@dataclass(slots=True)
class _Connection:
    """`deadline` disconnects it; None while a request is answered. `requests` run: a client that has the whole answer
    may send the next one before the application has returned from the one before."""

    transport: asyncio.Transport
    address: str
    requests: int = 0
    deadline: asyncio.TimerHandle | None = field(default=None)


class Connections:
    """The open connections of a server. Where there are too many, the one that has waited longest for a request is
    closed, or else the one that has waited longest for a body, so a flood of connections that send nothing does not
    lock others out; a new one is refused only if all others are answering requests."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[Client, _Connection] = {}
        self._waiting: dict[Client, _Connection] = {}
        self._receiving: dict[Client, _Connection] = {}

    def opened(self, client: Client, transport: asyncio.Transport) -> None:
        connection = _Connection(transport, client[0])
        self._open[client] = connection
        self._wait(client, connection)
        if self._is_over_share(connection.address):
            self._close_oldest(client, connection.address)
        elif len(self._open) > self._limits.total:
            self._close_oldest(client, None)

    def closed(self, client: Client) -> None:
        connection = self._open.pop(client, None)
        self._waiting.pop(client, None)
        self._receiving.pop(client, None)
        if connection is not None and connection.deadline is not None:
            connection.deadline.cancel()

    def limited(self, app: App) -> App:
        """The application within the limits."""

        async def limited_app(scope: Any, receive: Any, send: Any) -> None:
            client = scope.get("client")
            connection = self._open.get(client) if client else None
            if connection is None:
                await app(scope, receive, send)
                return
            self._begin(client, connection)
            try:
                await app(scope, self._timed_receive(client, connection, receive), self._timed_send(connection, send))
            finally:
                self._end(client, connection)

        return limited_app

    def _is_over_share(self, address: str) -> bool:
        limit = self._limits.per_address
        if limit is None or _is_loopback(address):
            return False
        return sum(each.address == address for each in self._open.values()) > limit

    def _close_oldest(self, new: Client, address: str | None) -> None:
        others = (client for client in (*self._waiting, *self._receiving) if client != new)
        client = next((client for client in others if address in (None, self._open[client].address)), new)
        connection = self._open[client]
        self.closed(client)
        connection.transport.abort()

    def _wait(self, client: Client, connection: _Connection) -> None:
        """The connection waits for a request."""
        self._waiting[client] = connection
        connection.deadline = asyncio.get_running_loop().call_later(
            self._limits.header_seconds, connection.transport.abort
        )

    def _begin(self, client: Client, connection: _Connection) -> None:
        connection.requests += 1
        self._waiting.pop(client, None)
        if connection.deadline is not None:
            connection.deadline.cancel()
            connection.deadline = None

    def _end(self, client: Client, connection: _Connection) -> None:
        connection.requests -= 1
        if connection.requests == 0:
            self._receiving.pop(client, None)
            if client in self._open:
                self._wait(client, connection)

    def _timed_receive(self, client: Client, connection: _Connection, receive: Any) -> Any:
        loop = asyncio.get_running_loop()
        started: float | None = None
        received = 0
        is_complete = False

        async def timed_receive() -> Any:
            nonlocal started, received, is_complete
            if is_complete:
                return await receive()
            if started is None:
                started = loop.time()
                if client in self._open:
                    self._receiving[client] = connection
            try:
                async with asyncio.timeout_at(started + self._limits.body_seconds + received / self._limits.body_rate):
                    message = await receive()
            except TimeoutError:
                connection.transport.abort()
                return {"type": "http.disconnect"}
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if is_complete:
                self._receiving.pop(client, None)
            return message

        return timed_receive

    def _timed_send(self, connection: _Connection, send: Any) -> Any:
        async def timed_send(message: Any) -> None:
            try:
                async with asyncio.timeout(self._limits.send_seconds):
                    await send(message)
            except TimeoutError:
                connection.transport.abort()

        return timed_send


def _is_loopback(address: str) -> bool:
    """Programs of this machine: a proxy may be one of them."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
