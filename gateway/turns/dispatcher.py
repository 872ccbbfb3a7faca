"""Dispatch: gives each session with unread messages its turn, one at a time per session, fair across sessions."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.agent import Agent
from agent.events import Event, Logged
from agent.journal import JournalError, TurnLost
from agent.log import Ended, Entry, MessagesRead
from agent.loop.turn import INTERNAL_ERROR, Turn, fail_turn
from agent.transcript import RenderedTurn, conversation
from agent.turn_context import TurnContext
from channels.address import Address
from channels.channel import Sent
from channels.message import MessageState, MessageStatus
from gateway.bus import Bus, MessagesChanged, TurnEnded, TurnParked, TurnProgress, TurnStarted
from gateway.lifecycle.retry import retry_until_stored
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.delivery import Delivery
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import is_child, session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.store.records import Busy
from gateway.turns.history_cache import HistoryCache
from gateway.turns.journal import InboxSignal, TurnJournal, TurnStore

log = logging.getLogger(__name__)

ON_THE_SIDE = (
    "This is a question on the side, while the conversation goes on without it. Tools are not available: answer it "
    "briefly, in words, from what you see here."
)

STOPPING = "the gateway is being stopped; what is not done soon goes on at its next start"

LAST_WORDS = 1.0
"""Seconds that answers given at the very end have to reach people; else they do after the next start."""

NOT_KEPT = "what I do cannot be kept just now; whoever runs this gateway finds in its log why (is the disk full?)"


class DispatcherStore(TurnStore, Protocol):
    async def claim(self, session: str) -> records.Turn | None: ...
    async def pieces(self, reply_id: str) -> tuple[Sent, ...]: ...
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def unfinished(self, session: str) -> records.Turn | None: ...
    async def withdraw_waiting(self, session: str, upto: int, reason: str) -> tuple[records.MessageChange, ...]: ...


class Environment(Protocol):
    """What turns are given at their start, and what follows their end."""

    async def prepare(self, record: records.Turn) -> tuple[Agent, TurnContext]: ...

    async def ended(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        """The turn's end is stored."""


