"""The dispatcher runs turns: one at a time in each session with unread messages, fair across sessions."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.agent import Agent
from agent.events import Event, Logged
from agent.journal import JournalError, TurnLost
from agent.log import ApprovalDecided, Ended, Entry, InputEnded, MessagesRead, UndeliveredPart
from agent.loop.turn import INTERNAL_ERROR, Turn, fail_turn
from agent.transcript import RenderedTurn, conversation
from agent.turn_context import TurnContext
from channels.address import Address
from channels.channel import Sent
from channels.message import MessageState, MessageStatus
from gateway.bus import Bus, MessagesChanged, TurnEnded, TurnParked, TurnProgress, TurnStarted
from gateway.lifecycle.fair_slots import fairest
from gateway.lifecycle.retry import retry_until_stored, until_reached
from gateway.log_context import About, work_is_about
from gateway.observations import Observations
from gateway.outbound.channel_replies import ChannelReplies
from gateway.outbound.delivery import Delivery
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.sessions import conversation_of, is_child, person_key, session_key
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.store.records import Busy, NoRoom
from gateway.store.slots import RESERVED
from gateway.turns.audited_calls import AuditedCalls
from gateway.turns.history_cache import HistoryCache
from gateway.turns.journal import InboxSignal, TurnJournal, TurnStore
from gateway.turns.room import Room
from gateway.turns.worker_changes import WorkerChanges

log = logging.getLogger(__name__)

SIDE_QUESTION_NOTICE = (
    "This is a side question; the conversation goes on without it. Tools are not available: answer it briefly, in "
    "words, from what you see here."
)

SHUTTING_DOWN = "the gateway is shutting down; unfinished work resumes at its next start"

FINAL_DELIVERY_TIMEOUT = 1.0
"""Seconds for delivering the last answers at shutdown; the rest are delivered after the next start."""

NOT_STORED = "my work cannot be stored at the moment; the gateway's log has the reason (is the disk full?)"


class DispatcherStore(TurnStore, Protocol):
    async def release(self, turn_id: str, epoch: int) -> None: ...
    async def claim(self, session: str) -> records.Turn | None: ...
    async def claim_slot(self, session: str, total: int) -> records.Turn | NoRoom | None: ...
    async def pieces(self, reply_id: str) -> tuple[Sent, ...]: ...
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def unfinished(self, session: str) -> records.Turn | None: ...
    async def waiting_busy(self, session: str) -> Busy | None: ...
    async def withdraw_waiting(
        self, session: str, upto: int, reason: str, sender: str | None = None
    ) -> tuple[records.MessageChange, ...]: ...


class Environment(Protocol):
    """What turns are given at their start, and what follows their end."""

    async def prepare(self, record: records.Turn) -> tuple[Agent, TurnContext]: ...

    async def ended(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        """The turn's end is stored."""


@dataclass(slots=True)
class ActiveTurn:
    """A session that has a slot, or waits for one, to claim and run one turn.

    `person` is whose turn it is (`gateway.sessions.person_key`); the session's key while that is not known. `task` is
    None while it waits, and while a reserved turn is about to begin. `recheck_inbox`: the inbox is to be checked after
    this turn. `since` is in monotonic seconds. `needs_no_slot`: it needs no slot. `handed_over`: another worker may go
    on with the turn.
    """

    session: str
    person: str
    signal: InboxSignal = field(default_factory=InboxSignal)
    recheck_inbox: bool = False
    task: asyncio.Task[None] | None = None
    record: records.Turn | None = None
    turn: Turn | None = None
    reply: ReplyBuilder | None = None
    since: float = field(default_factory=time.monotonic)
    stop_before: int = 0
    stop_reason: str = ""
    stop_of: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    needs_no_slot: bool = False
    handed_over: bool = False

    @property
    def is_stopped(self) -> bool:
        """Whether a stop covers this turn."""
        if self.record is None or _first_read(self.record.entries) >= self.stop_before:
            return False
        return self.stop_of is None or self.record.principal.id == self.stop_of


