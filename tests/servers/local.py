"""A small HTTP server on a free port of this machine, which listens while it is entered."""

from __future__ import annotations

import secrets
import socket
from types import TracebackType
from typing import Self

from aiohttp import web

LOWEST_PORT, PORTS = 10_000, 20_000
"""Ports that no system gives to a socket by itself: between `free_port` and its use nobody else takes one by chance."""


def free_port() -> int:
    """A port that nobody listens on, for a server whose address has to be known before it is started."""
    while True:
        port = LOWEST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class LocalServer:
    _runner: web.AppRunner | None = None

    def app(self) -> web.Application:
        raise NotImplementedError

    @property
    def url(self) -> str:
        assert self._runner is not None
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aenter__(self) -> Self:
        # Cancelling the handler is how a client's departure is noticed while nothing is being written.
        self._runner = web.AppRunner(self.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
