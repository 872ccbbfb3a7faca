"""The HTTP server of the web channel and of the platforms' webhooks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application."""


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
    listener.listen(128)
    return listener


async def serve(make_app: Callable[[], Awaitable[App]], listener: socket.socket) -> None:
    """Serves the app on the socket until cancelled. Its libraries are loaded on the first connection."""
    await _first_connection(listener)
    app = await make_app()
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """The gateway handles signals."""
            yield

    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
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


async def _first_connection(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    listener.setblocking(False)
    loop.add_reader(listener, connected.set)
    try:
        await connected.wait()
    finally:
        loop.remove_reader(listener)
