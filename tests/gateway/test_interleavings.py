"""Ten thousand interleavings of people, turns, commands, background work, crashes and restarts over the store's
transactions."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, takewhile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from agent.journal import TurnLost
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    UserMessage,
)
from agent.log_state import unresolved, waits_for_people
from agent.transcript import Results, transcript
from channels.address import Address, Sender
from channels.message import InboundMessage, MessageKind
from gateway.sessions import is_child, session_key
from gateway.store import logs, reading, runs, turns
from gateway.store.arrivals import ALBUM, DECIDED
from gateway.store.edits import STOPPED, WITHDRAWN
from gateway.store.inbox import TOO_LATE_TO_WRAP
from gateway.store.postgres_database import open_database
from gateway.store.records import AcceptOptions, Busy, Run, Turn
from gateway.store.sqlite_file import open_current
from gateway.store.urls import database_url
from tests.engines import engines
from tests.gateway.notes import PHOTO, message
from tests.gateway.stepwise import GOES_ON, NOW, Gateway, first_read

EXAMPLES = int(os.environ.get("INTERLEAVINGS", "10000"))
"""More of them find what is rarer; `INTERLEAVINGS=100000 HYPOTHESIS_PROFILE=random` looks for new ones."""

PARTS = 8
"""Tests side by side, each with a seed of its own."""

SHARE = 50
"""On PostgreSQL one of so many is played: the rules are the same, and each statement is a round trip."""

HERE = Address("telegram", "bot", "7")
THERE = Address("telegram", "bot", "-9", None, "group")
PEOPLE = (Sender("1", "Ann"), Sender("2", "Ben"))
MANNERS: tuple[Busy | None, ...] = (None, "queue", "collect", "interrupt", "steer")
WORDS = ("yes", "no, not now", "always", "this")

LAWS = (
    (
        "inbox",
        "UPDATE",
        "OLD.state <> 'waiting' AND (NEW.state <> OLD.state OR coalesce(NEW.turn, '') <> coalesce(OLD.turn, '') "
        "OR coalesce(NEW.step, -1) <> coalesce(OLD.step, -1))",
        "a row that has ended is changed",
    ),
    ("inbox", "DELETE", "TRUE", "a row is deleted"),
    (
        "turns",
        "UPDATE",
        "OLD.state <> 'running' AND (NEW.state <> OLD.state OR NEW.reason <> OLD.reason OR NEW.epoch < OLD.epoch)",
        "a turn that has ended is changed",
    ),
    ("turn_log", "UPDATE", "TRUE", "a log is rewritten"),
    (
        "turn_log",
        "INSERT",
        "(SELECT kind <> 'command' AND state <> 'running' FROM turns WHERE number = NEW.turn)",
        "a log goes on after its end",
    ),
)
"""What the database itself watches over, at every write: a table, an event, when it is refused, and why."""

GOES_ON_ALTHOUGH_STOPPED = """
SELECT turns.id FROM work JOIN turns ON turns.session = work.child
WHERE work.state = 'stopped' AND turns.state = 'running' AND turns.kind = 'turn' AND turns.stop IS NULL
UNION ALL
SELECT CAST(inbox.id AS TEXT) FROM work JOIN inbox ON inbox.session = work.child
WHERE work.state = 'stopped' AND inbox.state = 'waiting'
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it was accepted; `busy` is what it was to do to a running turn."""

    message: InboundMessage
    busy: str


class World:
    """People and processes around one store. `ghosts` are turns that a killed process held."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = count(1)
        self._workers = count(1)
        self._asked: list[str] = []
        self._sent: dict[int, Sent] = {}
        self._stopped: list[tuple[str, int, int]] = []
        self._ghosts: list[tuple[str, int]] = []
        self._ended: dict[str, Run] = {}
        self._begin()

    def _begin(self) -> None:
        self.gateway = Gateway(self._connection, f"worker {next(self._workers)}", self._numbers, self._asked)

    # What may happen, each with one number that says how

    def say(self, n: int) -> None:
        self._deliver("new", f"words {next(self._numbers)}", n, busy=MANNERS[n // 4 % len(MANNERS)])

    def say_what_may_decide(self, n: int) -> None:
        self._deliver("new", WORDS[n // 4 % len(WORDS)], n)

    def send_a_file(self, n: int) -> None:
        self._deliver("new", f"look {next(self._numbers)}", n, files=True)

    def say_again(self, n: int) -> None:
        if self._sent:
            sent = list(self._sent.values())[n % len(self._sent)]
            assert self.gateway.accept(sent.message, AcceptOptions()).duplicate

    def edit(self, n: int) -> None:
        self._change("edited", f"other words {next(self._numbers)}", n)

    def withdraw(self, n: int) -> None:
        self._change("withdrawn", "", n)

    def _change(self, kind: MessageKind, text: str, n: int) -> None:
        if self._sent:
            meant = list(self._sent.values())[-1 - n % len(self._sent)].message
            changed = message(text, id=meant.message_id, kind=kind, sender=meant.sender, address=meant.address)
            self._accept(changed, AcceptOptions())

    def stop(self, n: int) -> None:
        self._deliver("command", "", n, command="stop")

    def wrap(self, n: int) -> None:
        self._deliver("command", "and be brief", n, command="wrap")

    def begin_anew(self, n: int) -> None:
        self._deliver("command", "", n, command="new")

    def undo(self, n: int) -> None:
        self._deliver("command", "", n, command="undo")

    def retry(self, n: int) -> None:
        self._deliver("command", "", n, command="retry")

    def ask_on_the_side(self, n: int) -> None:
        self._deliver("command", "What is it?", n, command="btw")

    def press(self, n: int) -> None:
        """An option of one of the last questions, open or not."""
        if self._asked:
            key = self._asked[-1 - n // 16 % min(2, len(self._asked))]
            self._deliver("command", f"{key} {n // 4 % 3}", n, command="answer")

    def go_on(self, n: int) -> None:
        self.gateway.step(n // 11, n)

    def go_on_for_a_while(self, n: int) -> None:
        for step in range(2 + n % 8):
            self.gateway.step(n // 11 + step, n + step)
            self.check_now()

    def let_time_pass(self, n: int) -> None:
        self.gateway.expire(NOW + timedelta(hours=2 * (n % 3)))

    def steer_task(self, n: int) -> None:
        self.gateway.steer_task(n, f"words {next(self._numbers)}")

    def supply(self, n: int) -> None:
        unfinished = self._all("SELECT id FROM turns WHERE state = 'running' AND kind = 'turn' ORDER BY number")
        if unfinished:
            self.gateway.supply(str(unfinished[n // 3 % len(unfinished)][0]), n)

    def kill(self, n: int) -> None:
        self._remember()
        self._begin()

    def shut_down(self, n: int) -> None:
        self.gateway.shut_down(range(n % 7))
        self._remember()
        self._begin()

    def write_as_a_ghost(self, n: int) -> None:
        """A process that was taken for dead writes to a turn that another has taken over."""
        if not self._ghosts:
            return
        turn_id, epoch = self._ghosts[n % len(self._ghosts)]
        now = self._turn(turn_id)
        if isinstance(now.entries[-1], Ended) or now.epoch > epoch:
            with pytest.raises(TurnLost):
                self.gateway.do(turns.append, turn_id, epoch, [ApprovalDecided("ghost", "allowed")])

    def look(self, n: int) -> None:
        """Whoever waits for what they said learns of its end."""
        for run in self._runs():
            if run.is_over:
                assert self._ended.setdefault(run.run_id, run) == run

    def _remember(self) -> None:
        self._ghosts.extend(
            (active.turn.id, active.turn.epoch) for active in self.gateway.active.values() if active.record
        )

    def _deliver(
        self,
        kind: MessageKind,
        text: str,
        n: int,
        *,
        command: str | None = None,
        files: bool = False,
        busy: Busy | None = None,
    ) -> None:
        address = THERE if n % 4 == 3 else HERE
        sender = PEOPLE[n // 32 % 2] if address is THERE else PEOPLE[0]
        said = message(
            text, kind=kind, command=command, address=address, sender=sender, files=(PHOTO,) if files else ()
        )
        self._accept(said, AcceptOptions(busy=busy, own_turn_only=address is THERE and sender is PEOPLE[1]))

    def _accept(self, said: InboundMessage, options: AcceptOptions) -> None:
        before = self._all("SELECT id, busy FROM inbox WHERE state = 'waiting'")
        arrival = self.gateway.accept(said, options)
        assert not arrival.duplicate
        assert all(arrival.id > id for id, _ in before)
        ((busy,),) = self._all(f"SELECT busy FROM inbox WHERE id = {arrival.id}")
        self._sent[arrival.id] = Sent(said, busy)

    # What always holds

    def check_now(self) -> None:
        for number, state, kind in self._all(
            "SELECT number, state, kind FROM turns WHERE parked AND state = 'running'"
        ):
            entries = self.gateway.do(logs.read, number)
            assert (state, kind) == ("running", "turn")
            assert waits_for_people(entries), "a turn waits for people who were asked nothing"
        assert self._all(GOES_ON_ALTHOUGH_STOPPED) == [], "what is stopped ends with all that was for it"
        for session in self.gateway.completed:
            waiting = self._all(
                f"SELECT busy, kind = 'command' OR NOT ready FROM inbox WHERE session = '{session}' "
                "AND state = 'waiting' ORDER BY id"
            )
            readable = takewhile(lambda row: not row[1], waiting)
            assert "steer" not in {busy for busy, _ in readable}, "a turn completes when nothing steers it"
        self.gateway.completed.clear()
        for session, row_id in self.gateway.stops_answered:
            waiting = self._all(
                f"SELECT id FROM inbox WHERE session = '{session}' AND id < {row_id} AND state = 'waiting' "
                "AND kind <> 'command'"
            )
            assert waiting == [], "a stop leaves nothing that came before it"
            for (id,) in self._all(f"SELECT id FROM turns WHERE session = '{session}' AND state = 'running'"):
                turn = self._turn(id)
                assert turn.kind == "aside" or first_read(turn.entries) > row_id, "a stop ends what came before it"
            ((last,),) = self._all("SELECT coalesce(max(number), 0) FROM turns")
            self._stopped.append((session, row_id, last))
        self.gateway.stops_answered.clear()

    # How it ends

    def settle(self) -> None:
        """Everything comes to its end, as a gateway that is left alone would have it, with people who answer."""
        for round in range(1000):
            if not self.gateway.is_quiet:
                self.gateway.step(round, 0)
            elif self._all("SELECT 1 FROM turns WHERE deadline IS NOT NULL AND state = 'running'"):
                self.gateway.expire(NOW + timedelta(days=1))
            elif parked := self._all("SELECT address FROM turns WHERE parked AND state = 'running'"):
                self._deliver("new", "this", 3 if "group" in str(parked[0][0]) else 0)
            else:
                return
            self.check_now()
        raise AssertionError("it does not come to rest")

    def check(self) -> None:
        self.look(0)
        found = {
            row[0]: row[1:]
            for row in self._all("SELECT id, state, turn, step, generation, session, kind, reason FROM inbox")
        }
        assert set(self._sent) <= set(found), "no message is lost"
        assert all(state != "waiting" for state, *_ in found.values()), "everything comes to its end"
        every = [self._turn(id) for (id,) in self._all("SELECT id FROM turns WHERE kind <> 'command' ORDER BY number")]
        for turn in every:
            self._check_turn(turn)
        heard = [
            (said, entry, turn)
            for turn in every
            if turn.kind == "turn"
            for entry in turn.entries
            if isinstance(entry, MessagesRead)
            for said in entry.messages
        ]
        assert max(Counter(said.id for said, _, _ in heard).values(), default=1) == 1, "nothing is read twice"
        consumed = {id: row for id, row in found.items() if row[0] == "consumed"}
        assert {said.id for said, _, _ in heard} == set(consumed), "what is read was heard, and what was heard is read"
        for said, entry, turn in heard:
            assert consumed[said.id][1:5] == (turn.id, entry.step, turn.generation, turn.session)
        for session, row_id, last in self._stopped:
            for (id,) in self._all(
                f"SELECT id FROM turns WHERE session = '{session}' AND kind = 'turn' AND number > {last}"
            ):
                assert first_read(self._turn(id).entries) > row_id, "nothing that a stop covers begins after it"
        self._check_order([(said, turn) for said, _, turn in heard])
        outcomes = {turn.id: turn.entries[-1] for turn in every}
        for said, _, turn in heard:
            if found[said.id][5] == "withdrawn":
                before = [other.message_id for other, _, reader in heard if reader is turn and other.id < said.id]
                assert said.message_id in before, "a deletion is told to whom the message was told"
        for id, (state, _, _, _, session, kind, reason) in found.items():
            if reason == STOPPED:
                message_id = self._sent[id].message.message_id
                meant = [turn for said, _, turn in heard if said.message_id == message_id and said.id < id]
                assert outcomes[meant[-1].id] != Ended("completed"), "a turn whose words are deleted is not completed"
            if state == "withdrawn":
                self._check_withdrawn(id, session, reason)
            elif state == "answered" and kind == "new":
                assert reason in (DECIDED, ALBUM)
        for run in self._runs():
            assert run.is_over, run
        self._check_work({turn.id: turn for turn in every})

    def _check_work(self, every: dict[str, Turn]) -> None:
        """Each result comes once: to the call that waited for it, or as a message."""
        assert not self._all("SELECT 1 FROM work WHERE state = 'running' OR waited"), "no work is forgotten"
        brought = {event for (event,) in self._all("SELECT event_id FROM inbox WHERE event_id LIKE 'work:%'")}
        for id, turn_id, call_id in self._all(
            "SELECT id, turn, call_id FROM work WHERE state IN ('done', 'failed', 'lost')"
        ):
            turn = every[str(turn_id)]
            ends = [entry for entry in turn.entries if isinstance(entry, CallEnded) and entry.call_id == call_id]
            seen = any(end.outcome in ("done", "failed") and end.text != GOES_ON for end in ends)
            if call_id is None or not _is_stopped(turn):
                assert seen != (f"work:{id}" in brought), "a result comes once"

    def _check_withdrawn(self, id: int, session: str, reason: str) -> None:
        """Only what somebody meant is set aside."""
        command, _, number = reason.partition(" ")
        if command in ("stop", "new") and number.isdecimal():
            assert id < int(number), "a stop covers nothing that came after it"
            assert session_key(self._sent[int(number)].message.address) == session
        elif reason == WITHDRAWN:
            meant = self._sent[id].message
            changes = [sent.message for row, sent in self._sent.items() if row > id]
            assert any(each.kind == "withdrawn" and each.message_id == meant.message_id for each in changes)
        else:
            assert reason == TOO_LATE_TO_WRAP or (is_child(session) and reason), reason

    def _check_turn(self, turn: Turn) -> None:
        entries = turn.entries
        ended = entries[-1]
        assert isinstance(ended, Ended)
        assert [type(entry) for entry in entries].count(Ended) == 1
        self._check_calls(entries)
        heard = [entry for entry in entries if isinstance(entry, MessagesRead)]
        assert entries[0] is heard[0]
        assert heard[0].messages[0].source != "wrap", "a wish for the end begins no turn"
        assert all(ids == sorted(ids) for ids in ([said.id for said in each.messages] for each in heard))
        assert [each.step for each in heard] == sorted(each.step for each in heard)
        if ended.outcome == "completed":
            assert _is_answered(entries), "a turn completes with an answer to all it has heard"
        command, _, number = ended.reason.partition(" ")
        if command in ("stop", "new") and number.isdecimal():
            assert heard[0].messages[0].id < int(number), "a stop ends no turn that came after it"

    def _check_calls(self, entries: tuple[Entry, ...]) -> None:
        calls = [call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls]
        ends = Counter(entry.call_id for entry in entries if isinstance(entry, CallEnded))
        assert ends == Counter(call.id for call in calls), "one result for each call"
        assert not unresolved(entries)
        shown = [result.call for each in transcript(entries) if isinstance(each, Results) for result in each.results]
        assert [call for call in calls if call in shown] == shown
        said = [each for each in transcript(entries) if isinstance(each, MessagesRead)]
        assert said == [entry for entry in entries if isinstance(entry, MessagesRead)], (
            "words of people are always shown"
        )
        questions = [entry.id for entry in entries if isinstance(entry, ApprovalRequested)]
        decided = [entry for entry in entries if isinstance(entry, ApprovalDecided)]
        assert max(Counter(entry.id for entry in decided).values(), default=1) == 1, "one decision for each question"
        assert {entry.id for entry in decided} <= set(questions)
        verdicts = {entry.id: entry.decision for entry in decided}
        for entry in entries:
            if isinstance(entry, CallStarted) and entry.call_id in questions:
                assert verdicts[entry.call_id].startswith("allowed"), "nothing runs that was not allowed"

    def _check_order(self, heard: list[tuple[UserMessage, Turn]]) -> None:
        """Of what is to be read in the same way, nothing overtakes anything in its conversation but a message whose
        files are being fetched, which a running turn does not wait for."""
        read: dict[tuple[str, str], list[int]] = {}
        for said, turn in heard:
            sent = self._sent.get(said.id)
            if sent is not None and sent.message.kind != "command" and not sent.message.files:
                read.setdefault((turn.session, sent.busy), []).append(said.id)
        assert all(ids == sorted(ids) for ids in read.values()), read

    # The store

    def _turn(self, id: str) -> Turn:
        return self.gateway.do(reading.turn, id)

    def _runs(self) -> Iterator[Run]:
        for (id,) in self._all("SELECT run FROM inbox WHERE run IS NOT NULL"):
            run = self.gateway.do(runs.run, id)
            assert run is not None
            yield run

    def _all(self, statement: str) -> list[tuple[object, ...]]:
        return list(self._connection.connection.cursor().execute(statement))


def _is_stopped(turn: Turn) -> bool:
    ended = turn.entries[-1]
    return isinstance(ended, Ended) and ended.outcome == "stopped"


def _is_answered(entries: tuple[Entry, ...]) -> bool:
    """Whether an answer comes after the last words that want one."""
    last = max(
        n for n, entry in enumerate(entries) if isinstance(entry, MessagesRead) and entry.messages[-1].source != "wrap"
    )
    return any(isinstance(entry, ModelAnswered) and not entry.interrupted for entry in entries[last:])


# What happens, as often as it stands here: two bytes of an example are one of these and how.
ACTS = (
    *(World.go_on,) * 11,
    *(World.go_on_for_a_while,) * 4,
    *(World.say,) * 4,
    *(World.press,) * 3,
    World.say_what_may_decide,
    World.send_a_file,
    World.say_again,
    *(World.edit,) * 2,
    *(World.withdraw,) * 2,
    *(World.stop,) * 2,
    *(World.wrap,) * 2,
    World.begin_anew,
    World.undo,
    *(World.retry,) * 2,
    World.ask_on_the_side,
    World.let_time_pass,
    World.steer_task,
    World.supply,
    *(World.kill,) * 2,
    World.shut_down,
    World.write_as_a_ghost,
    World.look,
)

SHORTEST, LONGEST = 5, 30


@contextmanager
def database(folder: Path) -> Iterator[Connection]:
    file = folder / "test.db"
    url = engines.url(file)
    opened = open_current(file) if engines.kind == "sqlite" else open_database(database_url(url), 1)
    try:
        for law in LAWS:
            engines.refuse(file, *law)
        with opened.connect() as connection:
            yield connection
    finally:
        opened.dispose()


def play(connection: Connection, example: bytes, tell: Callable[[str], None]) -> None:
    """One interleaving, in one transaction that is not kept."""
    with connection.begin() as kept:
        world = World(connection)
        for n in range(0, len(example) - 1, 2):
            act = ACTS[example[n] % len(ACTS)]
            tell(f"{act.__name__} {example[n + 1]}")
            act(world, example[n + 1])
            world.check_now()
        world.settle()
        world.check()
        kept.rollback()


@pytest.mark.engines("sqlite")
@pytest.mark.parametrize("part", range(PARTS))
def test_ten_thousand_interleavings_keep_every_law(
    tmp_path: Path, part: int, record_property: Callable[[str, object], None]
) -> None:
    play_many(tmp_path, part, EXAMPLES // PARTS, record_property)


@pytest.mark.engines("postgresql")
def test_interleavings_keep_every_law_on_postgresql(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    play_many(tmp_path, PARTS, EXAMPLES // SHARE, record_property)


def play_many(folder: Path, part: int, examples: int, record_property: Callable[[str, object], None]) -> None:
    number = secrets.randbelow(2**32) if os.environ.get("HYPOTHESIS_PROFILE") == "random" else part
    print(f"seed {number}")  # noqa: T201 - pytest shows it where the test fails
    played = 0
    with database(folder) as connection:

        @seed(number)
        @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(min_size=2 * SHORTEST, max_size=2 * LONGEST))
        def interleaving(example: bytes) -> None:
            nonlocal played
            played += 1
            play(connection, example, note)

        interleaving()
    record_property("seed", number)
    record_property("interleavings", played)
    assert played >= examples
