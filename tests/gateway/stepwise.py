"""A gateway without its loop, on a real store: dispatcher, turns, commands and work as steps that a test puts in any
order.

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
    limit_question,
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
    reading,
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
"""What the model may do; the first is what it does when all is to come to rest."""


class Stopped(Exception):
    """The turn was stopped."""


@dataclass(slots=True, eq=False)
class _Task:
    steps: Steps[None]
    has_begun: bool = False


@dataclass(slots=True, eq=False)
class ActiveTurn:
    """A session that claims, and then runs, one turn."""

    session: str
    record: Turn | None = None
    entries: list[Entry] = field(default_factory=list)
    rung: bool = False
    steers: bool = False
    again: bool = False
    playing: bool = False
    parked: bool = False
    over: bool = False
    stop_before: int = 0
    stop_reason: str = ""
    stopping: str | None = None

    def notify(self, *, gently: bool = False) -> None:
        self.rung = True
        self.steers = self.steers or not gently

    def stop_if_covered(self) -> None:
        if self.playing and self.is_stopped and self.stopping is None:
            self.stopping = self.stop_reason

    @property
    def turn(self) -> Turn:
        assert self.record is not None
        return self.record

    @property
    def is_stopped(self) -> bool:
        return self.record is not None and first_heard(self.record.entries) < self.stop_before


@dataclass(slots=True)
class _Answer:
    """What a turn waits for that delegates."""

    over: bool = False
    result: BackgroundResult | None = None


def first_heard(entries: Sequence[Entry]) -> int:
    heard = next(entry for entry in entries if isinstance(entry, MessagesRead))
    return heard.messages[0].id


class Gateway:
    """One process. Dropping it is a crash, as nothing of it is kept but the store."""

    def __init__(self, connection: Connection, worker: str, numbers: count[int], asked: list[str]) -> None:
        """`numbers` and `asked` (keys of all questions, the newest last) outlive the process."""
        self._connection = connection
        self._worker = worker
        self._numbers = numbers
        self._asked = asked
        self._answers: dict[str, _Answer] = {}
        self._waiting: set[str] = set()
        self._closing = False
        self.live: dict[str, ActiveTurn] = {}
        self.tasks: list[_Task] = []
        self.served: list[_Task] = []
        self.ended_by_stop: list[tuple[str, int]] = []
        self.completed: list[str] = []
        self._take_up()

    def do(self, job: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction."""
        return job(self._connection, *args, **kwargs)

    # What drives it

    def go_on(self, number: int, choice: int) -> None:
        """One step of one of those that run or wait; what was spawned first begins first."""
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
        """No new turns; the running ones may take so many steps more."""
        self._closing = True
        self.tasks.clear()
        for choice in choices:
            self.go_on(choice, choice)

    def accept(self, message: InboundMessage, options: AcceptOptions) -> Arrival:
        arrival = self.do(arrivals.accept, message, session_key(message.address), None, options)
        assert arrival is not None
        if arrival.duplicate:
            return arrival
        session = arrival.session
        if arrival.stop_reason:
            self.stop(session, before=arrival.id, reason=arrival.stop_reason)
            self.wake(session, "interrupt")
        if arrival.command:
            self._spawn(self._command(arrival.id, session, message.command or "", message.text))
        elif arrival.to_fetch is not None:
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
        live = self.live.get(session)
        if live is None:
            if not self._closing:
                self._serve(ActiveTurn(session))
            return
        live.again = True
        if busy in ("steer", "wrap"):
            live.notify(gently=busy == "wrap")

    def stop(self, session: str, *, before: int, reason: str) -> ActiveTurn | None:
        live = self.live.get(session)
        if live is not None:
            live.stop_before, live.stop_reason = before, reason
            live.stop_if_covered()
        return live

    def _serve(self, live: ActiveTurn, record: Turn | None = None) -> None:
        self.live[live.session] = live
        self.served.append(_Task(_primed(self._serving(live, record))))

    def _spawn(self, steps: Steps[None]) -> None:
        self.tasks.append(_Task(_primed(steps)))

    def _serving(self, live: ActiveTurn, record: Turn | None) -> Steps[None]:
        yield
        record = record or self.do(turns.claim, self._worker, live.session)
        if record is not None:
            yield from self._run(live, record)
        del self.live[live.session]
        live.over = True
        if live.again:
            self.wake(live.session)

    def _run(self, live: ActiveTurn, record: Turn) -> Steps[None]:
        live.record, live.entries = replace(record, parked=False), list(record.entries)
        if record.unread is not None:
            self.wake(live.session, record.unread)
        if len(record.entries) > 1:
            live.notify()
            live.again = True
        if record.stop is not None:
            live.stop_before, live.stop_reason = sys.maxsize, record.stop
        yield
        live.playing = True
        live.stop_if_covered()
        try:
            yield from self._go_on(live)
        except Stopped:
            yield from self._end(live, "stopped", live.stopping or "")
        if not live.parked:
            yield from self._over(record)

    # The turn loop

    def _go_on(self, live: ActiveTurn) -> Steps[None]:
        if restarts_in_a_row(live.entries) >= MAX_RESTARTS:
            return (yield from self._end(live, "failed", "too many restarts"))
        if waits_for_people(live.entries):
            yield from self._await_people(live)
        else:
            yield from self._finish_step(live)
        while not self._is_over(live):
            yield from self._take_step(live)

    def _is_over(self, live: ActiveTurn) -> bool:
        return live.parked or isinstance(live.entries[-1], Ended)

    def _take_step(self, live: ActiveTurn) -> Steps[None]:
        yield from self._read_inbox(live)
        if is_answered(live.entries):
            yield from self._close(live, Ended("completed"))
        elif (reason := refused_limit(live.entries)) is not None:
            yield from self._end(live, "stopped", reason)
        else:
            yield from self._ask(live)

    def _read_inbox(self, live: ActiveTurn) -> Steps[bool]:
        if not live.rung:
            return False
        yield from _moment(live)
        heard = self.do(turns.read_inbox, live.turn.id, live.turn.epoch, step_of(live.entries))
        live.rung = live.steers = False
        if heard is not None:
            live.entries.append(heard)
        return heard is not None

    def _ask(self, live: ActiveTurn) -> Steps[None]:
        """The model's answer, and what it wants done."""
        choice = yield from _moment(live)
        step = step_of(live.entries)
        if live.rung:
            # What came before the answer was there.
            self._write(live, Spent(step, Usage(1, 1), "m", "interrupted"), ModelAnswered(step, (), interrupted=True))
            return
        can_act = live.turn.kind == "turn" and not is_finishing_up(live.entries)
        kind = ANSWERS[choice % len(ANSWERS)] if can_act else "words"
        if is_child(live.session) and kind in ("danger", "ask_user", "limit", "outside"):
            kind = "look"
        match kind:
            case "words":
                yield from self._close(live, Ended("completed"), ModelAnswered(step, (Text("So."),), Usage(5, 5)))
            case "failed":
                yield from self._end(live, "failed", "the model is down")
            case "summary":
                self._write(live, Compacted(step, "", "It was said that."))
            case "limit":
                asked = limit_question(f"l{next(self._numbers)}", "The limit is reached.", _until(choice).timestamp())
                self._asked.append(f"{decisions.KEY}{asked.id}")
                self._write(live, asked)
                yield from self._await_people(live)
            case "two":
                yield from self._act(live, "look", "note", "look")
            case "outside":
                yield from self._act(live, "outside", "outside")
            case "slow" | "delegate" | "ask_user":
                yield from self._act(live, kind, "look")
            case name:
                yield from self._act(live, name)

    def _act(self, live: ActiveTurn, *names: str) -> Steps[None]:
        calls = tuple(self._call(name) for name in names)
        self._write(live, ModelAnswered(step_of(live.entries), calls, Usage(5, 5)))
        yield from self._run_calls(live, calls)

    def _call(self, name: str) -> Call:
        return Call(f"c{next(self._numbers)}", name, QUESTION if name == "ask_user" else "{}")

    def _run_calls(self, live: ActiveTurn, calls: Sequence[Call]) -> Steps[None]:
        for call in calls:
            choice = yield from _moment(live)
            if live.rung:
                self._write(live, CallEnded(call.id, "skipped", "A message came."))
                continue
            if call.name == "outside":
                until = _until(choice).timestamp()
                self._write(live, *(CallStarted(each.id, until, "{}") for each in calls))
                return (yield from self._await_people(live))
            if call.name == "ask_user":
                self._asked.append(f"{questions.KEY}{call.id}")
                self._write(live, CallStarted(call.id))
                return (yield from self._await_people(live))
            if call.name == "danger" and (yield from self._needs_decision(live, call, choice)):
                return (yield from self._await_people(live))
            if call.id not in {entry.call_id for entry in live.entries if isinstance(entry, CallEnded)}:
                self._write(live, CallStarted(call.id))
                self._write(live, (yield from self._result(live, call)))

    def _needs_decision(self, live: ActiveTurn, call: Call, choice: int) -> Steps[bool]:
        """Whether people have to decide. A call that they denied has its result then."""
        settled = decision_on(call.id, live.entries)
        allowed = live.turn.allowed | allowed_tools(live.entries, calls_of(live.entries))
        if settled is None and call.name not in allowed:
            until = _until(choice).timestamp()
            self._asked.append(f"{decisions.KEY}{call.id}")
            self._write(live, ApprovalRequested(call.id, "call", "May I?", APPROVAL_OPTIONS, until, call.arguments))
            return True
        if settled is not None and settled[1].decision not in ("allowed", "allowed_always"):
            self._write(live, denial(call, settled[1]))
        else:
            yield from _moment(live)
        return False

    def _result(self, live: ActiveTurn, call: Call) -> Steps[CallEnded]:
        if call.name == "delegate":
            return (yield from self._delegate(live, call))
        choice = yield from _moment(live)
        if live.steers and call.name == "look":
            return CallEnded(call.id, "cancelled", "A message came.")
        if call.name == "slow" and (live.steers or choice % 2) and not self._closing:
            try:
                row = self.do(background.begin_call, live.turn, "slow", LIMITS)
            except BackgroundError as error:
                return CallEnded(call.id, "failed", str(error))
            self._spawn(self._follow(row))
            return CallEnded(call.id, "done", GOES_ON)
        return CallEnded(call.id, "failed" if choice % 5 == 4 else "done", "Done.")

    def _finish_step(self, live: ActiveTurn) -> Steps[None]:
        left = unresolved(live.entries)
        if any(started and call.name not in REPEATABLE for call, started in left):
            yield from self._append(live, *endings(live.entries, "unknown", "A crash."))
        elif left and (yield from self._read_inbox(live)):
            yield from self._append(live, *endings(live.entries, "cancelled", "A message came."))
        elif left:
            yield from self._run_calls(live, [call for call, _ in left])

    def _await_people(self, live: ActiveTurn) -> Steps[None]:
        yield from _moment(live)
        expires = deadline(live.entries)
        until = None if expires is None else datetime.fromtimestamp(expires, UTC)
        if self.do(turns.park, live.turn.id, live.turn.epoch, until):
            # A stop may come before it is let go of.
            yield from _moment(live)
            live.parked = True
            return
        live.notify()
        asked = open_decision(live.entries)
        if asked is None:
            ends = endings_without_result(live.entries) or endings(live.entries, "done", ANSWERED)
            yield from self._append(live, *ends)
        else:
            dropped = [CallEnded(call.id, "skipped", DROPPED) for call, _ in unresolved(live.entries)]
            yield from self._append(live, ApprovalDecided(asked.id, "dropped"), *dropped)

    def _append(self, live: ActiveTurn, *entries: Entry) -> Steps[None]:
        if entries:
            yield from _moment(live)
            self._write(live, *entries)

    def _write(self, live: ActiveTurn, *entries: Entry) -> None:
        self.do(turns.append, live.turn.id, live.turn.epoch, entries)
        live.entries.extend(entries)

    def _close(self, live: ActiveTurn, ended: Ended, *entries: Entry) -> Steps[None]:
        yield from _moment(live)
        closed = self.do(turns.close, live.turn.id, live.turn.epoch, ended, entries)
        live.entries.extend((*entries, ended) if closed else entries)
        if not closed:
            live.notify()
        elif live.turn.kind == "turn":
            self.completed.append(live.session)

    def _end(self, live: ActiveTurn, outcome: TurnOutcome, reason: str) -> Steps[None]:
        yield
        ended = Ended(outcome, reason)
        calls = endings(live.entries, "cancelled", "The turn ended.")
        assert self.do(turns.close, live.turn.id, live.turn.epoch, ended, calls)
        live.entries.extend((*calls, ended))

    # Work beside turns

    def _delegate(self, live: ActiveTurn, call: Call) -> Steps[CallEnded]:
        yield from _moment(live)
        while self._closing:
            yield from _moment(live)
        answer = self._answers[call.id] = _Answer()
        try:
            row, arrival = self.do(
                background.begin_task, live.turn, call.id, DelegatedTask("Do it."), LIMITS, waited=True
            )
        except BackgroundError as error:
            return CallEnded(call.id, "failed", str(error))
        self._arrived(arrival)
        if row.state != "running":
            return CallEnded(call.id, "done", self.do(background_rows.outcome, row).text if row.waited else "It came.")
        self._waiting.add(live.turn.id)
        while not answer.over:
            try:
                yield from _moment(live)
            except Stopped:
                self._settle(
                    self.do(
                        background.stop, row.id, BackgroundResult("stopped", background.PARENT_STOPPED), notify=False
                    )
                )
                raise
            if live.steers and not answer.over:
                over = self.do(background.detach, row.id)
                self._settle(() if over is None else (over,))
                answer.over = True
        del self._answers[call.id]
        ending = answer.result
        outcome = "failed" if ending is not None and ending.state != "done" else "done"
        return CallEnded(call.id, outcome, GOES_ON if ending is None else ending.text)

    def supply(self, turn_id: str, number: int) -> None:
        """Somebody gives results of calls that are run outside: of all, or of too few."""
        calls = pending(self.do(external_results.parked_log, turn_id))
        results = [CallEnded(call.id, "done", "So it was.") for call in calls[number % 3 // 2 :]]
        session = self.do(external_results.supply, turn_id, results, None)
        assert (session is None) == (not calls or len(results) < len(calls))
        if session is not None:
            self.wake(session, "queue")

    def tell_a_task(self, number: int, words: str) -> None:
        """Somebody steers one of the tasks that run."""
        tasks = [row for row in self.do(background_rows.running) if row.kind == "task"]
        if tasks:
            self._arrived(self.do(background.send_to_task, tasks[number % len(tasks)], words))

    def _follow(self, row: BackgroundRow) -> Steps[None]:
        choice = yield
        for _ in range(choice % 4):
            yield
        over = self.do(background.end_call, row.id, BackgroundResult("done", "So it is."))
        self._settle(() if over is None else (over,))

    def _over(self, record: Turn) -> Steps[None]:
        if record.id in self._waiting:
            yield
            self._settle(self.do(background.settle, record.id))
            self._waiting.discard(record.id)
        if is_child(record.session):
            yield
            over = self.do(background.finish_task, record.session)
            self._settle(() if over is None else (over,))

    def _settle(self, overs: Sequence[Finished]) -> None:
        for over in overs:
            answer = self._answers.get(over.row.call_id or "")
            if answer is not None and not answer.over:
                answer.over, answer.result = True, over.result
            if over.stop_reason and over.row.child is not None:
                self.stop(over.row.child, before=sys.maxsize, reason=over.stop_reason)
                self.wake(over.row.child, "queue")
            self._arrived(over.arrival)

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
            self.do(command_turns.answer, self._worker, row_id, text)
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
        live = self.live.get(session)
        return (live is not None and live.record is not None) or self.do(turns.unfinished, session) is not None

    def _end_all(self, row_id: int, session: str, reason: str) -> Steps[str]:
        live = self.stop(session, before=row_id, reason=reason)
        what = "what ran" if live is not None and live.playing else ""
        aside = self.do(inbox.withdraw_waiting, session, row_id, reason)
        # Asked for in the same breath: whatever is woken meanwhile claims after it.
        if not what and self.do(turns.stop_parked, session, reason):
            what = "what waited"
            self.wake(session)
            live = self.live.get(session)
        while live is not None:
            while not live.over:
                yield
            live = self.live.get(session) if live.record is None else None
        self.ended_by_stop.append((session, row_id))
        return what or ("messages" if aside else "Nothing is running.")

    def _press(self, row_id: int, session: str, key: str, number: str) -> Steps[str | None]:
        if self.do(questions.choose, row_id, key, int(number)):
            return None
        while True:
            yield
            decision = self.do(decisions.decide, row_id, key, int(number), may_decide=True, may_extend=True)
            if decision.outcome == "decided":
                self.wake(session, "queue")
                return None
            if decision.outcome != "too_early":
                return "It is not open."
            live = self.live.get(session)
            while live is not None and not live.over:
                yield

    # Beginning

    def _take_up(self) -> None:
        pending = self.do(reading.pending)
        for row in self.do(background_rows.running):
            ending = BackgroundResult("lost", background.LOST)
            over = (
                self.do(background.end_call, row.id, ending)
                if row.kind == "call"
                else self.do(background.finish_task, row.child or "")
            )
            self._settle(() if over is None else (over,))
        for turn_id, waits in self.do(background_rows.awaiting):
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


def _moment(live: ActiveTurn) -> Steps[int]:
    """Others may act here; a turn that is stopped meanwhile goes no further. Raises `Stopped`."""
    choice = yield
    if live.stopping is not None:
        raise Stopped
    return choice


def _primed(steps: Steps[None]) -> Steps[None]:
    next(steps)
    return steps


def _until(choice: int) -> datetime:
    return NOW + timedelta(hours=1 if choice % 2 else 3)
