"""The bus of several workers on one PostgreSQL database. Notifications wake them up; the store has what is true.

A notification may be lost, with a connection for instance. Therefore everything that has to be done is a row before
anybody is told, each worker looks at the store now and then (`look_again`), and subscribers whose events did not arrive
read `Lagged`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol, assert_never

import psycopg

from channels.message import InboundMessage, Receipt
from gateway.bus import wire
from gateway.bus.bus import MessageReceiver, Subscription, TurnDispatcher
from gateway.bus.events import BusEvent, Lagged, NotificationArrived, TurnEnded, TurnParked, TurnProgress
from gateway.bus.local import BACKLOG, LocalBus, unwatched
from gateway.bus.notifications import Notifications
from gateway.bus.outgoing import Outgoing
from gateway.bus.peers import Peers
from gateway.sessions import is_child
from gateway.store.records import Busy

log = logging.getLogger(__name__)

PACE = 0.1
"""Seconds between two reports of turns' progress."""

RENEWAL = 7.5
"""Seconds, half a lease: workers greet each other, and look at the store."""

START_TIMEOUT = 5.0
"""Seconds that a start waits until notifications arrive; without them, it looks at the store only."""

LAST_WORDS = 1.0
"""Seconds for what is left to be said at the end."""

WATCHES = 20
"""Sessions that one message names."""

MAX_ON_THE_WAY = 1_000
"""Notifications of which it is remembered when there was something to tell, until they arrive."""

SETTLED_FOR = 30.0
MAX_SETTLED = 5_000
"""For so many seconds a worker remembers that a turn has ended or parked here, and so many of them."""


def unasked(connector: str) -> None:
    """Nothing can be asked for."""


class Transport(Protocol):
    """Carries notifications to all workers, also to the one that sends them; see `Notifications`."""

    async def listen(self) -> None: ...
    async def send(self, payloads: Sequence[str]) -> None: ...
    async def aclose(self) -> None: ...


class Connect(Protocol):
    def __call__(self, url: str, *, listening: Callable[[], None], heard: Callable[[str], None]) -> Transport: ...


