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
from agent.loop.turn import BROKE, Turn, fail_turn
from agent.transcript import Past, conversation
from agent.turn_context import TurnContext
from channels.address import Address
from channels.channel import Sent
from channels.message import MessageState, MessageStatus
from gateway.lifecycle.retry import retry_until_stored
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.delivery import Delivery
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import is_child, session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.store.records import Busy
from gateway.turns.history_cache import HistoryCache
from gateway.turns.journal import Signal, TurnJournal, TurnStore

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
    async def stop_waiting(self, session: str, upto: int, reason: str) -> tuple[records.Changed, ...]: ...


@dataclass(slots=True)
class ActiveTurn:
    """A session that has a slot, or waits for one: it claims, and then runs, one turn.

    `task` is None while it waits. `bell` rings for what the running turn is to read, `again` says that what it leaves
    is to be looked at after it. `since` is in monotonic seconds. `is_extra`: it takes nobody's slot.
    """

    session: str
    signal: Signal = field(default_factory=Signal)
    again: bool = False
    task: asyncio.Task[None] | None = None
    record: records.Turn | None = None
    turn: Turn | None = None
    draft: ReplyBuilder | None = None
    since: float = field(default_factory=time.monotonic)
    stop_before: int = 0
    stop_reason: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
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
        delivery: Delivery,
        histories: HistoryCache,
        drafts: ChannelReplies,
        prepare: Callable[[records.Turn], Awaitable[tuple[Agent, TurnContext]]],
        over: Callable[[records.Turn, tuple[Entry, ...]], Awaitable[None]],
        changed: Callable[[], None],
        *,
        most_running: int,
        grace: float = 0.0,
    ) -> None:
        """`furnish` gives each turn its mind and its occasion; `over` is told of each that has ended, `changed` that a
        message was read or set aside, or a turn parked."""
        self._store = store
        self._delivery = delivery
        self._histories = histories
        self._drafts = drafts
        self._prepare = prepare
        self._over = over
        self._changed = changed
        self._most_running = most_running
        self._grace = grace
        self._live: dict[str, ActiveTurn] = {}
        self._ready: dict[str, ActiveTurn] = {}
        self._tasks = asyncio.TaskGroup()
        self.stirred = asyncio.Event()
        """Set whenever a session gets a slot, for whoever looks at what runs."""
        self.parked = asyncio.Event()
        """Set whenever a turn waits for people, for whoever looks at how long."""

    async def __aenter__(self) -> Dispatcher:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._most_running = 0
        running = [live.task for live in self._live.values() if live.task is not None]
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
        for live in self._live.values():
            if live.record is not None and live.draft is not None and not (live.draft.done or live.draft.parked):
                live.draft.announce(STOPPING)
                self._show(live.record, live.draft)

    def wake(self, session: str, busy: Busy = "steer") -> None:
        """Something waits in the inbox: queues for a slot, or looks again after the running turn, and rings it if that
        is steered. Decided without awaiting."""
        live = self._live.get(session)
        if live is None:
            self._queue(session)
            self._start_ready()
            return
        live.again = True
        live.signal.notify(busy)

    def begin_side_question(self, record: records.Turn) -> None:
        """Answers a question on the side, beside whatever runs in its session. It needs no slot."""
        live = self._live[record.id] = ActiveTurn(record.id, is_extra=True, record=record)
        live.task = self._tasks.create_task(self._serve(live, record))

    def running(self) -> tuple[ActiveTurn, ...]:
        return tuple(self._live.values())

    def side_questions(self, session: str) -> int:
        """How many questions on the side are being answered there."""
        records = [live.record for live in self._live.values() if live.is_extra]
        return sum(each is not None and each.kind == "aside" and each.session == session for each in records)

    def live(self, session: str) -> ActiveTurn | None:
        """The session's turn that runs or waits for a slot."""
        return self._live.get(session) or self._ready.get(session)

    def stop(self, session: str, *, before: int, reason: str) -> ActiveTurn | None:
        """Stops the session's turn if it has read messages accepted before inbox id `before`. The live session, if any.

        Takes effect before this returns, or, for a turn that is not begun yet, when it begins. The live's `over` says
        when the turn's end is written.
        """
        live = self.live(session)
        if live is not None:
            live.stop_before, live.stop_reason = before, reason
            self._stop_if_covered(live)
        return live

    async def withdraw_waiting(self, address: Address, *, before: int, reason: str) -> int:
        """Withdraws the messages that wait there and were accepted before inbox id `before`; how many they were."""
        aside = await self._store.stop_waiting(session_key(address), before, reason)
        for changed in aside:
            self._delivery.mark(
                MessageStatus(address, changed.id, changed.message_id, changed.state, None, changed.reason)
            )
        self._changed()
        return len(aside)

    def _stop_if_covered(self, live: ActiveTurn) -> None:
        if live.turn is not None and live.is_stopped:
            live.turn.stop(live.stop_reason)

    def _queue(self, session: str) -> None:
        self._ready.setdefault(session, ActiveTurn(session, is_extra=is_child(session)))

    def _start_ready(self) -> None:
        """Delegated tasks and questions on the side need no slot: somebody who has one may be waiting for them."""
        while (session := self._next()) is not None:
            live = self._live[session] = self._ready.pop(session)
            live.since = time.monotonic()
            live.task = self._tasks.create_task(self._serve(live))
            self.stirred.set()

    def _next(self) -> str | None:
        if self._most_running == 0:
            return None
        if sum(not live.is_extra for live in self._live.values()) < self._most_running:
            return next(iter(self._ready), None)
        return next((session for session, live in self._ready.items() if live.is_extra), None)

    async def _serve(self, live: ActiveTurn, record: records.Turn | None = None) -> None:
        """One claim, where there is no record yet, and one turn. This is the edge at which a broken turn costs itself
        only."""
        try:
            record = record or await self._claim(live)
            if record is not None:
                await self._run(live, record)
        except TurnLost:
            log.warning("session %s: another process has taken the turn over", live.session)
            self._histories.forget(live.session)
        except Exception:
            log.exception("session %s: serving it broke", live.session)
        finally:
            del self._live[live.session]
            live.over.set()
            if live.again:
                self._queue(live.session)
            self._start_ready()

    async def _claim(self, live: ActiveTurn) -> records.Turn | None:
        return await retry_until_stored(
            lambda: self._store.claim(live.session), f"session {live.session} cannot begin a turn", _pause_of(live)
        )

    async def _run(self, live: ActiveTurn, record: records.Turn) -> None:
        """One turn to its recorded end, whatever breaks on the way."""
        # Whatever it waited for is there.
        record = live.record = replace(record, parked=False)
        if record.more is not None:
            self.wake(live.session, record.more)
        draft = live.draft = self._drafts.of(record)
        self._mark(record, record.entries, "read")
        try:
            entries = await self._play(live, record, draft)
        except TurnLost:
            raise
        except (JournalError, StoreError) as error:
            log.error("session %s: turn %s cannot be kept: %s", record.session, record.id, error)
            entries = await self._fail(live, record, draft, NOT_KEPT)
        except Exception:
            log.exception("session %s: turn %s broke", record.session, record.id)
            entries = await self._fail(live, record, draft, BROKE)
        ended = entries[-1]
        if not isinstance(ended, Ended):
            draft.park()
            self._show(record, draft)
            self.parked.set()
            self._changed()
            return
        if record.kind == "turn":
            self._histories.add(record.session, record.id, entries)
        await self._over(record, entries)
        self._mark(record, entries, "answered", ended.reason)

    async def _play(self, live: ActiveTurn, record: records.Turn, draft: ReplyBuilder) -> tuple[Entry, ...]:
        """Runs the turn; returns its log."""
        if len(record.entries) > 1:
            await self._take_up(live, record, draft)
        if record.stop is not None:
            live.stop_before, live.stop_reason = sys.maxsize, record.stop
        past = await self._past(record)
        agent, turn_context = await self._prepare(record)
        if record.kind == "aside":
            turn_context = replace(turn_context, in_words=ON_THE_SIDE)

        async def emit(event: Event) -> None:
            self._watch(record, draft, event)

        journal = TurnJournal(self._store, record, live.signal)
        turn = live.turn = Turn(
            agent,
            journal,
            emit,
            id=record.id,
            entries=record.entries,
            past=past,
            turn_context=turn_context,
        )
        self._stop_if_covered(live)
        await turn.run()
        return turn.entries

    async def _past(self, record: records.Turn) -> Sequence[Past]:
        """What came before; for a question on the side, what runs just now too."""
        past = await self._histories.of(record.session, new=record.first)
        if record.kind != "aside":
            return past
        live = self._live.get(record.session)
        if live is not None and live.turn is not None:
            return (Past("", tuple(conversation(past, live.turn.entries))),)
        unfinished = await self._store.unfinished(record.session)
        if unfinished is None:
            return past
        parked = await self._store.turn(unfinished.id)
        return (Past("", tuple(conversation(past, parked.entries))),)

    async def _take_up(self, live: ActiveTurn, record: records.Turn, draft: ReplyBuilder) -> None:
        """Goes on with the reply where an earlier process left it, after hearing what was said meanwhile."""
        if is_child(record.session) or self._delivery.is_showing(draft):
            self._show(record, draft)
        else:
            self._delivery.show(draft, pieces=await self._store.pieces(record.id))
        live.signal.notify()
        live.again = True

    def _show(self, record: records.Turn, draft: ReplyBuilder) -> None:
        """What a delegated task says is for whoever delegated it."""
        if not is_child(record.session):
            self._delivery.show(draft)

    def _watch(self, record: records.Turn, draft: ReplyBuilder, event: Event) -> None:
        if draft.done:
            return
        draft.apply(event)
        if not draft.empty or not isinstance(event, Logged) or draft.done:
            self._show(record, draft)
        if isinstance(event, Logged) and isinstance(event.entry, MessagesRead):
            self._mark(record, (event.entry,), "read")
            self._changed()

    async def _fail(
        self, live: ActiveTurn, record: records.Turn, draft: ReplyBuilder, reason: str
    ) -> tuple[Entry, ...]:
        """Tells the person at once that the turn cannot go on, and records its end as soon as that is possible."""
        entries, unwritten = (record.entries, ()) if live.turn is None else (live.turn.entries, live.turn.unwritten)
        if not draft.done:
            shown: tuple[Entry, ...] = (*unwritten, Ended("failed", reason))
            for entry in shown:
                draft.apply(Logged(entry))
            self._show(record, draft)
        journal = TurnJournal(self._store, record, live.signal)
        return await retry_until_stored(
            lambda: fail_turn(journal, entries, reason, *unwritten),
            f"the end of turn {record.id} cannot be kept",
            _pause_of(live),
        )

    def _mark(self, record: records.Turn, entries: tuple[Entry, ...], state: MessageState, reason: str = "") -> None:
        if is_child(record.session):
            return
        for mark in marks(record, entries, state, reason):
            self._delivery.mark(mark)


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


def _pause_of(live: ActiveTurn) -> Callable[[float], Awaitable[None]]:
    """A pause that the next message ends: that it was kept shows that the store writes again."""

    async def pause(seconds: float) -> None:
        live.signal.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await live.signal.news.wait()

    return pause


def _first_heard(entries: tuple[Entry, ...]) -> int:
    heard = next(entry for entry in entries if isinstance(entry, MessagesRead))
    return heard.messages[0].id