@dataclass(slots=True)
class ActiveTurn:
    """A session that has a slot, or waits for one: it claims, and then runs, one turn.

    `task` is None while it waits. `bell` rings for what the running turn is to read, `again` says that what it leaves
    is to be looked at after it. `since` is in monotonic seconds. `is_extra`: it takes nobody's slot.
    """

    session: str
    signal: InboxSignal = field(default_factory=InboxSignal)
    again: bool = False
    task: asyncio.Task[None] | None = None
    record: records.Turn | None = None
    turn: Turn | None = None
    reply: ReplyBuilder | None = None
    since: float = field(default_factory=time.monotonic)
    stop_before: int = 0
    stop_reason: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_extra: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether somebody meant this turn to stop."""
        return self.record is not None and _first_heard(self.record.entries) < self.stop_before


class Dispatcher:
    """Use as `async with`; leaving it gives the running turns `grace` seconds to end, and abandons those that do not,
    to be resumed by the next process."""

    def __init__(
        self,
        store: DispatcherStore,
        bus: Bus,
        delivery: Delivery,
        histories: HistoryCache,
        replies: ChannelReplies,
        environment: Environment,
        *,
        max_running: int,
        grace: float = 0.0,
    ) -> None:
        self._store = store
        self._bus = bus
        self._delivery = delivery
        self._histories = histories
        self._replies = replies
        self._environment = environment
        self._max_running = max_running
        self._grace = grace
        self._active: dict[str, ActiveTurn] = {}
        self._ready: dict[str, ActiveTurn] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Dispatcher:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._max_running = 0
        running = [active.task for active in self._active.values() if active.task is not None]
        if running and self._grace:
            log.info(
                "running tasks get up to %g s to end; what has not ended by then is gone on with later", self._grace
            )
            self._announce_the_end()
            await asyncio.wait(running, timeout=self._grace)
            await self._delivery.settle(LAST_WORDS)
        for task in running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def _announce_the_end(self) -> None:
        """Tells people why what runs may stand still soon."""
        for active in self._active.values():
            if (
                active.record is not None
                and active.reply is not None
                and not (active.reply.done or active.reply.parked)
            ):
                active.reply.announce(STOPPING)
                self._show(active.record, active.reply)

    def wake(self, session: str, busy: Busy = "steer") -> None:
        """Something waits in the inbox: queues for a slot, or looks again after the running turn, and rings it if that
        is steered. Decided without awaiting."""
        active = self._active.get(session)
        if active is None:
            self._queue(session)
            self._start_ready()
            return
        active.again = True
        active.signal.notify(busy)

    def begin_side_question(self, record: records.Turn) -> None:
        """Answers a question on the side, beside whatever runs in its session. It needs no slot."""
        active = self._active[record.id] = ActiveTurn(record.id, is_extra=True, record=record)
        active.task = self._tasks.create_task(self._serve(active, record))

    def running(self) -> tuple[ActiveTurn, ...]:
        return tuple(self._active.values())

    def side_questions(self, session: str) -> int:
        """How many questions on the side are being answered there."""
        records = [active.record for active in self._active.values() if active.is_extra]
        return sum(each is not None and each.kind == "aside" and each.session == session for each in records)

    def active(self, session: str) -> ActiveTurn | None:
        """The session's turn that runs or waits for a slot."""
        return self._active.get(session) or self._ready.get(session)

    def stop(self, session: str, *, before: int, reason: str) -> ActiveTurn | None:
        """Stops the session's turn if it has read messages with an inbox id below `before`; the turn, if there is one.

        Takes effect before this returns, or, for a turn that has not started yet, at its start. `ended` is set when
        the turn's end is stored.
        """
        active = self.active(session)
        if active is not None:
            active.stop_before, active.stop_reason = before, reason
            self._stop_if_covered(active)
        return active

    async def withdraw_waiting(self, address: Address, *, before: int, reason: str) -> int:
        """Withdraws the messages that wait there and were accepted before inbox id `before`; how many they were."""
        aside = await self._store.withdraw_waiting(session_key(address), before, reason)
        for changed in aside:
            self._delivery.show_status(
                MessageStatus(address, changed.id, changed.message_id, changed.state, None, changed.reason)
            )
        if aside:
            ids = tuple(changed.id for changed in aside)
            self._bus.publish(MessagesChanged(session_key(address), address, ids, aside[0].state, reason))
        return len(aside)

    def _stop_if_covered(self, active: ActiveTurn) -> None:
        if active.turn is not None and active.is_stopped:
            active.turn.stop(active.stop_reason)

    def _queue(self, session: str) -> None:
        self._ready.setdefault(session, ActiveTurn(session, is_extra=is_child(session)))

    def _start_ready(self) -> None:
        """Delegated tasks and questions on the side need no slot: somebody who has one may be waiting for them."""
        while (session := self._next()) is not None:
            active = self._active[session] = self._ready.pop(session)
            active.since = time.monotonic()
            active.task = self._tasks.create_task(self._serve(active))

    def _next(self) -> str | None:
        if self._max_running == 0:
            return None
        if sum(not active.is_extra for active in self._active.values()) < self._max_running:
            return next(iter(self._ready), None)
        return next((session for session, active in self._ready.items() if active.is_extra), None)

    async def _serve(self, active: ActiveTurn, record: records.Turn | None = None) -> None:
        """One claim, where there is no record yet, and one turn. This is the edge at which a broken turn costs itself
        only."""
        try:
            record = record or await self._claim(active)
            if record is not None:
                await self._run(active, record)
        except TurnLost:
            log.warning("session %s: another process has taken the turn over", active.session)
            self._histories.forget(active.session)
        except Exception:
            log.exception("session %s: serving it broke", active.session)
        finally:
            del self._active[active.session]
            active.ended.set()
            if active.again:
                self._queue(active.session)
            self._start_ready()

    async def _claim(self, active: ActiveTurn) -> records.Turn | None:
        return await retry_until_stored(
            lambda: self._store.claim(active.session),
            f"session {active.session} cannot begin a turn",
            _pause_of(active),
        )

    async def _run(self, active: ActiveTurn, record: records.Turn) -> None:
        """One turn to its recorded end, whatever breaks on the way."""
        # Whatever it waited for is there.
        record = active.record = replace(record, parked=False)
        if record.unread is not None:
            self.wake(active.session, record.unread)
        reply = active.reply = self._replies.of(record)
        self._bus.publish(TurnStarted(record.session, record.address, record.id))
        self._tell_of_read(record, record.entries)
        try:
            entries = await self._play(active, record, reply)
        except TurnLost:
            raise
        except (JournalError, StoreError) as error:
            log.error("session %s: turn %s cannot be kept: %s", record.session, record.id, error)
            entries = await self._fail(active, record, reply, NOT_KEPT)
        except Exception:
            log.exception("session %s: turn %s broke", record.session, record.id)
            entries = await self._fail(active, record, reply, INTERNAL_ERROR)
        ended = entries[-1]
        if not isinstance(ended, Ended):
            reply.park()
            self._show(record, reply)
            self._bus.publish(TurnParked(record.session, record.address, record.id))
            return
        if record.kind == "turn":
            self._histories.add(record.session, record.id, entries)
        self._bus.publish(TurnEnded(record.session, record.address, record.id, ended.outcome, ended.reason))
        await self._environment.ended(record, entries)
        self._mark(record, entries, "answered", ended.reason)

    async def _play(self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder) -> tuple[Entry, ...]:
        """Runs the turn; returns its log."""
        if len(record.entries) > 1:
            await self._take_up(active, record, reply)
        if record.stop is not None:
            active.stop_before, active.stop_reason = sys.maxsize, record.stop
        past = await self._past(record)
        agent, turn_context = await self._environment.prepare(record)
        if record.kind == "aside":
            turn_context = replace(turn_context, text_only_notice=ON_THE_SIDE)

        async def emit(event: Event) -> None:
            self._watch(record, reply, event)

        journal = TurnJournal(self._store, record, active.signal)
        turn = active.turn = Turn(
            agent,
            journal,
            emit,
            id=record.id,
            entries=record.entries,
            past=past,
            turn_context=turn_context,
        )
        self._stop_if_covered(active)
        await turn.run()
        return turn.entries

    async def _past(self, record: records.Turn) -> Sequence[RenderedTurn]:
        """What came before; for a question on the side, what runs just now too."""
        past = await self._histories.of(record.session, new=record.first)
        if record.kind != "aside":
            return past
        active = self._active.get(record.session)
        if active is not None and active.turn is not None:
            return (RenderedTurn("", tuple(conversation(past, active.turn.entries))),)
        unfinished = await self._store.unfinished(record.session)
        if unfinished is None:
            return past
        parked = await self._store.turn(unfinished.id)
        return (RenderedTurn("", tuple(conversation(past, parked.entries))),)

    async def _take_up(self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder) -> None:
        """Goes on with the reply where an earlier process left it, after hearing what was said meanwhile."""
        if is_child(record.session) or self._delivery.is_showing(reply):
            self._show(record, reply)
        else:
            self._delivery.show(reply, pieces=await self._store.pieces(record.id))
        active.signal.notify()
        active.again = True

    def _show(self, record: records.Turn, reply: ReplyBuilder) -> None:
        """What a delegated task says is for whoever delegated it."""
        if not is_child(record.session):
            self._delivery.show(reply)

    def _watch(self, record: records.Turn, reply: ReplyBuilder, event: Event) -> None:
        self._bus.publish(TurnProgress(record.session, record.address, record.id, event))
        if reply.done:
            return
        reply.apply(event)
        if not reply.empty or not isinstance(event, Logged) or reply.done:
            self._show(record, reply)
        if isinstance(event, Logged):
            self._tell_of_read(record, (event.entry,))

    def _tell_of_read(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        """Tells which messages these entries read."""
        for entry in entries:
            if isinstance(entry, MessagesRead):
                ids = tuple(message.id for message in entry.messages)
                self._bus.publish(MessagesChanged(record.session, record.address, ids, "read"))
        self._mark(record, entries, "read")

    async def _fail(
        self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder, reason: str
    ) -> tuple[Entry, ...]:
        """Tells the person at once that the turn cannot go on, and records its end as soon as that is possible."""
        entries, unlogged = (record.entries, ()) if active.turn is None else (active.turn.entries, active.turn.unlogged)
        if not reply.done:
            shown: tuple[Entry, ...] = (*unlogged, Ended("failed", reason))
            for entry in shown:
                reply.apply(Logged(entry))
            self._show(record, reply)
        journal = TurnJournal(self._store, record, active.signal)
        return await retry_until_stored(
            lambda: fail_turn(journal, entries, reason, *unlogged),
            f"the end of turn {record.id} cannot be kept",
            _pause_of(active),
        )

    def _mark(self, record: records.Turn, entries: tuple[Entry, ...], state: MessageState, reason: str = "") -> None:
        if is_child(record.session):
            return
        for mark in marks(record, entries, state, reason):
            self._delivery.show_status(mark)


def marks(
    record: records.Turn, entries: tuple[Entry, ...], state: MessageState, reason: str = ""
) -> Iterator[MessageStatus]:
    """The state of each message that was heard in these entries of the turn's log."""
    for entry in entries:
        if isinstance(entry, MessagesRead):
            for said in entry.messages:
                if said.source == "work":
                    continue
                yield MessageStatus(record.address, said.id, said.message_id, state, entry.step, reason)


def _pause_of(active: ActiveTurn) -> Callable[[float], Awaitable[None]]:
    """A pause that the next message ends: that it was kept shows that the store writes again."""

    async def pause(seconds: float) -> None:
        active.signal.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await active.signal.unread.wait()

    return pause


def _first_heard(entries: tuple[Entry, ...]) -> int:
    heard = next(entry for entry in entries if isinstance(entry, MessagesRead))
    return heard.messages[0].id
