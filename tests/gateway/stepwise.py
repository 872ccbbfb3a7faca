"""A gateway without an event loop, on a real store: dispatcher, turns, commands and background work as steps that a
test orders at will.

Each step is at most one transaction and what the gateway does in the same breath. What runs is a generator that stops
before every transaction and is sent a number, by which it chooses what the model or a tool does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from agent.background import BackgroundError, DelegatedTask
from agent.decisions.approvals import (
    APPROVAL_OPTIONS,
    DROPPED,
    allowed_tools,
    decision_on,
    denial,
    limit_approval,
    open_decision,
    refused_limit,
)
from agent.decisions.external_tools import endings_without_result, pending
from agent.decisions.questions import ANSWERED
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Notice,
    Spent,
    Text,
    TurnOutcome,
    Usage,
)
from agent.log_state import (
    calls_of,
    deadline,
    endings,
    is_answered,
    is_finishing_up,
    restarts_in_a_row,
    step_of,
    unresolved,
    waits_for_people,
)
from agent.loop.turn import MAX_RESTARTS
from channels.message import InboundMessage
from gateway.sessions import is_child, session_key
from gateway.store import (
    adoption,
    arrivals,
    background,
    background_rows,
    command_turns,
    deadlines,
    decisions,
    external_results,
    fetching,
    finish_up,
    inbox,
    questions,
    sessions,
    turns,
    undo,
)
from gateway.store.records import AcceptOptions, Arrival, BackgroundResult, BackgroundRow, Busy, Command, Finished, Turn

P = ParamSpec("P")
T = TypeVar("T")

Steps = Generator[None, int, T]

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUESTION = '{"question": "Which?", "options": ["this", "that"]}'
GOES_ON = "It goes on."
REPEATABLE = ("look", "delegate")
LIMITS = background.Limits(depth=2, running=3)

ANSWERS = (
    *("words", "delegate", "look", "danger", "ask_user", "slow", "delegate"),
    *("two", "note", "danger", "summary", "limit", "outside", "failed"),
)
"""The model's possible answers; the first one lets everything come to an end."""


class Stopped(Exception):
    """The turn was stopped."""


@dataclass(slots=True, eq=False)
class _Task:
    steps: Steps[None]
    has_begun: bool = False


@dataclass(slots=True, eq=False)
class ActiveTurn:
    """A session that claims and runs one turn."""

    session: str
    record: Turn | None = None
    entries: list[Entry] = field(default_factory=list)
    has_unread: bool = False
    interrupts: bool = False
    again: bool = False
    in_loop: bool = False
    parked: bool = False
    ended: bool = False
    stop_before: int = 0
    stop_reason: str = ""
    stopping: str | None = None

    def notify(self, *, gently: bool = False) -> None:
        self.has_unread = True
        self.interrupts = self.interrupts or not gently

    def stop_if_covered(self) -> None:
        if self.in_loop and self.is_stopped and self.stopping is None:
            self.stopping = self.stop_reason

    @property
    def turn(self) -> Turn:
        assert self.record is not None
        return self.record

    @property
    def is_stopped(self) -> bool:
        return self.record is not None and first_read(self.record.entries) < self.stop_before


@dataclass(slots=True)
class _Answer:
    """The answer that a delegating turn waits for."""

    given: bool = False
    result: BackgroundResult | None = None


def _rows(record: Turn) -> list[int]:
    """The rows that the new turn has read."""
    reads = (entry for entry in record.entries if isinstance(entry, MessagesRead))
    return [message.id for read in reads for message in read.messages]


def first_read(entries: Sequence[Entry]) -> int:
    read = next(entry for entry in entries if isinstance(entry, MessagesRead))
    return read.messages[0].id


