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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

from channels.channel import Channel, ExclusiveChannel, Lease, NotStored, ShardedChannel
from channels.message import Deliver, InboundMessage, Receipt
from gateway.store import Store
from gateway.store.errors import StoreError
from gateway.store.workers import TURN

log = logging.getLogger(__name__)

LOOK_INTERVAL = 1.0
"""Seconds until a worker that waits for a connector looks again if nobody told it to."""


def connector_of(channel: Channel) -> str | None:
    """What a worker must hold to listen on the channel, or a part of it; None: nothing."""
    return channel.connector if isinstance(channel, ExclusiveChannel | ShardedChannel) else None


class HeldLease(Lease, Protocol):
    @property
    def is_wanted(self) -> bool:
        """Whether another worker has asked for it."""

    async def lost(self) -> None:
        """Returns when this worker holds it no more."""


class Connectors(Protocol):
    """Of two workers that are alive, never both hold a connector. Connectors of one account begin with its name: that
    itself, or it and ":" before what tells them apart."""

    def look(self) -> None:
        """A connector may be free: whoever waits for one asks again. Never waits."""

    @property
    def told(self) -> asyncio.Event:
        """Set at the next `look`."""

    async def until(self, told: asyncio.Event) -> None:
        """Waits for that, but not longer than there may be something to see that nobody has told."""

    async def take(self, name: str) -> HeldLease:
        """Waits until this worker holds the connector; at once if it does already."""

    async def try_take(self, name: str) -> HeldLease | None:
        """None if another worker holds it, or the store does not answer."""

    async def release(self, name: str) -> None:
        """Another worker may take it from now on. Never fails: in the worst case it is free when this worker ends."""

    def held(self, account: str) -> dict[str, HeldLease]:
        """What this worker holds of the account's connectors, by name."""

    async def holders(self, account: str) -> dict[str, str]:
        """The ids of the workers that hold the account's connectors, by name. Raises `StoreError`."""

    def ask_for(self, name: str) -> None:
        """Asks the connector's holder to release it. Never waits; it may not arrive."""

    def turn(self, name: str) -> AbstractAsyncContextManager[Lease]:
        """Waits until nobody else, in this worker or another, has the turn of this name, and holds it."""


def always() -> bool:
    return True


def untold(*about: str) -> None:
    """There is no other worker."""


class StoredConnectors:
    """`Connectors` of all workers of one database: a lease lasts until it is released or its worker is dead, and its
    state is kept for the next holder, even where that is the same gateway after a restart.

    `is_alive` says whether others still take this worker for alive, by this process's own clock and without asking the
    database. `released` tells the other workers to look, `ask_for` asks the holder of a connector to `give_up` that.
    Call `look` when another one says so, or when one was found dead, and `lose` when this worker is no longer alive.
    """

    def __init__(
        self,
        store: Store,
        *,
        is_alive: Callable[[], bool] = always,
        released: Callable[[], None] = untold,
        ask_for: Callable[[str], None] = untold,
        interval: float = LOOK_INTERVAL,
    ) -> None:
        self._store = store
        self._is_alive = is_alive
        self._released = released
        self._ask_for = ask_for
        self._interval = interval
        self._held: dict[str, _StoredLease] = {}
        self._unreleased: set[str] = set()
        """Given up here, but not in the database yet."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._told = asyncio.Event()

    def look(self) -> None:
        self._told.set()
        self._told = asyncio.Event()

    @property
    def told(self) -> asyncio.Event:
        return self._told

    async def until(self, told: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await told.wait()
        except TimeoutError:
            return

    def give_up(self, name: str) -> None:
        """Another worker asks for it. Whoever listens decides."""
        if (lease := self._held.get(name)) is not None:
            lease.is_wanted = True
            self.look()

    def lose(self) -> None:
        """This worker holds nothing any more."""
        for name in tuple(self._held):
            self._end(name)
        self._unreleased.clear()

    def held(self, account: str) -> dict[str, HeldLease]:
        return {name: lease for name, lease in self._held.items() if name == account or name.startswith(f"{account}:")}

    async def holders(self, account: str) -> dict[str, str]:
        found = await self._store.lease_holders(account)
        # What it has given up, or never got an answer for, is not to be kept from others.
        for name in [name for name in found if found[name] == self._store.worker and name not in self._held]:
            await self._release(name)
            del found[name]
        return found

    def ask_for(self, name: str) -> None:
        self._ask_for(name)

    async def take(self, name: str) -> HeldLease:
        is_waiting = False
        while True:
            told = self._told
            if (lease := await self.try_take(name)) is not None:
                return lease
            if not is_waiting:
                log.info("%s: another worker holds this; this one waits for its turn", name)
                is_waiting = True
            await self.until(told)

    async def try_take(self, name: str) -> HeldLease | None:
        if (lease := self._held.get(name)) is None and (lease := await self._try(name)) is not None:
            log.info("%s: worker %s holds this from now on", name, self._store.worker)
        return lease if lease is not None and lease.is_held() else None

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Lease]:
        name = f"{TURN}{name}"
        async with self._turns.setdefault(name, asyncio.Lock()):
            while True:
                told = self._told
                if (lease := await self._try(name)) is not None:
                    break
                await self.until(told)
            try:
                yield lease
            finally:
                await self.release(name)

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
        return lease

    async def release(self, name: str) -> None:
        self._end(name)
        try:
            await self._release(name)
        except StoreError as error:
            log.warning("%s: other workers get this only once this one has ended: %s", name, error)
        else:
            if self._store.is_shared and not name.startswith(TURN):
                log.info("%s: worker %s has handed this over", name, self._store.worker)

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
        self.is_wanted = False
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


def while_held(deliver: Deliver, lease: Lease) -> Deliver:
    """`deliver`, for as long as this worker holds the lease: afterwards the platform gives the message to the next
    holder. That one may lose the lease between this check and the commit does no harm: a message that arrives twice is
    stored once."""

    async def deliver_as_holder(message: InboundMessage) -> Receipt | None:
        if not lease.is_held():
            raise NotStored("this worker's turn to listen is over, or the database cannot be asked whether it is")
        return await deliver(message)

    return deliver_as_holder