class Dispatcher:
    """Use as `async with`; leaving it gives the running turns `grace` seconds to end, and abandons the others, which
    the next process resumes."""

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
        max_running_total: int | None = None,
        observations: Observations | None = None,
        grace: float = 0.0,
    ) -> None:
        """`max_running` turns run at once here, `max_running_total` on all workers together (None: any number)."""
        self._store = store
        self._bus = bus
        self._delivery = delivery
        self._histories = histories
        self._replies = replies
        self._environment = environment
        self._max_running = max_running
        self._room = Room(max_running_total)
        self._changes = WorkerChanges(observations or Observations())
        self.grace = grace
        self.hands_over = False
        """Whether there are other workers that go on with turns when this one ends."""
        self._active: dict[str, ActiveTurn] = {}
        self._ready: dict[str, ActiveTurn] = {}
        self._checking: dict[str, bool] = {}
        """Sessions whose inbox is being looked at; True: once more."""
        self._closing = False
        self._draining = False
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Dispatcher:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        running = [active.task for active in self._active.values() if active.task is not None]
        if self.hands_over and self.grace:
            self._leave_turns()
        if running and self.grace:
            rest = "go on at other workers" if self.hands_over else "resume at the next start"
            log.info("waiting up to %g s for running turns to end; the others %s", self.grace, rest)
            self._announce_shutdown()
            await asyncio.wait(running, timeout=self.grace)
            await self._delivery.settle(FINAL_DELIVERY_TIMEOUT)
        for task in running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._changes.close()

    def _announce_shutdown(self) -> None:
        """Tells people why their running turns may pause."""
        for active in self._active.values():
            if (
                active.record is not None
                and active.reply is not None
                and not (active.reply.done or active.reply.parked)
            ):
                active.reply.announce(SHUTTING_DOWN)
                self._show(active.record, active.reply)

    def running_turns(self) -> tuple[int, int]:
        """How many turns have a slot, and how many slots there are."""
        return sum(not active.needs_no_slot for active in self._active.values()), self._max_running

    async def drained(self) -> None:
        """Begins no turn any more; returns when none runs."""
        self._draining, self._max_running = True, 0
        self._leave_turns()
        while tasks := self.at_work:
            await asyncio.wait(tasks)

    def _leave_turns(self) -> None:
        """Turns end before their next step, for other workers to go on; those with delegated tasks, which run here, do
        not."""
        parents = {conversation_of(session) for session in self._active if is_child(session)}
        for session, active in self._active.items():
            if active.turn is not None and not active.needs_no_slot and session not in parents:
                active.turn.leave()

    def limit(self, max_running: int, max_running_total: int | None = None) -> None:
        """So many turns run at once from now on, see `__init__`; those that run already go on."""
        if not self._draining:
            self._max_running = max_running
            self._room.limit(max_running_total)
            self._start_ready()

    def look_for_room(self) -> None:
        """A turn may have ended at another worker: what waits because of the limit for all of them may begin."""
        self._room.freed()
        self._start_ready()

    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        """The tasks of the turns that run."""
        return frozenset(active.task for active in self._active.values() if active.task is not None)

    def wake(self, session: str, busy: Busy = "steer", *, by: str = "") -> None:
        """Something is unread: queues the session for a slot, or signals the running turn and checks the inbox after
        it. Decided without awaiting."""
        active = self._active.get(session)
        if active is None:
            self._queue(session, by or session)
            self._start_ready()
            return
        active.recheck_inbox = True
        active.signal.notify(busy)

    def runs(self, session: str) -> bool:
        """Whether the session's turn runs in this process."""
        active = self._active.get(session)
        return active is not None and active.record is not None

    def waits(self, session: str) -> bool:
        """Whether the session waits for a slot here."""
        return session in self._ready

    def hear(self, session: str, *, by: str = "", anyone: bool = False) -> None:
        """Another worker says that something is unread: a turn that runs here looks for it, since it may have been read
        since. `anyone`: otherwise it is claimed here, if there is room."""
        if session in self._active:
            self._check(session)
        elif anyone and self._has_room:
            self.wake(session, "queue", by=by)

    def unfinished(self, session: str) -> Iterator[TurnProgress]:
        """Repeats what was reported of the turns that run here and is not in their logs: of this session, "" for all.
        Delegated tasks are only told by name."""
        for active in self._active.values():
            record, turn, reply = active.record, active.turn, active.reply
            if record is None or turn is None or reply is None or reply.done:
                continue
            if record.session == session or not (session or is_child(record.session)):
                for event in reply.unlogged():
                    yield TurnProgress(record.session, record.address, record.id, event, len(turn.entries))

    def reserve(self, session: str, *, by: str) -> ActiveTurn | None:
        """A slot for the turn that is about to begin with a message of this person; it must be given to `begin`. None
        if the session has a turn, or has to wait for a slot; also where slots are limited for all workers: accepting a
        message does not wait for what others begin."""
        if self._room.total is not None or self.active(session) is not None:
            return None
        self._queue(session, by)
        if self._next() != session:
            del self._ready[session]
            return None
        return self._take_slot(session)

    def begin(self, reserved: ActiveTurn, record: records.Turn | None) -> None:
        """Runs the turn that has begun in the slot; gives the slot back if there is none. Decided without awaiting."""
        if record is None or self._closing:
            self._leave(reserved)
        else:
            reserved.record = record
            reserved.task = self._tasks.create_task(self._serve(reserved, record))

    def begin_side_question(self, record: records.Turn) -> None:
        """Answers a side question, beside the running turn of its session. It needs no slot."""
        active = self._active[record.id] = ActiveTurn(record.id, record.id, needs_no_slot=True, record=record)
        active.task = self._tasks.create_task(self._serve(active, record))

    def running(self) -> tuple[ActiveTurn, ...]:
        return tuple(self._active.values())

    @property
    def waiting(self) -> int:
        """The number of sessions that wait for a slot."""
        return len(self._ready)

    def side_questions(self, session: str) -> int:
        """The number of side questions being answered there."""
        records = [active.record for active in self._active.values() if active.needs_no_slot]
        return sum(each is not None and each.kind == "aside" and each.session == session for each in records)

    def active(self, session: str) -> ActiveTurn | None:
        """The session's turn that runs or waits for a slot."""
        return self._active.get(session) or self._ready.get(session)

    def stop(self, session: str, *, before: int, reason: str, of: str | None = None) -> ActiveTurn | None:
        """Stops the session's turn if it has read messages with an inbox id below `before`; the turn, if there is one.
        `of`: only if the sender with this id began it.

        Takes effect before this returns, or, for a turn that has not started yet, at its start. `ended` is set when
        the turn's end is stored.
        """
        active = self.active(session)
        if active is not None:
            active.stop_before, active.stop_reason, active.stop_of = before, reason, of
            self._stop_if_covered(active)
        return active

    def not_delivered(self, reply: str, part: UndeliveredPart) -> None:
        """The platform did not take a part of the reply: its turn learns that, if it still runs."""
        for active in self._active.values():
            if active.turn is not None and active.record is not None and active.record.id == reply:
                active.turn.not_delivered(part)

    async def withdraw_waiting(self, address: Address, *, before: int, reason: str, sender: str | None = None) -> int:
        """Withdraws the queued messages there with an inbox id below `before`, of everybody or of one sender; their
        number."""
        withdrawn = await self._store.withdraw_waiting(session_key(address), before, reason, sender)
        for changed in withdrawn:
            self._delivery.show_status(
                MessageStatus(address, changed.id, changed.message_id, changed.state, None, changed.reason)
            )
        if withdrawn:
            ids = tuple(changed.id for changed in withdrawn)
            self._bus.publish(MessagesChanged(session_key(address), address, ids, withdrawn[0].state, reason))
        return len(withdrawn)

    def _stop_if_covered(self, active: ActiveTurn) -> None:
        if active.turn is not None and active.is_stopped:
            active.turn.stop(active.stop_reason)

    def _check(self, session: str) -> None:
        if session in self._checking:
            self._checking[session] = True
        elif not self._closing:
            self._checking[session] = True
            self._tasks.create_task(self._check_inbox(session))

    async def _check_inbox(self, session: str) -> None:
        try:
            while self._checking[session]:
                self._checking[session] = False
                busy = await self._store.waiting_busy(session)
                if busy is not None:
                    self.wake(session, busy)
        except StoreError as error:
            log.warning("session %s: its inbox cannot be read; it is looked at again later: %s", session, error)
        finally:
            del self._checking[session]

    @property
    def _has_room(self) -> bool:
        held = sum(not active.needs_no_slot for active in self._active.values())
        return not self._closing and held < self._max_running and self._room.is_open

    def _queue(self, session: str, person: str) -> None:
        self._ready.setdefault(session, ActiveTurn(session, person, needs_no_slot=is_child(session)))

    def _start_ready(self) -> None:
        """Delegated tasks and side questions need no slot: the holder of a slot may be waiting for them."""
        while (session := self._next()) is not None:
            active = self._take_slot(session)
            if not active.needs_no_slot:
                self._room.ask()
            active.task = self._tasks.create_task(self._serve(active))

    def _take_slot(self, session: str) -> ActiveTurn:
        active = self._active[session] = self._ready.pop(session)
        active.since = time.monotonic()
        return active

    def _leave(self, active: ActiveTurn) -> None:
        """Frees the slot of a turn that is over."""
        del self._active[active.session]
        self._room.freed()
        active.ended.set()
        if active.recheck_inbox:
            self._queue(active.session, active.person)
        self._start_ready()

    def _wait_again(self, active: ActiveTurn) -> None:
        """Gives the slot back: other workers run as many turns as all may. The session keeps its place."""
        del self._active[active.session]
        active.task, active.recheck_inbox = None, False
        self._ready = {active.session: active, **self._ready}
        self._start_ready()

    def _next(self) -> str | None:
        """The session to serve next: of the person with the fewest running turns, and there the one that waits
        longest."""
        if self._closing or not self._ready:
            return None
        extra = next((session for session, ready in self._ready.items() if ready.needs_no_slot), None)
        if extra is not None:
            return extra
        held = Counter(active.person for active in self._active.values() if not active.needs_no_slot)
        if held.total() >= self._max_running or not self._room.may_ask:
            return None
        return fairest(
            ((session, ready.person) for session, ready in self._ready.items() if self._room.has_room(ready.person)),
            held,
            self._max_running - self._max_running // RESERVED,
        )

    async def _serve(self, active: ActiveTurn, record: records.Turn | None = None) -> None:
        """Claims a turn, if there is no record yet, and runs it. A failure here affects only this turn."""
        work_is_about(About(session=active.session))
        waits = False
        try:
            if record is None:
                claimed = await self._claim(active)
                waits = isinstance(claimed, str)
                record = None if isinstance(claimed, str) else claimed
            if record is not None:
                await self._run(active, record)
        except TurnLost:
            log.warning("session %s: another process has taken over the turn", active.session)
            self._histories.forget(active.session)
        except Exception:
            log.exception("session %s: internal error while serving it", active.session)
        finally:
            if waits and not self._closing:
                self._wait_again(active)
            else:
                self._leave(active)
            if active.handed_over:
                self._bus.wake(active.session, "queue", by=active.person)
                if self._room.total is not None:
                    # Those who have no room for it do not keep it in mind.
                    self._bus.released()

    async def _claim(self, active: ActiveTurn) -> records.Turn | NoRoom | None:
        total = None if active.needs_no_slot else self._room.total

        async def claim() -> records.Turn | NoRoom | None:
            if total is None:
                return await self._store.claim(active.session)
            return await self._store.claim_slot(active.session, total)

        claimed: records.Turn | NoRoom | None = None
        try:
            claimed = await retry_until_stored(
                claim, f"session {active.session} cannot begin a turn", _pause_until_unread(active)
            )
        finally:
            if not active.needs_no_slot:
                self._room.answered(active.person, claimed if isinstance(claimed, str) else None)
        if not isinstance(claimed, str):
            self._start_ready()
        return claimed

    async def _run(self, active: ActiveTurn, record: records.Turn) -> None:
        """Runs one turn to its stored end, whatever fails on the way."""
        work_is_about(About(record.address.channel, record.session, record.id, record.root or record.id))
        # A parked turn is claimed only when it can go on.
        record = active.record = replace(record, parked=False)
        self._changes.begun(record)
        active.person = person_key(record.address.channel, record.principal.id)
        if record.unread is not None:
            self.wake(active.session, record.unread)
        reply = active.reply = self._replies.of(record)
        self._bus.publish(TurnStarted(record.session, record.address, record.id, _decided(record.entries)))
        self._report_read(record, record.entries)
        try:
            entries = await self._play(active, record, reply)
        except TurnLost:
            raise
        except (JournalError, StoreError) as error:
            log.error("session %s: turn %s cannot be stored: %s", record.session, record.id, error)
            entries = await self._fail(active, record, reply, NOT_STORED)
        except Exception:
            log.exception("session %s: turn %s failed", record.session, record.id)
            entries = await self._fail(active, record, reply, INTERNAL_ERROR)
        ended = entries[-1]
        if active.turn is not None and active.turn.has_left:
            await self._hand_over(record, reply)
            active.handed_over = True
            return
        if not isinstance(ended, Ended):
            reply.park()
            self._show(record, reply)
            self._bus.publish(TurnParked(record.session, record.address, record.id))
            return
        if record.kind == "turn":
            self._histories.add(record.session, record.id, entries)
        self._bus.publish(TurnEnded(record.session, record.address, record.id, ended.outcome, ended.reason))
        await self._environment.ended(record, entries)
        self._show_statuses(record, entries, message_state(ended), ended.reason, after=record.id)

    async def _hand_over(self, record: records.Turn, reply: ReplyBuilder) -> None:
        """Another worker goes on with the turn, in the same message."""
        await self._delivery.hand_over(reply)
        await self._store.release(record.id, record.epoch)
        self._changes.handed_over(record)

    async def _play(self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder) -> tuple[Entry, ...]:
        """Runs the turn; returns its log."""
        if len(record.entries) > 1:
            await until_reached(lambda: self._resume(active, record, reply), f"turn {record.id}")
        if record.stop is not None:
            active.stop_before, active.stop_reason, active.stop_of = sys.maxsize, record.stop, None
        past, agent, turn_context = await until_reached(lambda: self._prepare(record), f"turn {record.id}")
        if record.kind == "aside":
            turn_context = replace(turn_context, text_only_notice=SIDE_QUESTION_NOTICE)

        async def emit(event: Event) -> None:
            self._watch(active, record, reply, event)

        journal = TurnJournal(self._store, record, active.signal, AuditedCalls(record, agent.tools))
        turn = active.turn = Turn(
            agent,
            journal,
            emit,
            id=record.id,
            entries=record.entries,
            past=past,
            turn_context=turn_context,
            is_seen=lambda: self._delivery.is_seen(reply),
        )
        self._stop_if_covered(active)
        await turn.run()
        return turn.entries

    async def _prepare(self, record: records.Turn) -> tuple[Sequence[RenderedTurn], Agent, TurnContext]:
        """The past turns, the agent and its context. Raises `StoreError`."""
        return await self._past(record), *await self._environment.prepare(record)

    async def _past(self, record: records.Turn) -> Sequence[RenderedTurn]:
        """The past turns; for a side question, the running turn too."""
        past = await self._histories.of(record.session, after=record.after)
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

    async def _resume(self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder) -> None:
        """Goes on with the reply of an earlier process; messages sent meanwhile are read first."""
        if is_child(record.session) or self._delivery.is_showing(reply):
            self._show(record, reply)
        else:
            self._delivery.show(reply, pieces=await self._store.pieces(record.id))
        active.signal.notify()
        active.recheck_inbox = True

    def _show(self, record: records.Turn, reply: ReplyBuilder) -> None:
        """Replies of delegated tasks are shown to nobody: their text is the result of a call."""
        if not is_child(record.session):
            self._delivery.show(reply)

    def _watch(self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder, event: Event) -> None:
        entries = 0 if active.turn is None else len(active.turn.entries)
        self._bus.publish(TurnProgress(record.session, record.address, record.id, event, entries))
        if reply.done:
            return
        reply.apply(event)
        if not reply.empty or not isinstance(event, Logged) or reply.done:
            self._show(record, reply)
        if isinstance(event, Logged):
            self._report_read(record, (event.entry,))

    def _report_read(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        """Reports the messages that these entries read."""
        for entry in entries:
            if isinstance(entry, MessagesRead):
                ids = tuple(message.id for message in entry.messages)
                self._bus.publish(MessagesChanged(record.session, record.address, ids, "read"))
            elif isinstance(entry, InputEnded) and entry.message:
                self._bus.publish(MessagesChanged(record.session, record.address, (entry.message,), "answered"))
        self._show_statuses(record, entries, "read")

    async def _fail(
        self, active: ActiveTurn, record: records.Turn, reply: ReplyBuilder, reason: str
    ) -> tuple[Entry, ...]:
        """Shows at once that the turn failed, and stores its end as soon as possible."""
        entries, unlogged = (record.entries, ()) if active.turn is None else (active.turn.entries, active.turn.unlogged)
        if not reply.done:
            shown: tuple[Entry, ...] = (*unlogged, Ended("failed", reason))
            for entry in shown:
                reply.apply(Logged(entry))
            self._show(record, reply)
        journal = TurnJournal(self._store, record, active.signal, AuditedCalls(record, ()))
        return await retry_until_stored(
            lambda: fail_turn(journal, entries, reason, *unlogged),
            f"the end of turn {record.id} cannot be stored",
            _pause_until_unread(active),
        )

    def _show_statuses(
        self,
        record: records.Turn,
        entries: tuple[Entry, ...],
        state: MessageState,
        reason: str = "",
        *,
        after: str = "",
    ) -> None:
        """`after` is the id of the reply after which the state is shown."""
        if is_child(record.session):
            return
        for status in message_statuses(record, entries, state, reason):
            self._delivery.show_status(status, reply=after)


def message_state(ended: Ended | None) -> MessageState:
    """The state of messages that a turn has read, by its end."""
    if ended is None:
        return "read"
    return "answered" if ended.outcome == "completed" else ended.outcome


def message_statuses(
    record: records.Turn, entries: tuple[Entry, ...], state: MessageState, reason: str = ""
) -> Iterator[MessageStatus]:
    """The status of each message that these log entries of the turn read, or that answered a call of it."""
    for entry in entries:
        if isinstance(entry, MessagesRead):
            for message in entry.messages:
                if message.source == "work":
                    continue
                yield MessageStatus(record.address, message.id, message.message_id, state, entry.step, reason)
        elif isinstance(entry, InputEnded) and entry.message:
            yield MessageStatus(record.address, entry.message, entry.message_id, "answered")


def _pause_until_unread(active: ActiveTurn) -> Callable[[float], Awaitable[None]]:
    """A pause that the next message ends: its storing shows that the store writes again."""

    async def pause(seconds: float) -> None:
        active.signal.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await active.signal.unread.wait()

    return pause


def _decided(entries: tuple[Entry, ...]) -> ApprovalDecided | None:
    """The decision for which the turn was parked, if it goes on with that."""
    last = entries[-1]
    return last if isinstance(last, ApprovalDecided) else None


def _first_read(entries: tuple[Entry, ...]) -> int:
    """The inbox id of the first message of the turn."""
    read = next(entry for entry in entries if isinstance(entry, MessagesRead))
    return read.messages[0].id
