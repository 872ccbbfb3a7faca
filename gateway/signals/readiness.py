"""Readiness: whether the gateway can take messages now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

KEPT = 1.0
"""Seconds for which a finding is told again: however often it is asked for, the store writes once."""

PATIENCE = 5.0
"""Seconds within which the store must write."""


class Readiness:
    """Call it for what is not ready, by part; empty when all is. Says nothing secret: anybody may ask.

    The gateway is ready only while `run` does, which ends when the gateway begins to stop."""

    def __init__(
        self,
        check_writing: Callable[[], Awaitable[None]],
        channels: Callable[[], Mapping[str, str]],
        *,
        patience: float = PATIENCE,
        kept: float = KEPT,
    ) -> None:
        """`channels` has the state of each channel: "" or a problem."""
        self._check_writing = check_writing
        self._channels = channels
        self._phase = "is starting"
        self._patience = patience
        self._kept = kept
        self._lock = asyncio.Lock()
        self._checked_at = -kept
        self._store = ""

    async def run(self) -> None:
        self._phase = ""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._phase = "is stopping"

    async def __call__(self) -> dict[str, str]:
        if self._phase:
            return {"gateway": self._phase}
        problems = {"store": await self._store_problem(), "channels": self._channel_problem()}
        return {part: problem for part, problem in problems.items() if problem}

    def _channel_problem(self) -> str:
        return "" if "" in self._channels().values() else "none is up; /status and the log say why"

    async def _store_problem(self) -> str:
        async with self._lock:
            if time.monotonic() - self._checked_at >= self._kept:
                self._store = await self._check_store()
                self._checked_at = time.monotonic()
            return self._store

    async def _check_store(self) -> str:
        try:
            async with asyncio.timeout(self._patience):
                await self._check_writing()
        except TimeoutError:
            return f"does not write within {self._patience:g} s"
        except StoreError as error:
            log.warning("not ready: the store does not write: %s", error)
            return "does not write; the log has the reason"
        return ""
