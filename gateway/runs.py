"""Runs: what becomes of each message, told to whoever waits for it; read from the store, so it survives restarts."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.store.records import Run


class RunStore(Protocol):
    async def run(self, run_id: str) -> Run | None: ...


class Runs:
    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._changed = asyncio.Event()

    def stir(self) -> None:
        """Some message's state may have changed, and is committed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def over(self, run_id: str) -> Run:
        """The run's terminal record, as soon as there is one. Raises `LookupError` if there is no such run."""
        while True:
            changed = self._changed
            run = await self.now(run_id)
            if run.is_over:
                return run
            await changed.wait()

    async def now(self, run_id: str) -> Run:
        """The run as it stands. Raises `LookupError` if there is no such run."""
        run = await self._store.run(run_id)
        if run is None:
            raise LookupError(f"there is no run {run_id}")
        return run
