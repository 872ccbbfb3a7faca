"""Several workers on one database at random, each of which may be stopped at any point and wake later, with what it
held before: only the holder writes, nobody sends for another, and every message is read once."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import Connection

from agent.journal import TurnLost
from agent.log import Ended, Entry, MessagesRead, ModelAnswered, Text
from channels.address import Address
from gateway.sessions import session_key
from gateway.store import Store, adoption, arrivals, delivery, open_store, outbox, turns, workers
from gateway.store.records import Turn
from tests.engines import Kind, engines
from tests.gateway.machines import run_machine
from tests.gateway.notes import COMPLETED, HERE, message

P = ParamSpec("P")
T = TypeVar("T")

SLOTS = st.integers(0, 2)
PLACES = (HERE, Address("telegram", "bot", "8"))
PLACE = st.sampled_from(PLACES)


@dataclass
class Process:
    """A worker as it knows itself. It may have been buried without having noticed."""

    id: str
    turns: dict[str, Turn] = field(default_factory=dict)
    """By session, what it believes to hold."""


@dataclass
class Truth:
    """Of a turn: who holds it (None: whoever claims it), and the words that were accepted from holders."""

    holder: str | None
    epoch: int
    words: list[str] = field(default_factory=list)
    ended: bool = False
    delivered: bool = False


class WorkerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Path(self.folder.name) / "test.db"
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.lives = 0
        self.processes: list[Process] = []
        self.alive: set[str] = set()
        self.turns: dict[str, Truth] = {}
        self.rows: list[int] = []
        self.words = 0
        self.leases: dict[str, str] = {}

    @initialize()
    def three_workers_begin(self) -> None:
        self.store: Store = self.runner.run(
            self.stack.enter_async_context(open_store(engines.url(self.database), worker="observer"))
        )
        self.processes = [self._enlist() for _ in range(3)]

    def _do(self, operation: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.runner.run(self.store.write(lambda connection: operation(connection, *args, **kwargs)))

    def _enlist(self) -> Process:
        self.lives += 1
        process = Process(f"w{self.lives}")
        self._do(workers.enlist, process.id, "", "0")
        self.alive.add(process.id)
        return process

    def _held(self) -> list[tuple[Process, Turn]]:
        """What workers believe to hold, also those that are wrong."""
        return [(process, turn) for process in self.processes for turn in process.turns.values()]

    @rule(slot=SLOTS, place=PLACE, claims=st.booleans())
    def somebody_writes(self, slot: int, place: Address, claims: bool) -> None:
        said = message(f"words {self.lives}")
        arrival = self._do(arrivals.accept, self.processes[slot].id, said, session_key(place), None)
        assert arrival is not None
        self.rows.append(arrival.id)
        if claims:
            self.a_worker_claims(slot, place)

    @rule(slot=SLOTS, place=PLACE)
    def a_worker_claims(self, slot: int, place: Address) -> None:
        process, session = self.processes[slot], session_key(place)
        if process.id not in self.alive or session in process.turns:
            return
        turn = self._do(turns.claim, process.id, session)
        if turn is None:
            return
        earlier = self.turns.get(turn.id)
        if earlier is not None:
            assert earlier.holder not in self.alive, "the turn of a worker that is alive was taken"
            assert turn.epoch > earlier.epoch
            assert _words(turn.entries) == earlier.words, "the log is what was accepted"
        self.turns[turn.id] = Truth(process.id, turn.epoch, [] if earlier is None else earlier.words)
        process.turns[session] = turn

    def _is_held(self, process: Process, turn: Turn) -> bool:
        truth = self.turns[turn.id]
        return not truth.ended and truth.epoch == turn.epoch and truth.holder == process.id

    @precondition(_held)
    @rule(data=st.data(), reads=st.booleans())
    def a_worker_makes_a_step(self, data: st.DataObject, reads: bool) -> None:
        process, turn = data.draw(st.sampled_from(self._held()))
        self.words += 1
        said = f"step {self.words}"
        is_held = self._is_held(process, turn)
        try:
            if reads:
                self._do(turns.read_inbox, turn.id, turn.epoch, self.words)
            self._do(turns.append, turn.id, turn.epoch, [ModelAnswered(self.words, (Text(said),))])
        except TurnLost:
            assert not is_held
            del process.turns[turn.session]
        else:
            assert is_held, "a worker wrote what another one holds"
            self.turns[turn.id].words.append(said)

    @precondition(_held)
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "stopped"]))
    def a_worker_ends_its_turn(self, data: st.DataObject, outcome: str) -> None:
        process, turn = data.draw(st.sampled_from(self._held()))
        is_held, ended = self._is_held(process, turn), Ended(outcome)  # type: ignore[arg-type]  # as sampled
        try:
            has_ended = self._do(turns.close, turn.id, turn.epoch, ended)
        except TurnLost:
            assert not is_held
            del process.turns[turn.session]
        else:
            assert is_held, "a worker ended what another one holds"
            if has_ended:
                self.turns[turn.id].ended = True
                del process.turns[turn.session]

    @precondition(_held)
    @rule(data=st.data(), remembers=st.booleans())
    def a_worker_gives_its_turn_away(self, data: st.DataObject, remembers: bool) -> None:
        """If it `remembers`, some of its code still believes to hold it."""
        process, turn = data.draw(st.sampled_from(self._held()))
        if not remembers:
            del process.turns[turn.session]
        is_held = self._is_held(process, turn)
        try:
            self._do(turns.release, turn.id, turn.epoch)
        except TurnLost:
            assert not is_held
        else:
            assert is_held
            self.turns[turn.id].holder, self.turns[turn.id].epoch = None, turn.epoch + 1

    @precondition(lambda self: self.turns)
    @rule(slot=SLOTS, number=st.integers(0, 3))
    def a_worker_sends_of_a_reply(self, slot: int, number: int) -> None:
        """Also of one that was never its own."""
        process = self.processes[slot]
        for id in list(self.turns)[-1 - number : len(self.turns) - number]:
            truth = self.turns[id]
            try:
                self._do(outbox.sending, process.id, id, f"p{self.words}")
            except TurnLost:
                assert truth.holder not in (None, process.id)
            else:
                assert truth.holder in (None, process.id), "a worker sends what another one delivers"

    @precondition(lambda self: self.turns)
    @rule(slot=SLOTS, number=st.integers(0, 3))
    def a_worker_has_delivered_a_reply(self, slot: int, number: int) -> None:
        process = self.processes[slot]
        for id in list(self.turns)[-1 - number : len(self.turns) - number]:
            self._do(delivery.delivered, process.id, id, None)
            truth = self.turns[id]
            if truth.ended and truth.holder in (None, process.id):
                truth.delivered = True

    @rule(slot=SLOTS, by=SLOTS, name=st.sampled_from(["telegram:1", "discord:2"]))
    def a_worker_takes_a_connector(self, slot: int, by: int, name: str) -> None:
        process = self.processes[slot]
        lease = self._do(workers.take_lease, process.id, name)
        holder = self.leases.get(name)
        if lease is None:
            assert process.id not in self.alive or holder in self.alive
        else:
            assert process.id in self.alive
            assert holder not in self.alive, "two workers listen with one token"
            self.leases[name] = process.id
        other = self.processes[by]
        assert self._do(workers.save_lease_state, other.id, name, {"by": other.id}) == (
            self.leases.get(name) == other.id
        )

    @rule(slot=SLOTS, by=SLOTS, goes_on=st.booleans())
    def a_worker_is_buried_and_does_not_notice(self, slot: int, by: int, goes_on: bool) -> None:
        """If another one `goes_on`, it claims what the dead one has left."""
        dead, other = self.processes[slot], self.processes[by]
        if dead is other or other.id not in self.alive:
            return
        buried = self._do(workers.bury, other.id, [dead.id], expired=False)
        assert buried == ((dead.id,) if dead.id in self.alive else ())
        self.alive.discard(dead.id)
        for place in PLACES if goes_on else ():
            self.a_worker_claims(by, place)

    @rule(slot=SLOTS)
    def a_worker_notices_and_begins_again(self, slot: int) -> None:
        process = self.processes[slot]
        beat = self._do(workers.beat, process.id, 15.0, 0, 4)
        assert (beat is None) == (process.id not in self.alive)
        if beat is None:
            self.processes[slot] = self._enlist()

    @rule(slot=SLOTS)
    def a_worker_ends_in_order(self, slot: int) -> None:
        self._do(workers.leave, self.processes[slot].id)
        self.alive.discard(self.processes[slot].id)
        self.processes[slot] = self._enlist()

    @rule(slot=SLOTS)
    def a_worker_looks_at_what_others_have_left(self, slot: int) -> None:
        process = self.processes[slot]
        if process.id in self.alive:
            self._adopt(process.id)

    def _adopt(self, worker: str) -> None:
        found = self._do(adoption.pending, worker)
        due = {
            id
            for id, truth in self.turns.items()
            if truth.ended and not truth.delivered and truth.holder not in self.alive
        }
        assert set(found.undelivered) == due, "each reply is delivered by one"
        for id in due:
            self.turns[id].holder = worker

    @invariant()
    def one_unfinished_turn_in_a_conversation(self) -> None:
        if hasattr(self, "store"):
            unfinished = self._do(_unfinished)
            assert max(Counter(unfinished).values(), default=0) <= 1

    def teardown(self) -> None:
        try:
            if hasattr(self, "store"):
                self._settle()
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()
            engines.remove(self.database)
            self.folder.cleanup()

    def _settle(self) -> None:
        """One worker remains: nothing is lost, doubled or out of order."""
        for process in self.processes:
            self._do(workers.leave, process.id)
        self.alive.clear()
        last = self._enlist()
        self._adopt(last.id)
        for place in PLACES:
            while (turn := self._do(turns.claim, last.id, session_key(place))) is not None:
                if (truth := self.turns.get(turn.id)) is not None:
                    assert _words(turn.entries) == truth.words
                while not self._do(turns.close, turn.id, turn.epoch, COMPLETED):
                    self._do(turns.read_inbox, turn.id, turn.epoch, 1)
        read: Counter[int] = Counter()
        for place in PLACES:
            for turn in self.runner.run(self.store.turns_of(session_key(place))):
                assert [type(entry) for entry in turn.entries].count(Ended) == 1
                ids = [each.id for entry in turn.entries if isinstance(entry, MessagesRead) for each in entry.messages]
                assert ids == sorted(ids), "in the order in which they were written"
                read.update(ids)
                if (truth := self.turns.get(turn.id)) is not None:
                    assert _words(turn.entries) == truth.words
        assert set(read.values()) <= {1}
        assert set(read) == set(self.rows)


def _words(entries: tuple[Entry, ...]) -> list[str]:
    return [
        part.text
        for entry in entries
        if isinstance(entry, ModelAnswered)
        for part in entry.parts
        if isinstance(part, Text)
    ]


def _unfinished(connection: Connection) -> list[str]:
    rows = connection.exec_driver_sql("SELECT session FROM turns WHERE state = 'running' AND kind = 'turn'")
    return list(rows.scalars())


EXAMPLES = {"sqlite": 60, "postgresql": 15}


@pytest.mark.engines
def test_whatever_workers_do_only_the_holder_writes_and_nothing_is_lost(engine: Kind) -> None:
    run_machine(WorkerMachine, examples=EXAMPLES[engine], steps=40)
