"""The bus protocol: delivers messages, wakes and stops sessions, publishes events."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from channels.message import InboundMessage, Receipt
from gateway.bus.events import BusEvent
from gateway.store.records import Busy


class BusClosed(Exception):
    """The bus closed while a subscriber waited."""


class MessageReceiver(Protocol):
    async def deliver(self, message: InboundMessage) -> Receipt | None: ...


class TurnDispatcher(Protocol):
    """Its methods act before they return."""

    def wake(self, session: str, busy: Busy, *, by: str = "") -> None: ...
    def stop(self, session: str, *, before: int, reason: str) -> object: ...

    def runs(self, session: str) -> bool:
        """Whether the session's turn runs in this process."""

    def waits(self, session: str) -> bool:
        """Whether the session waits for a slot here."""

    def hear(self, session: str, *, by: str, anyone: bool) -> None:
        """Another worker says that something is unread: its own turn there looks for it; `anyone`: if nothing of the
        session is here, and there is room, it is claimed."""

    def unfinished(self, session: str) -> Iterable[BusEvent]:
        """Events that repeat what has been reported, and is not in the log yet, of turns that run here: of this
        session, "" for all."""


class Subscription(Protocol):
    """The events published since it was opened: those of a session in the order of their publication, each at least
    once. Cancelling a read loses no event."""

    def __aiter__(self) -> Subscription: ...

    async def __anext__(self) -> BusEvent:
        """The next event. The iteration ends when the bus has closed and all events are read."""

    async def changed(self) -> None:
        """Waits for an event and drops all unread ones: for a subscriber that then reads the store. Raises
        `BusClosed`."""


class Bus(Protocol):
    """Use as `async with`. Closing ends all subscriptions, refuses messages and ignores wakes, stops and events."""

    async def __aenter__(self) -> Bus: ...
    async def __aexit__(self, *exc: object) -> None: ...

    def attach(self, receiver: MessageReceiver, dispatcher: TurnDispatcher) -> None:
        """Registers this process's receiver and dispatcher, once. Wakes and stops from before are not kept: a
        dispatcher that starts reads the store first."""

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        """Hands the message to this process's receiver; see `channels.message.Deliver`. Raises `NotStored`, also while
        no receiver is attached."""

    def wake(self, session: str, busy: Busy = "steer", *, by: str = "") -> None:
        """Says that something was committed that a turn of the session may read; call it after the commit. `busy` is
        what it does to a running turn, `by` the person (`gateway.sessions.person_key`) whose message it is, if known.

        Never waits, never raises. Arrives at least once; several may become one, with the strongest `busy`.
        """

    def stop(self, session: str, *, before: int, reason: str) -> None:
        """Stops the session's turn if it has read messages with an inbox id below `before`. Never waits, never raises;
        arrives at least once, and before any later wake of the session."""

    def released(self) -> None:
        """Says that this worker has given up something that others may take, or changed what they keep in memory: they
        look at the store. Never waits, never raises; it may be lost."""

    def publish(self, event: BusEvent) -> None:
        """Never waits, never raises, and costs nothing without subscribers."""

    def recall(self, session: str) -> None:
        """Asks for what other workers have reported of turns of this session and what is not in the log yet: it is told
        again, after a `Withdrawn`. For a subscriber that begins in the middle of an answer. Never waits, never raises.
        """

    def subscribe(
        self, session: str | None = None, *kinds: type[BusEvent], own_only: bool = False
    ) -> AbstractAsyncContextManager[Subscription]:
        """Events of these kinds (all, if none is named) of this session (None: of all), from the moment the context
        is entered. `own_only`: without what happens in other workers, for those who tell it on: each event is then
        told by one of them.

        `TurnProgress` of another worker arrives from the moment that it knows of the subscription, at most ten times a
        second and session, and first what `recall` asks for.

        Bounded: a subscriber that does not keep up loses the oldest unread events and reads one `Lagged` in their
        place. Subscribers affect neither the publisher nor each other.
        """