class PostgresBus:
    """Implements `gateway.bus.Bus`."""

    def __init__(
        self,
        url: str,
        worker: str,
        *,
        watch: Callable[[BusEvent | NotificationArrived], None] = unwatched,
        look_again: Callable[[], None],
        asked: Callable[[str], None] = unasked,
        backlog: int = BACKLOG,
        renewal: float = RENEWAL,
        connect: Connect = Notifications,
    ) -> None:
        """`worker` is this process's name in the store. `watch` is told of this process's own events, as in
        `LocalBus`, and how long notifications take. `look_again` is called when notifications may have been lost, and
        every `renewal` seconds; it never waits and never raises. `asked` is called with each connector that another
        worker asks this one for. `connect` makes what carries notifications."""
        self._worker = worker
        self._look_again = look_again
        self._asked = asked
        self._renewal = renewal
        self._watch = watch
        self._local = LocalBus(backlog=backlog, watch=watch)
        self._dispatcher: TurnDispatcher | None = None
        self._notifications = connect(url, listening=self._begin_listening, heard=self._heard)
        self._outgoing = Outgoing()
        self._signal = asyncio.Event()
        self._listening = asyncio.Event()
        self._sent = 0
        self._on_the_way: OrderedDict[int, float] = OrderedDict()
        self._peers = Peers(forget_after=4 * renewal)
        self._watched: Counter[str] = Counter()
        self._settled: dict[str, float] = {}
        self._tasks = asyncio.TaskGroup()
        self._running: tuple[asyncio.Task[None], ...] = ()
        self._closed = False

    async def __aenter__(self) -> PostgresBus:
        await self._tasks.__aenter__()
        self._running = tuple(
            self._tasks.create_task(part) for part in (self._notifications.listen(), self._send(), self._renew())
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._listening.wait()
        except TimeoutError:
            log.warning("notifications of other workers do not arrive yet; the store is looked at instead")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._local.__aexit__(*exc)
        self._closed = True
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        with suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self._send_due(all=True)
        await self._notifications.aclose()

    def attach(self, receiver: MessageReceiver, dispatcher: TurnDispatcher) -> None:
        self._dispatcher = dispatcher
        self._local.attach(receiver, dispatcher)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        return await self._local.deliver(message)

    def wake(self, session: str, busy: Busy = "steer", *, by: str = "") -> None:
        self._local.wake(session, busy, by=by)
        dispatcher = self._dispatcher
        if dispatcher is not None and not dispatcher.runs(session):
            # Delegated tasks run where the turn runs that has delegated them.
            self._tell(wire.Wake(session, by, anyone=dispatcher.waits(session) and not is_child(session)))

    def stop(self, session: str, *, before: int, reason: str) -> None:
        self._local.stop(session, before=before, reason=reason)
        if self._dispatcher is not None and not self._dispatcher.runs(session):
            self._tell(wire.Stop(session, before, reason))

    def released(self) -> None:
        self._tell(wire.Released())

    def ask_for(self, connector: str) -> None:
        """Says that this worker would like to have the connector, of whose kind the holder has more. Never waits, never
        raises; it may be lost."""
        self._tell(wire.Wanted(connector))

    def publish(self, event: BusEvent) -> None:
        self._local.publish(event)
        if isinstance(event, TurnEnded | TurnParked):
            self._note_settled(event.session)
        if isinstance(event, Lagged) or (isinstance(event, TurnProgress) and not self._peers.watch(event.session)):
            return
        self._tell(wire.Happened(event))

    def recall(self, session: str) -> None:
        self._tell(wire.Watch((session,), again=True))

    @asynccontextmanager
    async def subscribe(
        self, session: str | None = None, *kinds: type[BusEvent], own_only: bool = False
    ) -> AsyncIterator[Subscription]:
        async with self._local.subscribe(session, *kinds, own_only=own_only) as subscription:
            if own_only or (kinds and TurnProgress not in kinds):
                yield subscription
                return
            watched = session or ""
            self._watched[watched] += 1
            if self._watched[watched] == 1:
                self._tell(wire.Watch((watched,)))
            try:
                yield subscription
            finally:
                self._watched[watched] -= 1
                if not self._watched[watched]:
                    del self._watched[watched]

    # Sending

    def _tell(self, message: wire.Message) -> None:
        """Workers that are alone tell nobody anything; one that begins is told to look at the store."""
        if self._closed or not (self._peers.known or isinstance(message, wire.Hello)):
            return
        self._outgoing.add(message)
        self._signal.set()

    async def _send(self) -> None:
        paced_at = -PACE
        pause = 0.0
        while True:
            await self._signal.wait()
            self._signal.clear()
            left = paced_at + PACE - time.monotonic()
            if left > 0 and not self._outgoing.is_urgent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._signal.wait()
                self._signal.set()
                continue
            if left <= 0:
                paced_at = time.monotonic()
            try:
                await self._send_due(all=left <= 0)
                pause = 0.0
            except (psycopg.Error, OSError) as error:
                pause = min(max(2 * pause, 0.05), 5.0)
                log.warning("notifications to other workers fail: %s", " ".join(str(error).split()))
                await asyncio.sleep(pause)
            if len(self._outgoing):
                self._signal.set()

    async def _send_due(self, *, all: bool) -> None:
        """Raises `psycopg.Error`; what was due is then lost, which the others notice by its numbers."""
        since = self._outgoing.urgent_since
        messages = self._outgoing.take(all=all)
        if self._outgoing.lost:
            self._outgoing.lost = False
            self._sent += 1
        texts = [text for message in messages for text in wire.texts(message)]
        payloads = list(wire.payloads(self._worker, self._sent + 1, texts))
        self._sent += len(payloads)
        if since is not None:
            self._on_the_way[self._sent] = since
            while len(self._on_the_way) > MAX_ON_THE_WAY:
                self._on_the_way.popitem(last=False)
        if payloads:
            await self._notifications.send(payloads)

    async def _renew(self) -> None:
        """Greets the others, which find out by the number whether they have missed something."""
        while True:
            await asyncio.sleep(self._renewal)
            self._tell(wire.Hello())
            self._tell_watched()
            if self._listening.is_set():
                self._peers.forget()
            self._forget_settled()
            self._look_again()

    def _tell_watched(self, *, again: bool = False) -> None:
        watched = list(self._watched)
        for first in range(0, len(watched), WATCHES):
            self._tell(wire.Watch(tuple(watched[first : first + WATCHES]), again))

    def _note_settled(self, session: str) -> None:
        self._settled.pop(session, None)
        self._settled[session] = time.monotonic()
        while len(self._settled) > MAX_SETTLED:
            del self._settled[next(iter(self._settled))]

    def _forget_settled(self) -> None:
        oldest = time.monotonic() - SETTLED_FOR
        self._settled = {session: at for session, at in self._settled.items() if at >= oldest}

    # Receiving

    def _begin_listening(self) -> None:
        again = self._listening.is_set()
        self._listening.set()
        self._on_the_way.clear()
        self._peers.renew()
        self._tell(wire.Hello(new=True))
        if again:
            self._catch_up()
        else:
            self._tell_watched()

    def _catch_up(self) -> None:
        """Notifications were lost."""
        self._local.lag()
        self._tell_watched(again=True)
        self._look_again()

    def _heard(self, payload: str) -> None:
        notification = wire.read(payload)
        if self._closed or notification is None:
            return
        if notification.sender == self._worker:
            self._note_arrival(notification.number)
            return
        heard = self._peers.heard(notification.sender, notification.number)
        if heard == "known":
            return
        if heard == "gap":
            self._catch_up()
        for message in notification.messages:
            try:
                self._act(notification.sender, message)
            except Exception:
                # It affects this message only.
                log.exception("session %s: a message of another worker failed", message.session)

    def _note_arrival(self, number: int) -> None:
        """A notification of this worker, which comes back when the others get it: no clock is compared with that of
        another machine."""
        since = self._on_the_way.pop(number, None)
        if since is not None:
            self._watch(NotificationArrived(time.monotonic() - since))

    def _act(self, sender: str, message: wire.Message) -> None:
        match message:
            case wire.Wake(session, by, anyone):
                if self._dispatcher is not None:
                    self._dispatcher.hear(session, by=by, anyone=anyone)
                if session in self._settled:
                    # Whoever has sent it may have found the turn running that has ended here meanwhile.
                    self._local.wake(session, "queue", by=by)
            case wire.Stop(session, before, reason):
                self._local.stop(session, before=before, reason=reason)
            case wire.Happened(event):
                self._local.relay(event)
            case wire.Untold(session):
                self._local.lag(session)
            case wire.Watch(sessions, again):
                self._note_watches(sender, sessions, again=again)
            case wire.Released():
                self._look_again()
            case wire.Wanted(connector):
                self._asked(connector)
            case wire.Hello(new):
                if new:
                    self._tell(wire.Hello())
                    self._tell_watched()
            case _:
                assert_never(message)

    def _note_watches(self, sender: str, sessions: tuple[str, ...], *, again: bool) -> None:
        for session in sessions:
            is_new = self._peers.note_watch(sender, session)
            if (is_new or again) and self._dispatcher is not None:
                for event in self._dispatcher.unfinished(session):
                    self._tell(wire.Happened(event))
