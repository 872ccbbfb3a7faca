"""A store used at random by people, a worker and the clock: in any order, no message is lost or read twice."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from agent.log import ApprovalDecided, ApprovalRequested, Call, Ended, Entry, MessagesRead, ModelAnswered, Notice, Text
from gateway.store import Store, open_store
from gateway.store.records import AcceptOptions, Arrival, Busy, Turn
from tests.engines import Kind, engines
from tests.gateway.machines import run_machine
from tests.gateway.notes import (
    ANN,
    COMPLETED,
    HERE,
    PHOTO,
    SESSION,
    add_background_message,
    left_behind,
    message,
)

BUSY = st.sampled_from(["steer", "queue", "collect", "interrupt"])
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class StoreMachine(RuleBasedStateMachine):
    """`held` is the turn that the worker holds, with the log as the worker knows it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Path(self.folder.name) / "test.db"
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.count = 0
        self.held: tuple[Turn, list[Entry]] | None = None
        self.asked = 0
        self.runs: list[str] = []
        self.rows: list[int] = []
        self.unfetched: list[int] = []

    @initialize()
    def the_store_opens(self) -> None:
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.stack = AsyncExitStack()
        self.store: Store = await self.stack.enter_async_context(open_store(engines.url(self.database)))

    def _keep(self, arrival: Arrival | None) -> Arrival:
        assert arrival is not None
        self.rows.append(arrival.id)
        if arrival.run is not None:
            self.runs.append(arrival.run)
        return arrival

    def _text(self) -> str:
        self.count += 1
        return f"words {self.count}"

    def _command(self, name: str, words: str = "") -> int:
        arrival = self.runner.run(self.store.accept(message(words, kind="command", command=name), SESSION))
        return self._keep(arrival).id

    @rule(busy=BUSY)
    def something_is_said(self, busy: Busy) -> None:
        options = AcceptOptions(busy=busy)
        self._keep(self.runner.run(self.store.accept(message(self._text()), SESSION, None, options)))

    @precondition(lambda self: self.asked)
    @rule(word=st.sampled_from(["yes", "no", "always", "no, not now"]))
    def something_is_said_that_may_decide(self, word: str) -> None:
        self._keep(self.runner.run(self.store.accept(message(word), SESSION)))

    @rule()
    def a_file_is_sent(self) -> None:
        arrival = self._keep(self.runner.run(self.store.accept(message(self._text(), files=(PHOTO,)), SESSION)))
        self.unfetched.append(arrival.id)

    @precondition(lambda self: self.unfetched)
    @rule()
    def a_file_arrives(self) -> None:
        assert self.runner.run(self.store.mark_ready(self.unfetched.pop(0), (PHOTO,), ()))

    @rule()
    def work_has_a_result(self) -> None:
        event = f"work:{self.count}"
        arrival = self.runner.run(add_background_message(self.store, SESSION, HERE, ANN, self._text(), (), event))
        if not arrival.duplicate:
            self._keep(arrival)

    @rule()
    def somebody_wishes_the_end(self) -> None:
        row = self._command("wrap", self._text())
        if not self.runner.run(self.store.wrap(row)):
            self.runner.run(self.store.answer(row, Notice("Nothing runs.")))

    @rule()
    def somebody_tries_again(self) -> None:
        row = self._command("retry")
        if not self.runner.run(self.store.retry(row)):
            self.runner.run(self.store.answer(row, Notice("There is nothing to do again.")))

    @rule()
    def somebody_takes_the_last_turn_out(self) -> None:
        self.runner.run(self.store.undo(SESSION))

    @rule()
    def somebody_asks_on_the_side(self) -> None:
        side = self.runner.run(self.store.begin_side_question(self._command("btw", self._text())))
        assert self.runner.run(self.store.close(side.id, side.epoch, COMPLETED, (ModelAnswered(1, (Text("So."),)),)))

    @precondition(lambda self: self.asked)
    @rule(number=st.integers(0, 2), back=st.integers(0, 1))
    def an_option_is_pressed(self, number: int, back: int) -> None:
        row = self._command("answer")
        decision = self.runner.run(self.store.decide(row, f"d:c{self.asked - back}", number, may_decide=True))
        if decision.outcome != "decided":
            self.runner.run(self.store.answer(row, Notice(decision.outcome)))

    @precondition(lambda self: self.asked)
    @rule(hours=st.integers(0, 3))
    def time_passes(self, hours: int) -> None:
        self.runner.run(self.store.expire(NOW + timedelta(hours=hours)))

    @precondition(lambda self: self.asked)
    @rule()
    def somebody_stops_what_waits(self) -> None:
        self.runner.run(self.store.stop_parked(SESSION, "by Ann"))

    def _hold(self) -> tuple[Turn, list[Entry]] | None:
        """The turn that the worker holds, or finds to work on."""
        if self.held is None:
            turn = self.runner.run(self.store.claim(SESSION))
            self.held = None if turn is None else (turn, list(turn.entries))
        return self.held

    def _read_inbox(self, turn: Turn, entries: list[Entry]) -> None:
        read = self.runner.run(self.store.read_inbox(turn.id, turn.epoch, _step(entries)))
        if read is not None:
            entries.append(read)

    def _write(self, turn: Turn, entries: list[Entry], *new: Entry) -> None:
        self.runner.run(self.store.append(turn.id, turn.epoch, new))
        entries.extend(new)

    @rule()
    def the_turn_hears(self) -> None:
        if held := self._hold():
            self._read_inbox(*held)

    @rule(hours=st.integers(1, 3), hears=st.booleans(), presses=st.booleans())
    def the_turn_asks_for_a_decision(self, hours: int, hears: bool, presses: bool) -> None:
        if held := self._hold():
            turn, entries = held
            if hears:
                self._read_inbox(turn, entries)
            self.asked += 1
            until = NOW + timedelta(hours=hours)
            call = Call(f"c{self.asked}", "shell", "{}")
            asked = ApprovalRequested(call.id, "call", "May I?", ("Allow", "Always", "Deny"), until.timestamp())
            self._write(turn, entries, ModelAnswered(_step(entries), (call,)), asked)
            if presses:
                self.an_option_is_pressed(0, 0)
            if self.runner.run(self.store.park(turn.id, turn.epoch, until)):
                self.held = None
            else:
                self._write(turn, entries, ApprovalDecided(asked.id, "dropped"))

    @rule(outcome=st.sampled_from(["completed", "completed", "stopped", "failed"]))
    def the_turn_answers(self, outcome: str) -> None:
        if held := self._hold():
            turn, entries = held
            answer = ModelAnswered(_step(entries), (Text("So."),))
            ended = Ended(outcome)  # type: ignore[arg-type]  # as sampled
            if self.runner.run(self.store.close(turn.id, turn.epoch, ended, (answer,))):
                self.held = None
            else:
                entries.append(answer)

    @rule()
    def the_process_is_killed_and_another_begins(self) -> None:
        self.runner.run(self._begin_again())

    async def _begin_again(self) -> None:
        await self.stack.aclose()
        self.held = None
        await self._open()

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self.runner.run(self._settle())
                self.runner.run(self._check())
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()
            engines.remove(self.database)
            self.folder.cleanup()

    async def _settle(self) -> None:
        """Everything is read and answered, as a gateway would."""
        for row in self.unfetched:
            await self.store.mark_ready(row, (PHOTO,), ())
        await self.store.expire(NOW + timedelta(days=1))
        await self._begin_again()
        while (turn := await self.store.claim(SESSION)) is not None:
            answer = ModelAnswered(_step(turn.entries), (Text("So."),))
            while not await self.store.close(turn.id, turn.epoch, COMPLETED, (answer,)):
                await self.store.read_inbox(turn.id, turn.epoch, answer.step)

    async def _check(self) -> None:
        assert await self.store.waiting_busy(SESSION) is None
        assert (await left_behind(self.store)).sessions == ()
        assert await self.store.next_deadline() is None
        found = dict(await self.store.write(_all_rows))
        assert set(found) == set(self.rows)
        read: Counter[int] = Counter()
        for turn in await self.store.turns_of(SESSION):
            assert [type(entry) for entry in turn.entries].count(Ended) == 1
            decided = Counter(entry.id for entry in turn.entries if isinstance(entry, ApprovalDecided))
            asked = [entry.id for entry in turn.entries if isinstance(entry, ApprovalRequested)]
            assert set(decided.values()) <= {1}
            assert set(decided) <= set(asked)
            if turn.kind == "turn":
                read.update(
                    each.id for entry in turn.entries if isinstance(entry, MessagesRead) for each in entry.messages
                )
        assert set(read.values()) <= {1}
        assert set(read) == {row for row, state in found.items() if state == "consumed"}
        for run_id in self.runs:
            run = await self.store.run(run_id)
            assert run is not None
            assert run.is_over, run


def _step(entries: list[Entry] | tuple[Entry, ...]) -> int:
    return 1 + sum(isinstance(entry, ModelAnswered) for entry in entries)


def _all_rows(connection: object) -> list[tuple[int, str]]:
    return [tuple(row) for row in connection.exec_driver_sql("SELECT id, state FROM inbox")]  # type: ignore[attr-defined]


EXAMPLES = {"sqlite": 25, "postgresql": 8}


@pytest.mark.engines
def test_a_store_used_at_random_loses_nothing_and_reads_nothing_twice(engine: Kind) -> None:
    run_machine(StoreMachine, examples=EXAMPLES[engine], steps=30)
