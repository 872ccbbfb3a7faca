"""The bus of a single process: wakes, stops and events act before the call returns."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from channels.channel import NotStored
from channels.message import InboundMessage, Receipt
from gateway.bus.bus import BusClosed, MessageReceiver, TurnDispatcher
from gateway.bus.events import BusEvent, Lagged
from gateway.store.records import Busy

log = logging.getLogger(__name__)

BACKLOG = 1000
"""Unread events that a subscription holds."""


def unwatched(event: object) -> None:
    """For a bus that only its subscribers watch."""


class LocalBus:
    """Implements `gateway.bus.Bus`."""

    def __init__(self, *, backlog: int = BACKLOG, watch: Callable[[BusEvent], None] = unwatched) -> None:
        """`watch` is told of every event before subscribers are. It never waits and never raises."""
        self._backlog = backlog
        self._watch = watch
        self._receiver: MessageReceiver | None = None
        self._dispatcher: TurnDispatcher | None = None
        self._subscriptions: dict[str | None, list[LocalSubscription]] = {}
        self._closed = False

    async def __aenter__(self) -> LocalBus:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()

    def attach(self, receiver: MessageReceiver, dispatcher: TurnDispatcher) -> None:
        self._receiver = receiver
        self._dispatcher = dispatcher

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        if self._receiver is None or self._closed:
            raise NotStored("The gateway does not receive messages now.")
        return await self._receiver.deliver(message)

    def wake(self, session: str, busy: Busy = "steer", *, by: str = "") -> None:
        self._dispatch(session, lambda dispatcher: dispatcher.wake(session, busy, by=by))

    def stop(self, session: str, *, before: int, reason: str) -> None:
        self._dispatch(session, lambda dispatcher: dispatcher.stop(session, before=before, reason=reason))

    def _dispatch(self, session: str, act: Callable[[TurnDispatcher], object]) -> None:
        """A failure of the dispatcher does not reach the caller, whose own work is committed."""
        if self._dispatcher is None or self._closed:
            return
        try:
            act(self._dispatcher)
        except Exception:
            log.exception("session %s: the dispatcher failed", session)

    def released(self) -> None:
        """There is nobody who waits for it."""

    def publish(self, event: BusEvent) -> None:
        self._watch(event)
        for subscription in self._subscriptions_of(event.session):
            subscription.put(event)

    def relay(self, event: BusEvent) -> None:
        """Tells subscribers what happened in another worker."""
        for subscription in self._subscriptions_of(event.session):
            if not subscription.own_only:
                subscription.put(event)

    def lag(self, session: str | None = None) -> None:
        """Events of another worker about this session (None: about any) have not arrived."""
        if session is not None:
            affected = self._subscriptions_of(session)
        else:
            affected = tuple(each for subscriptions in self._subscriptions.values() for each in subscriptions)
        for subscription in affected:
            if not subscription.own_only:
                subscription.lag()

    def _subscriptions_of(self, session: str | None) -> tuple[LocalSubscription, ...]:
        if not self._subscriptions or self._closed:
            return ()
        return (*self._subscriptions.get(session, ()), *self._subscriptions.get(None, ()))

    def recall(self, session: str) -> None:
        """There is no other worker."""

    @asynccontextmanager
    async def subscribe(
        self, session: str | None = None, *kinds: type[BusEvent], own_only: bool = False
    ) -> AsyncIterator[LocalSubscription]:
        subscription = LocalSubscription(session, kinds, self._backlog, own_only=own_only)
        if self._closed:
            subscription.close()
        subscriptions = self._subscriptions.setdefault(session, [])
        subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            subscriptions.remove(subscription)
            if not subscriptions:
                del self._subscriptions[session]


class LocalSubscription:
    """Implements `gateway.bus.Subscription`."""

    def __init__(
        self, session: str | None, kinds: tuple[type[BusEvent], ...], backlog: int, *, own_only: bool = False
    ) -> None:
        self.own_only = own_only
        self._session = session
        self._kinds = kinds
        self._backlog = backlog
        self._unread: deque[BusEvent] = deque()
        self._dropped = 0
        self._has_gap = False
        self._signal = asyncio.Event()
        self._closed = False

    def put(self, event: BusEvent) -> None:
        if self._kinds and not isinstance(event, self._kinds):
            return
        if len(self._unread) == self._backlog:
            self._unread.popleft()
            self._dropped += 1
        self._unread.append(event)
        self._signal.set()

    def lag(self) -> None:
        """Events of another worker have not arrived."""
        self._has_gap = True
        self._signal.set()

    def close(self) -> None:
        self._closed = True
        self._signal.set()

    def __aiter__(self) -> LocalSubscription:
        return self

    async def __anext__(self) -> BusEvent:
        if not await self._wait():
            raise StopAsyncIteration
        if self._dropped or self._has_gap:
            lagged = Lagged(self._session, self._dropped)
            self._dropped, self._has_gap = 0, False
            return lagged
        return self._unread.popleft()

    async def changed(self) -> None:
        if not await self._wait():
            raise BusClosed
        self._unread.clear()
        self._dropped, self._has_gap = 0, False

    async def _wait(self) -> bool:
        """Waits for an event; False if the bus has closed and none is left."""
        while not (self._unread or self._has_gap):
            if self._closed:
                return False
            self._signal.clear()
            await self._signal.wait()
        return True
