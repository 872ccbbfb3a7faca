"""The HTTP server of the web channel and of the platforms' webhooks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from gateway.lifecycle.supervision import supervised
from gateway.web.connections import App, ConnectionLimits, Connections

BACKLOG = 64
"""Connections that the kernel accepts for us; the event loop may take so many at once, each with a file."""


class PortTaken(Exception):
    """The message says which address is taken and what to do."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `PortTaken`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port} ({error.strerror}). Another gateway may be running; "
            "set [web] port to another number, or to 0 for a free one"
        ) from error
    listener.listen(BACKLOG)
    return listener


class HttpServer:
    """Use as `async with`; it serves from `start` on until that is left, also while the gateway stops: what runs can be
    watched until its end."""

    def __init__(
        self,
        make_app: Callable[[], Awaitable[App]],
        listener: socket.socket,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._serve = partial(serve, make_app, listener, limits)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HttpServer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(supervised(self._serve))


async def serve(
    make_app: Callable[[], Awaitable[App]], listener: socket.socket, limits: ConnectionLimits | None = None
) -> None:
    """Serves the app on the socket until cancelled. Its libraries are loaded on the first connection."""
    await _first_connection(listener)
    connections = Connections(limits or ConnectionLimits())
    app = connections.limited(await make_app())
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The gateway handles signals."""
            yield

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            if self.client is not None:
                connections.opened(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                connections.closed(self.client)
            super().connection_lost(exc)

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        backlog=BACKLOG,
        # The guard of the app has its own rules for what a proxy says.
        proxy_headers=False,
        server_header=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise


def mounted(site: App, others: Mapping[str, App]) -> App:
    """The site, with other applications for paths that begin with these prefixes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        found = next((other for prefix, other in others.items() if path.startswith(prefix)), site)
        await found(scope, receive, send)

    return app


def lazily(make_app: Callable[[], Awaitable[App]]) -> App:
    """The application, made with the first request to it. If that fails, the next request tries again."""
    made: App | None = None
    making = asyncio.Lock()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal made
        if made is None:
            async with making:
                made = made or await make_app()
        await made(scope, receive, send)

    return app


async def _first_connection(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    listener.setblocking(False)
    loop.add_reader(listener, connected.set)
    try:
        await connected.wait()
    finally:
        loop.remove_reader(listener)
