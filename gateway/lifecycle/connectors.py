"""Connectors: what only one worker may have at a time (a connection to a platform, the sending to a webhook), and which
of them this worker holds.

In the database a connector has one holder: it is taken in one transaction, and only if it was released or its holder
is dead. A holder that was stopped or cut off for longer than its lease does not know at once that another one
listens. Until it does, it may receive something, but it stores nothing and opens no connection: both ask `is_held`,
which goes by its own clock. What it has received and not stored comes to the next holder, because nobody confirmed it
to the platform. A message that both store, because a lease ended between the question and the commit, is one: it has
one event id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from channels.channel import Channel, ExclusiveChannel, Lease
from gateway.store import Store
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0
"""Seconds until a worker that waits for a connector looks again if nobody told it to."""


def connector_of(channel: Channel) -> str | None:
    """What a worker must hold to listen on the channel; None: nothing."""
    return channel.connector if isinstance(channel, ExclusiveChannel) else None


class HeldLease(Lease, Protocol):
    async def lost(self) -> None:
        """Returns when this worker holds it no more."""


class Connectors(Protocol):
    """Of two workers that are alive, never both hold a connector."""

    def look(self) -> None:
        """A connector may be free: whoever waits for one asks again. Never waits."""

    async def take(self, name: str) -> HeldLease:
        """Waits until this worker holds the connector; at once if it does already."""

    async def release(self, name: str) -> None:
        """Another worker may take it from now on. Never fails: in the worst case it is free when this worker ends."""


def always() -> bool:
    return True


def untold() -> None:
    """Nobody else waits."""


class StoredConnectors:
    """`Connectors` of all workers of one database: a lease lasts until it is released or its worker is dead, and its
    state is kept for the next holder, even where that is the same gateway after a restart.

    `is_alive` says whether others still take this worker for alive, by this process's own clock and without asking the
    database. `released` tells the other workers to look. Call `look` when another one says so, or when one was found
    dead, and `lose` when this worker is no longer alive.
    """

    def __init__(
        self,
        store: Store,
        *,
        is_alive: Callable[[], bool] = always,
        released: Callable[[], None] = untold,
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._store = store
        self._is_alive = is_alive
        self._released = released
        self._interval = interval
        self._held: dict[str, _StoredLease] = {}
        self._unreleased: set[str] = set()
        """Given up here, but not in the database yet."""
        self._told = asyncio.Event()

    def look(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    def lose(self) -> None:
        """This worker holds nothing any more."""
        for name in tuple(self._held):
            self._end(name)
        self._unreleased.clear()

    async def take(self, name: str) -> HeldLease:
        is_waiting = False
        while True:
            told = self._told
            lease = self._held.get(name) or await self._try(name)
            if lease is not None and lease.is_held():
                return lease
            if not is_waiting:
                log.info("%s: another worker holds this; this one waits for its turn", name)
                is_waiting = True
            try:
                async with asyncio.timeout(self._interval):
                    await told.wait()
            except TimeoutError:
                continue

    async def _try(self, name: str) -> _StoredLease | None:
        try:
            if name in self._unreleased:
                await self._release(name)
            taken = await self._store.take_lease(name)
        except StoreError as error:
            log.warning("%s: whether another worker holds this is not known, asking again: %s", name, error)
            return None
        except asyncio.CancelledError:
            # The store goes on with what was asked.
            await self.release(name)
            raise
        if taken is None:
            return None
        lease = self._held[name] = _StoredLease(taken.state, partial(self._save, name), self._is_alive)
        log.info("%s: this worker holds this", name)
        return lease

    async def release(self, name: str) -> None:
        self._end(name)
        try:
            await self._release(name)
        except StoreError as error:
            log.warning("%s: other workers get this only once this one has ended: %s", name, error)

    async def _release(self, name: str) -> None:
        self._unreleased.add(name)
        await self._store.release_lease(name)
        self._unreleased.discard(name)
        self._released()

    async def _save(self, name: str, state: Mapping[str, Any]) -> None:
        try:
            is_stored = await self._store.save_lease_state(name, dict(state))
        except StoreError as error:
            log.info("%s: its state is not stored: %s", name, error)
            return
        if not is_stored:
            self._end(name)

    def _end(self, name: str) -> None:
        if (lease := self._held.pop(name, None)) is not None:
            lease.end()


class _StoredLease:
    def __init__(
        self,
        state: Mapping[str, Any],
        store: Callable[[Mapping[str, Any]], Awaitable[None]],
        is_alive: Callable[[], bool],
    ) -> None:
        self.state = state
        self._store = store
        self._is_alive = is_alive
        self._ended = asyncio.Event()

    def is_held(self) -> bool:
        return not self._ended.is_set() and self._is_alive()

    async def lost(self) -> None:
        await self._ended.wait()

    def end(self) -> None:
        self._ended.set()

    async def save(self, state: Mapping[str, Any]) -> None:
        if not self._ended.is_set():
            self.state = state
            await self._store(state)