class Gateway:
    """One process. Dropping it is a crash: only the store remains."""

    def __init__(self, connection: Connection, worker: str, numbers: count[int], asked: list[str]) -> None:
        """`numbers` and `asked` (keys of all questions, the newest last) outlive the process."""
        self._connection = connection
        self._worker = worker
        self._numbers = numbers
        self._asked = asked
        self._answers: dict[str, _Answer] = {}
        self._waiting: set[str] = set()
        self._closing = False
        self.active: dict[str, ActiveTurn] = {}
        self.tasks: list[_Task] = []
        self.served: list[_Task] = []
        self.stops_answered: list[tuple[str, int]] = []
        self.completed: list[str] = []
        self._resume()

    def do(self, job: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction."""
        return job(self._connection, *args, **kwargs)

    # The driver

    def step(self, number: int, choice: int) -> None:
        """One step of one of the running or waiting tasks; they begin in the order in which they were spawned."""
        running = [*self.served, *self.tasks]
        if not running:
            return
        task = running[number % len(running)]
        if task in self.tasks and not task.has_begun:
            task = next(task for task in self.tasks if not task.has_begun)
        task.has_begun = True
        try:
            task.steps.send(choice)
        except StopIteration:
            (self.served if task in self.served else self.tasks).remove(task)

    @property
    def is_quiet(self) -> bool:
        return not self.served and not self.tasks

    def shut_down(self, choices: Sequence[int]) -> None:
        """No new turns; the running ones may take this many more steps."""
        self._closing = True
        self.tasks.clear()
        for choice in choices:
            self.step(choice, choice)

    def accept(self, message: InboundMessage, options: AcceptOptions) -> Arrival:
        session = session_key(message.address)
        record = None
        if message.kind == "new" and session not in self.active and not self._closing:
            arrival, record = self.do(arrivals.accept_and_begin, self._worker, message, session, None, options)
        else:
            arrival = self.do(arrivals.accept, self._worker, message, session, None, options)
        assert arrival is not None
        if record is not None:
            self._serve(ActiveTurn(session), record)
        if arrival.duplicate or (record is not None and arrival.id in _rows(record)):
            return arrival
        if arrival.stop_reason:
            self.stop(session, before=arrival.id, reason=arrival.stop_reason)
            self.wake(session, "interrupt")
        if arrival.command:
            self._spawn(self._command(arrival.id, session, message.command or "", message.text))
        elif arrival.to_fetch is not None:
            self._arrived(arrival)
            self._spawn(self._fetch(arrival.to_fetch, session))
        elif arrival.wakes is not None:
            self.wake(session, arrival.wakes)
        elif arrival.decided:
            self.wake(session, "queue")
        return arrival

    def expire(self, now: datetime) -> None:
        for session in self.do(deadlines.expire, now):
            self.wake(session, "queue")

    # The dispatcher

    def wake(self, session: str, busy: Busy = "steer") -> None:
        active = self.active.get(session)
        if active is None:
            if not self._closing:
                self._serve(ActiveTurn(session))
            return
        active.again = True
        if busy in ("steer", "wrap"):
            active.notify(gently=busy == "wrap")

    def stop(self, session: str, *, before: int, reason: str) -> ActiveTurn | None:
        active = self.active.get(session)
        if active is not None:
            active.stop_before, active.stop_reason = before, reason
            active.stop_if_covered()
        return active

    def _serve(self, active: ActiveTurn, record: Turn | None = None) -> None:
        self.active[active.session] = active
        self.served.append(_Task(_primed(self._serving(active, record))))

    def _spawn(self, steps: Steps[None]) -> None:
        self.tasks.append(_Task(_primed(steps)))

    def _serving(self, active: ActiveTurn, record: Turn | None) -> Steps[None]:
        yield
        record = record or self.do(turns.claim, self._worker, active.session)
        if record is not None:
            yield from self._run(active, record)
        del self.active[active.session]
        active.ended = True
        if active.again:
            self.wake(active.session)

    def _run(self, active: ActiveTurn, record: Turn) -> Steps[None]:
        active.record, active.entries = replace(record, parked=False), list(record.entries)
        if record.unread is not None:
            self.wake(active.session, record.unread)
        if len(record.entries) > 1:
            active.notify()
            active.again = True
        if record.stop is not None:
            active.stop_before, active.stop_reason = sys.maxsize, record.stop
        yield
        active.in_loop = True
        active.stop_if_covered()
        try:
            yield from self._run_turn(active)
        except Stopped:
            yield from self._end(active, "stopped", active.stopping or "")
        if not active.parked:
            yield from self._after_end(record)

    # The turn loop

    def _run_turn(self, active: ActiveTurn) -> Steps[None]:
        if restarts_in_a_row(active.entries) >= MAX_RESTARTS:
            return (yield from self._end(active, "failed", "too many restarts"))
        if waits_for_people(active.entries):
            yield from self._park(active)
        else:
            yield from self._finish_step(active)
        while not self._has_ended(active):
            yield from self._take_step(active)

    def _has_ended(self, active: ActiveTurn) -> bool:
        return active.parked or isinstance(active.entries[-1], Ended)

    def _take_step(self, active: ActiveTurn) -> Steps[None]:
        yield from self._read_inbox(active)
        if is_answered(active.entries):
            yield from self._close(active, Ended("completed"))
        elif (reason := refused_limit(active.entries)) is not None:
            yield from self._end(active, "stopped", reason)
        else:
            yield from self._ask(active)

    def _read_inbox(self, active: ActiveTurn) -> Steps[bool]:
        if not active.has_unread:
            return False
        yield from _checkpoint(active)
        read = self.do(turns.read_inbox, active.turn.id, active.turn.epoch, step_of(active.entries))
        active.has_unread = active.interrupts = False
        if read is not None:
            active.entries.append(read)
        return read is not None

    def _ask(self, active: ActiveTurn) -> Steps[None]:
        """The model's answer and its calls."""
        choice = yield from _checkpoint(active)
        step = step_of(active.entries)
        if active.has_unread:
            # What came before the answer was there.
            self._write(active, Spent(step, Usage(1, 1), "m", "interrupted"), ModelAnswered(step, (), interrupted=True))
            return
        can_act = active.turn.kind == "turn" and not is_finishing_up(active.entries)
        kind = ANSWERS[choice % len(ANSWERS)] if can_act else "words"
        if is_child(active.session) and kind in ("danger", "ask_user", "limit", "outside"):
            kind = "look"
        match kind:
            case "words":
                yield from self._close(active, Ended("completed"), ModelAnswered(step, (Text("So."),), Usage(5, 5)))
            case "failed":
                yield from self._end(active, "failed", "the model is down")
            case "summary":
                self._write(active, Compacted(step, "", "It was said that."))
            case "limit":
                asked = limit_approval(f"l{next(self._numbers)}", "The limit is reached.", _until(choice).timestamp())
                self._asked.append(f"{decisions.KEY}{asked.id}")
                self._write(active, asked)
                yield from self._park(active)
            case "two":
                yield from self._act(active, "look", "note", "look")
            case "outside":
                yield from self._act(active, "outside", "outside")
            case "slow" | "delegate" | "ask_user":
                yield from self._act(active, kind, "look")
            case name:
                yield from self._act(active, name)

    def _act(self, active: ActiveTurn, *names: str) -> Steps[None]:
        calls = tuple(self._call(name) for name in names)
        self._write(active, ModelAnswered(step_of(active.entries), calls, Usage(5, 5)))
        yield from self._run_calls(active, calls)

    def _call(self, name: str) -> Call:
        return Call(f"c{next(self._numbers)}", name, QUESTION if name == "ask_user" else "{}")

    def _run_calls(self, active: ActiveTurn, calls: Sequence[Call]) -> Steps[None]:
        for call in calls:
            choice = yield from _checkpoint(active)
            if active.has_unread:
                self._write(active, CallEnded(call.id, "skipped", "A message came."))
                continue
            if call.name == "outside":
                until = _until(choice).timestamp()
                self._write(active, *(CallStarted(each.id, until, "{}") for each in calls))
                return (yield from self._park(active))
            if call.name == "ask_user":
                self._asked.append(f"{questions.KEY}{call.id}")
                self._write(active, CallStarted(call.id))
                return (yield from self._park(active))
            if call.name == "danger" and (yield from self._needs_decision(active, call, choice)):
                return (yield from self._park(active))
            if call.id not in {entry.call_id for entry in active.entries if isinstance(entry, CallEnded)}:
                self._write(active, CallStarted(call.id))
                self._write(active, (yield from self._result(active, call)))

    def _needs_decision(self, active: ActiveTurn, call: Call, choice: int) -> Steps[bool]:
        """Whether the call needs approval. A denied call gets its result."""
        settled = decision_on(call.id, active.entries)
        allowed = active.turn.allowed | allowed_tools(active.entries, calls_of(active.entries))
        if settled is None and call.name not in allowed:
            until = _until(choice).timestamp()
            self._asked.append(f"{decisions.KEY}{call.id}")
            self._write(active, ApprovalRequested(call.id, "call", "May I?", APPROVAL_OPTIONS, until, call.arguments))
            return True
        if settled is not None and settled[1].decision not in ("allowed", "allowed_always"):
            self._write(active, denial(call, settled[1]))
        else:
            yield from _checkpoint(active)
        return False

    def _result(self, active: ActiveTurn, call: Call) -> Steps[CallEnded]:
        if call.name == "delegate":
            return (yield from self._delegate(active, call))
        choice = yield from _checkpoint(active)
        if active.interrupts and call.name == "look":
            return CallEnded(call.id, "cancelled", "A message came.")
        if call.name == "slow" and (active.interrupts or choice % 2) and not self._closing:
            try:
                row = self.do(background.begin_call, active.turn, "slow", LIMITS)
            except BackgroundError as error:
                return CallEnded(call.id, "failed", str(error))
            self._spawn(self._follow(row))
            return CallEnded(call.id, "done", GOES_ON)
        return CallEnded(call.id, "failed" if choice % 5 == 4 else "done", "Done.")

    def _finish_step(self, active: ActiveTurn) -> Steps[None]:
        left = unresolved(active.entries)
        if any(started and call.name not in REPEATABLE for call, started in left):
            yield from self._append(active, *endings(active.entries, "unknown", "A crash."))
        elif left and (yield from self._read_inbox(active)):
            yield from self._append(active, *endings(active.entries, "cancelled", "A message came."))
        elif left:
            yield from self._run_calls(active, [call for call, _ in left])

    def _park(self, active: ActiveTurn) -> Steps[None]:
        yield from _checkpoint(active)
        expires = deadline(active.entries)
        until = None if expires is None else datetime.fromtimestamp(expires, UTC)
        parked = self.do(turns.park, active.turn.id, active.turn.epoch, until)
        if isinstance(parked, ApprovalDecided):
            active.entries.append(parked)
            yield from self._finish_step(active)
            return
        if parked:
            # A stop may come before it is let go of.
            yield from _checkpoint(active)
            active.parked = True
            return
        active.notify()
        asked = open_decision(active.entries)
        if asked is None:
            ends = endings_without_result(active.entries) or endings(active.entries, "done", ANSWERED)
            yield from self._append(active, *ends)
        else:
            dropped = [CallEnded(call.id, "skipped", DROPPED) for call, _ in unresolved(active.entries)]
            yield from self._append(active, ApprovalDecided(asked.id, "dropped"), *dropped)

    def _append(self, active: ActiveTurn, *entries: Entry) -> Steps[None]:
        if entries:
            yield from _checkpoint(active)
            self._write(active, *entries)

    def _write(self, active: ActiveTurn, *entries: Entry) -> None:
        self.do(turns.append, active.turn.id, active.turn.epoch, entries)
        active.entries.extend(entries)

    def _close(self, active: ActiveTurn, ended: Ended, *entries: Entry) -> Steps[None]:
        yield from _checkpoint(active)
        closed = self.do(turns.close, active.turn.id, active.turn.epoch, ended, entries)
        active.entries.extend((*entries, ended) if closed else entries)
        if not closed:
            active.notify()
        elif active.turn.kind == "turn":
            self.completed.append(active.session)

    def _end(self, active: ActiveTurn, outcome: TurnOutcome, reason: str) -> Steps[None]:
        yield
        ended = Ended(outcome, reason)
        calls = endings(active.entries, "cancelled", "The turn ended.")
        assert self.do(turns.close, active.turn.id, active.turn.epoch, ended, calls)
        active.entries.extend((*calls, ended))

    # Work beside turns

    def _delegate(self, active: ActiveTurn, call: Call) -> Steps[CallEnded]:
        yield from _checkpoint(active)
        while self._closing:
            yield from _checkpoint(active)
        answer = self._answers[call.id] = _Answer()
        try:
            row, arrival = self.do(
                background.begin_task, active.turn, call.id, DelegatedTask("Do it."), LIMITS, waited=True
            )
        except BackgroundError as error:
            return CallEnded(call.id, "failed", str(error))
        self._arrived(arrival)
        if row.state != "running":
            return CallEnded(call.id, "done", self.do(background_rows.outcome, row).text if row.waited else "It came.")
        self._waiting.add(active.turn.id)
        while not answer.given:
            try:
                yield from _checkpoint(active)
            except Stopped:
                self._settle(
                    self.do(
                        background.stop, row.id, BackgroundResult("stopped", background.PARENT_STOPPED), notify=False
                    )
                )
                raise
            if active.interrupts and not answer.given:
                finished = self.do(background.detach, row.id)
                self._settle(() if finished is None else (finished,))
                answer.given = True
        del self._answers[call.id]
        ending = answer.result
        outcome = "failed" if ending is not None and ending.state != "done" else "done"
        return CallEnded(call.id, outcome, GOES_ON if ending is None else ending.text)

    def supply(self, turn_id: str, number: int) -> None:
        """A caller submits results of external calls: of all, or of too few."""
        calls = pending(self.do(external_results.parked_log, turn_id))
        results = [CallEnded(call.id, "done", "So it was.") for call in calls[number % 3 // 2 :]]
        session = self.do(external_results.supply, turn_id, results, None)
        assert (session is None) == (not calls or len(results) < len(calls))
        if session is not None:
            self.wake(session, "queue")

    def steer_task(self, number: int, words: str) -> None:
        """Steers one of the running tasks."""
        tasks = [row for row in self.do(background_rows.running) if row.kind == "task"]
        if tasks:
            self._arrived(self.do(background.send_to_task, tasks[number % len(tasks)], words))

    def _follow(self, row: BackgroundRow) -> Steps[None]:
        choice = yield
        for _ in range(choice % 4):
            yield
        finished = self.do(background.end_call, row.id, BackgroundResult("done", "So it is."))
        self._settle(() if finished is None else (finished,))

    def _after_end(self, record: Turn) -> Steps[None]:
        if record.id in self._waiting:
            yield
            self._settle(self.do(background.settle, record.id))
            self._waiting.discard(record.id)
        if is_child(record.session):
            yield
            finished = self.do(background.finish_task, record.session)
            self._settle(() if finished is None else (finished,))

    def _settle(self, finished: Sequence[Finished]) -> None:
        for each in finished:
            answer = self._answers.get(each.row.call_id or "")
            if answer is not None and not answer.given:
                answer.given, answer.result = True, each.result
            if each.stop_reason and each.row.child is not None:
                self.stop(each.row.child, before=sys.maxsize, reason=each.stop_reason)
                self.wake(each.row.child, "queue")
            self._arrived(each.arrival)

    def _arrived(self, arrival: Arrival | None) -> None:
        if arrival is not None and arrival.wakes is not None:
            self.wake(arrival.session, arrival.wakes)

    # What people ask of the gateway

    def _fetch(self, row_id: int, session: str) -> Steps[None]:
        yield
        row = self.do(fetching.unfetched, row_id)
        while row is not None:
            yield
            if self.do(fetching.mark_ready, row_id, row.files, (), ""):
                break
            row = self.do(fetching.unfetched, row_id)
        yield from self._wake_readers(session)

    def _wake_readers(self, session: str) -> Steps[None]:
        yield
        waits = self.do(inbox.waiting_busy, session)
        if waits is not None:
            self.wake(session, waits)

    def _command(self, row_id: int, session: str, name: str, words: str) -> Steps[None]:
        yield
        text = yield from self._carry_out(row_id, session, name, words)
        if text is not None:
            yield
            self.do(command_turns.answer, self._worker, row_id, Notice(text))
        yield from self._wake_readers(session)

    def _carry_out(self, row_id: int, session: str, name: str, words: str) -> Steps[str | None]:
        match name:
            case "stop":
                return (yield from self._end_all(row_id, session, f"stop {row_id}"))
            case "new":
                ended = yield from self._end_all(row_id, session, f"new {row_id}")
                yield
                self.do(sessions.reset_session, session)
                return ended
            case "wrap":
                return None if self.do(finish_up.wrap, row_id) else "Nothing runs."
            case "btw":
                record = self.do(command_turns.begin_side_question, self._worker, row_id)
                self._serve(ActiveTurn(record.id), record)
                return None
            case "undo" if self._is_at_work(session):
                return "Something runs."
            case "undo":
                yield
                return "" if self.do(undo.undo, session) is None else "Taken out."
            case "retry":
                # In one breath, as a stop that comes next covers what is tried again.
                runs = self.do(turns.unfinished, session) is not None
                said_again = self.do(undo.retry, row_id)
                assert not (runs and said_again), "nothing is tried again while something runs"
                return None if said_again else "There is nothing to do again."
            case "answer":
                return (yield from self._press(row_id, session, *words.split()))
            case _:
                raise ValueError(name)

    def _is_at_work(self, session: str) -> bool:
        active = self.active.get(session)
        return (active is not None and active.record is not None) or self.do(turns.unfinished, session) is not None

    def _end_all(self, row_id: int, session: str, reason: str) -> Steps[str]:
        active = self.stop(session, before=row_id, reason=reason)
        what = "what ran" if active is not None and active.in_loop else ""
        withdrawn = self.do(inbox.withdraw_waiting, session, row_id, reason)
        # Asked for in the same breath: whatever is woken meanwhile claims after it.
        if not what and self.do(turns.stop_parked, session, reason):
            what = "what waited"
            self.wake(session)
            active = self.active.get(session)
        while active is not None:
            while not active.ended:
                yield
            active = self.active.get(session) if active.record is None else None
        self.stops_answered.append((session, row_id))
        return what or ("messages" if withdrawn else "Nothing is running.")

    def _press(self, row_id: int, session: str, key: str, number: str) -> Steps[str | None]:
        if self.do(questions.choose, row_id, key, int(number)) == "chosen":
            return None
        yield
        decision = self.do(decisions.decide, row_id, key, int(number), may_decide=True, may_extend=True)
        if decision.outcome == "decided":
            self.wake(session, "queue")
            return None
        return "It is not open."

    # Beginning

    def _resume(self) -> None:
        pending = self.do(adoption.pending, self._worker)
        for row in (self.do(background_rows.by_id, row_id) for row_id in pending.background):
            ending = BackgroundResult("lost", background.LOST)
            finished = (
                self.do(background.end_call, row.id, ending)
                if row.kind == "call"
                else self.do(background.finish_task, row.child or "")
            )
            self._settle(() if finished is None else (finished,))
        for turn_id, waits in pending.awaiting:
            if waits:
                self._waiting.add(turn_id)
            else:
                self._settle(self.do(background.settle, turn_id))
        for command in pending.commands:
            self._spawn(self._again(command))
        for unfetched in pending.unfetched:
            self._spawn(self._fetch(unfetched.id, unfetched.session))
        for turn_id in pending.side_questions:
            self._serve(ActiveTurn(turn_id), self.do(command_turns.resume_side_question, self._worker, turn_id))
        for session in pending.sessions:
            self.wake(session)

    def _again(self, command: Command) -> Steps[None]:
        return self._command(command.id, command.session, command.name, command.arguments)


def _checkpoint(active: ActiveTurn) -> Steps[int]:
    """Others may act here. Raises `Stopped` if the turn was stopped meanwhile."""
    choice = yield
    if active.stopping is not None:
        raise Stopped
    return choice


def _primed(steps: Steps[None]) -> Steps[None]:
    next(steps)
    return steps


def _until(choice: int) -> datetime:
    return NOW + timedelta(hours=1 if choice % 2 else 3)
