"""The store on PostgreSQL: what processes on one database exclude, and what happens when the server is not there.

A store of its own in this process is to the database what another process is.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from math import inf, nan
from pathlib import Path
from signal import SIGKILL
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Connection, bindparam, func, insert, literal, select, update
from sqlalchemy.exc import DBAPIError

from agent.log import Call
from agent.models.scripted import ScriptedModel
from agent.tool import ToolContext, tool
from agent.tools.delegate import delegate
from gateway.store import Store, open_store
from gateway.store.errors import StoreFailed, StoreUnreachable
from gateway.store.postgres import PATIENCE, open_postgres
from gateway.store.postgres_database import MAX_IDLE
from gateway.store.postgres_driver import REMEMBERED
from gateway.store.schema import audit, sessions
from gateway.store.scope import WHOLE, Apart, OfMessage, OfSession, OfTable, OfTurn, Scope
from gateway.store.urls import database_url
from tests.engines import engines
from tests.gateway.notes import ANSWER, COMPLETED, SESSION, begin, first_words, message, tell, url_of
from tests.gateway.play import playing
from tests.servers.postgres import running
from tests.servers.proxy import Proxy, Way, proxy

pytestmark = pytest.mark.engines("postgresql")

OTHER = "telegram/bot/8"
COMMIT = b"COMMIT\0"
STEP = 40
"""Bytes between the places at which a connection is cut."""


@pytest.fixture
async def elsewhere(tmp_path: Path, store: Store) -> AsyncIterator[Store]:
    """The store of another process on the same database."""
    async with open_store(url_of(tmp_path), worker="elsewhere") as store:
        yield store


class Held:
    """A write that has begun, and ends when it is let."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self._begun = asyncio.Event()
        self._end = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.attempts = 0
        self.task = asyncio.create_task(store.write(self._hold, scope))

    def _hold(self, connection: Connection) -> None:
        self.attempts += 1
        connection.exec_driver_sql("SELECT 1")
        self._loop.call_soon_threadsafe(self._begun.set)
        assert self._end.wait(60)
        connection.exec_driver_sql("SELECT 1")

    async def begun(self) -> None:
        async with asyncio.timeout(60):
            await self._begun.wait()

    async def let(self) -> None:
        self._end.set()
        async with asyncio.timeout(60):
            await self.task


@asynccontextmanager
async def held(store: Store, scope: Scope) -> AsyncIterator[Held]:
    holding = Held(store, scope)
    await holding.begun()
    try:
        yield holding
    finally:
        await holding.let()


def waiting_for_locks(file: Path) -> int:
    [(number,)] = engines.sql(file, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return int(number)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what the server does has no events here
            await asyncio.sleep(0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "interject.db"


# What is excluded


async def test_a_conversation_is_written_by_one_process_at_a_time_and_others_meanwhile(
    store: Store, elsewhere: Store, file: Path
) -> None:
    async with held(store, OfSession(SESSION)):
        same = asyncio.create_task(tell(elsewhere, "second"))
        async with asyncio.timeout(60):
            await tell(elsewhere, "meanwhile", OTHER)
        await until(lambda: waiting_for_locks(file))
        assert not same.done()
    await same
    assert first_words(await begin(store)) == ["second"]


@pytest.mark.parametrize("scope", ["turn", "message", "task"])
async def test_what_belongs_to_a_conversation_waits_for_it(
    store: Store, elsewhere: Store, file: Path, scope: str
) -> None:
    said = await tell(store)
    turn = await begin(store)
    writes: dict[str, Callable[[], Any]] = {
        "turn": lambda: elsewhere.append(turn.id, turn.epoch, (ANSWER,)),
        "message": lambda: elsewhere.mark_ready(said.id, (), ()),
        "task": lambda: elsewhere.set_busy(f"{SESSION}/w/w1", None),
    }
    async with held(store, OfSession(SESSION)):
        writing = asyncio.create_task(writes[scope]())
        await until(lambda: waiting_for_locks(file))
        assert not writing.done()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_write_of_the_whole_waits_for_all_others_and_they_for_it(
    tmp_path: Path, store: Store, elsewhere: Store, file: Path
) -> None:
    async with open_store(url_of(tmp_path), worker="third") as third:
        async with held(store, OfSession(SESSION)):
            whole = asyncio.create_task(elsewhere.write(lambda connection: None, WHOLE))
            await until(lambda: waiting_for_locks(file) == 1)
            # In the other two it could be queued behind the write that is there.
            another = asyncio.create_task(tell(third, "after it", OTHER))
            await until(lambda: waiting_for_locks(file) == 2)
            assert not whole.done()
        await asyncio.gather(whole, another)


async def test_a_worker_beats_while_the_whole_is_written(store: Store, elsewhere: Store) -> None:
    async with held(store, WHOLE), asyncio.timeout(60):
        assert await store.beat(15.0, 0, 1) is not None
        assert await elsewhere.beat(15.0, 0, 1) is not None


async def test_writes_of_one_table_exclude_each_other(store: Store, elsewhere: Store, file: Path) -> None:
    async with held(store, OfTable("one")):
        same = asyncio.create_task(elsewhere.write(lambda connection: None, OfTable("one")))
        async with asyncio.timeout(60):
            await elsewhere.write(lambda connection: None, OfTable("other"))
        await until(lambda: waiting_for_locks(file))
        assert not same.done()
    await same


async def test_a_conversation_with_its_tools_and_tasks_never_waits_for_another(tmp_path: Path) -> None:
    """Nothing that happens with each message or call is written as `Whole`."""
    gate = asyncio.Event()

    @tool(effect="external", on_steer="background")
    async def paint(context: ToolContext) -> str:
        """Paints."""
        await gate.wait()
        return "painted"

    task = Call("", "delegate", '{"task": "Count."}')
    model = ScriptedModel([Call("", "paint", "{}")], "One moment.", [task], "Three.", "There are three.")
    async with (
        playing(tmp_path, model, paint, delegate, bound=120) as play,
        open_store(engines.url(play.database), worker="elsewhere") as elsewhere,
        held(elsewhere, OfSession(SESSION)) as another,
    ):
        await play.say("paint")
        await until(lambda: play.sql("SELECT 1 FROM turn_log WHERE entry LIKE '%call_started%'"))
        await play.say("and hurry")
        await play.reply("One moment.")
        gate.set()
        await play.reply("There are three.")
        await play.say("/status")
        await play.until_idle()
        assert another.attempts == 1


async def test_while_one_conversation_waits_for_another_process_all_others_go_on(
    store: Store, elsewhere: Store
) -> None:
    others = [f"telegram/bot/other{number}" for number in range(20)]
    async with held(store, OfSession(SESSION)):
        same = []
        for number in range(5):
            same.append(asyncio.create_task(tell(elsewhere, str(number))))
            async with asyncio.timeout(60):
                await asyncio.gather(*(tell(elsewhere, str(number), other) for other in others))
        assert not any(task.done() for task in same)
    await asyncio.gather(*same)
    assert first_words(await begin(elsewhere)) == [str(number) for number in range(5)]


async def test_a_write_that_waits_for_another_process_is_written_before_the_store_closes(
    tmp_path: Path, store: Store, file: Path
) -> None:
    closing = AsyncExitStack()
    elsewhere = await closing.enter_async_context(open_store(url_of(tmp_path), worker="elsewhere"))
    async with held(store, OfSession(SESSION)):
        same = asyncio.create_task(tell(elsewhere, "hi"))
        await until(lambda: waiting_for_locks(file))
        end = asyncio.create_task(closing.aclose())
        await until(lambda: waiting_for_locks(file))
        assert not end.done()
    async with asyncio.timeout(60):
        await asyncio.gather(same, end)
    assert first_words(await begin(store)) == ["hi"]


async def test_messages_that_two_processes_accept_have_one_order(store: Store, elsewhere: Store) -> None:
    texts = [str(number) for number in range(40)]
    for number, text in enumerate(texts):
        await tell((store, elsewhere)[number % 2], text)
    assert first_words(await begin(elsewhere)) == texts


async def test_one_event_that_two_processes_receive_is_stored_once(store: Store, elsewhere: Store) -> None:
    said = message("hi", event="same")
    arrivals = await asyncio.gather(*((store, elsewhere)[number % 2].accept(said, SESSION) for number in range(20)))
    assert sorted(arrival.duplicate for arrival in arrivals if arrival) == [False] + [True] * 19
    assert await store.count_waiting(SESSION) == 1


async def test_of_two_processes_that_claim_one_gets_the_turn(store: Store, elsewhere: Store) -> None:
    for number in range(10):
        session = f"telegram/bot/{number}"
        await tell(store, "hi", session)
        turns = await asyncio.gather(store.claim(session), elsewhere.claim(session))
        assert sum(turn is not None for turn in turns) == 1


@pytest.fixture
def two_stores(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, Store, Store]]:
    """For tests that Hypothesis runs many times."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        stores = [
            runner.run(stack.enter_async_context(open_store(url_of(tmp_path), worker=name))) for name in ("one", "two")
        ]
        yield runner, stores[0], stores[1]
        runner.run(stack.aclose())


def test_a_turn_ends_with_an_empty_inbox_whoever_accepts_the_messages(
    two_stores: tuple[asyncio.Runner, Store, Store],
) -> None:
    """A message that comes while its turn ends elsewhere is read by that turn, or begins the next one."""
    runner, here, there = two_stores
    played: set[tuple[bool, bool]] = set()
    numbers = iter(range(10_000))

    async def play(early: int, late: int) -> None:
        session = f"telegram/bot/{next(numbers)}"
        await tell(here, "first", session)
        turn = await begin(here, session)

        async def close() -> bool:
            for _ in range(early):
                await asyncio.sleep(0)
            return bool(await here.close(turn.id, turn.epoch, COMPLETED, (ANSWER,)))

        async def accept() -> bool:
            for _ in range(late):
                await asyncio.sleep(0)
            _, begun = await there.accept_and_begin(message("second"), session)
            return begun is not None

        closed, begun = await asyncio.gather(close(), accept())
        played.add((closed, begun))
        assert closed == begun, "too late for one turn, too early for the next"
        if not closed:
            read = await here.read_inbox(turn.id, turn.epoch, 2)
            assert read is not None
            assert [each.text for each in read.messages] == ["second"]

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.integers(0, 40), st.integers(0, 40))
    def interleaving(early: int, late: int) -> None:
        runner.run(play(early, late))

    interleaving()
    assert played == {(True, True), (False, False)}


@pytest.mark.parametrize("scope", ["turn", "message"])
async def test_what_belongs_to_a_conversation_is_written_in_the_order_of_the_calls_also_when_it_was_begun_elsewhere(
    store: Store, elsewhere: Store, scope: str
) -> None:
    written: dict[str, list[str]] = {}
    calls: list[tuple[str, Scope]] = []
    for number in range(20):
        session = f"telegram/bot/{number}"
        said = await tell(store, "hi", session)
        own = OfTurn((await begin(store, session)).id) if scope == "turn" else OfMessage(said.id)
        calls += [(session, own), (session, OfSession(session)), (session, own), (session, OfSession(session))]
    numbers = iter(range(len(calls)))

    async def write(session: str, scope: Scope) -> None:
        own = f"{next(numbers)} {type(scope).__name__}"
        written.setdefault(session, [])
        await elsewhere.write(lambda connection: written[session].append(own), scope)
        written[session].append(f"{own} is told")

    await asyncio.gather(*(write(*call) for call in calls))
    for session, events in written.items():
        done = [event for event in events if not event.endswith("told")]
        told = [event.removesuffix(" is told") for event in events if event.endswith("told")]
        assert done == told == sorted(done, key=lambda event: int(event.split()[0])), session


async def test_statements_of_many_kinds_leave_few_prepared_in_the_server(store: Store) -> None:
    """A list of values is another statement with each length, and so are numbers of other sizes."""

    def ask(connection: Connection) -> int:
        for length in range(1, 300):
            for _ in range(5):
                assert connection.scalar(select(literal("x").in_(["x"] * length)))
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one())

    summands = [bindparam(f"n{number}", type_=BigInteger) for number in range(5)]
    changing = update(sessions).where(sum(summands[1:], summands[0]) < 0).values(title="x")

    def change(connection: Connection) -> int:
        for numbers in itertools.product([0, 2**20, 2**40], repeat=5):
            for _ in range(4):
                connection.execute(changing, {f"n{number}": value for number, value in enumerate(numbers)})
        return int(connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one())

    for _ in range(2):
        assert 0 < await store.write(ask, Apart("many")) <= REMEMBERED
        assert 0 < await store.write(change, Apart("many")) <= REMEMBERED


async def test_statements_that_no_longer_fit_are_prepared_anew(store: Store) -> None:
    await store.write(lambda c: c.exec_driver_sql("CREATE TABLE kept AS SELECT 1 AS number").rowcount, WHOLE)

    def ask(connection: Connection) -> list[Any]:
        return list(connection.exec_driver_sql("SELECT number FROM kept WHERE number = $1", (1,)))

    async def ask_often() -> None:
        for _ in range(5):
            assert await store.write(ask, Apart("kept")) == await store.read(ask) == [(1,)]

    await ask_often()
    await store.write(lambda c: c.exec_driver_sql("ALTER TABLE kept ALTER number TYPE bigint").rowcount, WHOLE)
    await ask_often()
    await store.read(lambda c: c.exec_driver_sql("DEALLOCATE ALL").rowcount)
    await ask_often()


async def test_what_is_rolled_back_is_not_called_stored(store: Store) -> None:
    def swallow(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE lost (number integer)")
        with suppress(DBAPIError):
            connection.exec_driver_sql("SELECT 1/0")

    with pytest.raises(StoreFailed, match="transaction is aborted"):
        await store.write(swallow, Apart("lost"))
    assert await store.write(lambda c: c.scalar(select(literal("x"))), Apart("lost")) == "x"


async def test_too_many_parameters_are_no_lost_connection(store: Store) -> None:
    names = ["x"] * 65_536
    for ask in (store.read, partial(store.write, scope=Apart("many"))):
        with pytest.raises(StoreFailed, match="parameters: more than 65535") as raised:
            await ask(lambda c: c.scalar(select(literal("x").in_(names))))
        assert not isinstance(raised.value, StoreUnreachable)


async def test_json_that_the_server_refuses_is_made_fit(store: Store) -> None:
    content = {"nul": "a\0b", "half": "\ud83d", "halves": "\ude00\ud83d", "none": nan, "too much": inf, "whole": "😀"}
    await store.write_mcp_account("notes", "", content, None)
    kept = await store.mcp_account("notes", "")
    assert kept is not None
    assert kept.content == {
        "nul": "a\ufffdb",
        "half": "\ufffd",
        "halves": "\ufffd\ufffd",
        "none": None,
        "too much": None,
        "whole": "😀",
    }


async def test_of_two_transactions_that_wait_for_each_other_one_is_run_again(store: Store, elsewhere: Store) -> None:
    await tell(store, "a", SESSION)
    await tell(store, "b", OTHER)
    meeting = threading.Barrier(2)
    attempts: list[str] = []

    def rename(first: str, second: str) -> Callable[[Connection], None]:
        def job(connection: Connection) -> None:
            attempts.append(first)
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '20ms'")
            change = "UPDATE sessions SET title = coalesce(title, '') || $1 WHERE key = $2"
            connection.exec_driver_sql(change, (first[-1], first))
            if attempts.count(first) == 1:
                meeting.wait(60)
            connection.exec_driver_sql(change, (first[-1], second))

        return job

    await asyncio.gather(
        store.write(rename(SESSION, OTHER), Apart("one")), elsewhere.write(rename(OTHER, SESSION), Apart("two"))
    )
    assert len(attempts) >= 3, "and perhaps once more: they may meet again"
    titles = [title for (title,) in await store.read(lambda c: list(c.exec_driver_sql("SELECT title FROM sessions")))]
    assert [sorted(title) for title in titles] == [["7", "8"], ["7", "8"]]


# When the server is not there


@asynccontextmanager
async def limited(url: str, *, patience: float = PATIENCE, max_idle: float = MAX_IDLE) -> AsyncIterator[Store]:
    async with open_postgres(database_url(url), patience=patience, max_idle=max_idle) as engine:
        yield Store(engine, "one")


@contextmanager
def between(url: str) -> Iterator[Proxy]:
    with proxy(engines.server().port) as made:
        yield made


async def test_a_transaction_whose_connection_is_cut_in_the_middle_is_run_again(tmp_path: Path, file: Path) -> None:
    url = url_of(tmp_path)
    with between(url) as line:
        async with open_store(line.url(url)) as store:
            async with held(store, OfSession(SESSION)) as holding:
                line.cut()
            assert holding.attempts == 2
            await tell(store, "afterwards")
        assert engines.sql(file, "SELECT text FROM inbox") == [("afterwards",)]


@pytest.mark.parametrize("answered", [True, False], ids=["after it", "before it"])
async def test_a_connection_that_is_cut_at_the_commit_leaves_exactly_one_write(
    tmp_path: Path, file: Path, answered: bool
) -> None:
    url = url_of(tmp_path)
    attempts = 0

    def write(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        given = connection.exec_driver_sql(
            "INSERT INTO audit (at, event, actor, actor_name, session, detail) "
            "VALUES (0, 'x', '', '', '', '{}') RETURNING id"
        )
        return int(given.scalar_one())

    with between(url) as line:
        async with open_store(line.url(url)) as store:
            line.cut_after(COMMIT) if answered else line.cut_before(COMMIT)
            id = await store.write(write, Apart("audit"))
        assert line.cuts == 1
    assert engines.sql(file, "SELECT id FROM audit") == [(id,)]
    assert attempts == (1 if answered else 2)


_note = insert(audit).values(event="x", actor="", actor_name="", session="", at=bindparam("at"), detail=bindparam("of"))
_noted = select(func.count()).select_from(audit).where(audit.c.at == bindparam("at"))


@pytest.mark.parametrize("way", ["sent", "answered"])
async def test_wherever_a_connection_is_cut_each_write_is_there_once(tmp_path: Path, file: Path, way: Way) -> None:
    """Some of the statements are sent together, and the last ones with the COMMIT."""
    url = url_of(tmp_path)
    numbers, passed = itertools.count(1), 0

    def write(connection: Connection) -> datetime:
        at = datetime.fromtimestamp(next(numbers), UTC)
        for number in range(2):
            connection.execute(_note, {"at": at, "of": {"number": number}})
        assert connection.execute(_noted, {"at": at}).scalar_one() == 2
        connection.execute(_note, {"at": at, "of": {"number": 2}})
        return at

    with between(url) as line:
        async with open_store(line.url(url)) as store:
            written = list[datetime]()
            while line.cuts == passed // STEP:
                # On each connection, the statements are to be prepared.
                written += [await store.write(write, Apart("audit")) for _ in range(4)]
                line.cut_behind(way, passed)
                written.append(await store.write(write, Apart("audit")))
                passed += STEP
    assert line.cuts > 5
    found = engines.sql(file, "SELECT at, count(*) FROM audit GROUP BY at ORDER BY at")
    assert found == [(at.timestamp(), 3) for at in written]


async def test_while_megabytes_wait_to_be_sent_the_event_loop_goes_on(tmp_path: Path, file: Path) -> None:
    url = url_of(tmp_path)
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def write(connection: Connection) -> None:
        for _ in range(30):
            connection.execute(_note, {"at": datetime.now(UTC), "of": {"text": "x" * 1_000_000}})
        line.clogged.set()
        loop.call_soon_threadsafe(begun.set)

    with between(url) as line:
        async with open_store(line.url(url)) as store:
            for _ in range(2):
                begun.clear()
                writing = asyncio.create_task(store.write(write, Apart("audit")))
                await begun.wait()
                for _ in range(50):
                    await asyncio.sleep(0.01)
                line.clogged.clear()
                await writing
    assert engines.sql(file, "SELECT count(*) FROM audit") == [(60,)]


async def test_a_read_whose_connection_is_cut_is_made_again(tmp_path: Path) -> None:
    url = url_of(tmp_path)
    with between(url) as line:
        async with open_store(line.url(url)) as store:
            await tell(store, "hi")
            await store.rows(SESSION)
            line.cut()
            assert [row.text for row in await store.rows(SESSION)] == ["hi"]


async def test_while_the_server_is_restarted_writes_wait_and_go_on_in_their_order(tmp_path: Path) -> None:
    with running() as server:
        async with open_store(server.create()) as store:
            await tell(store, "before")
            await asyncio.to_thread(server.stop)
            writing = [asyncio.create_task(tell(store, str(number))) for number in range(20)]
            reading = asyncio.create_task(store.count_waiting(SESSION))
            await asyncio.to_thread(server.start)
            await asyncio.gather(*writing, reading)
            assert first_words(await begin(store)) == ["before", *map(str, range(20))]


async def test_a_transaction_in_which_the_server_crashes_is_run_again(tmp_path: Path) -> None:
    """It has forgotten that there was such a transaction."""
    attempts = 0

    with running(("fsync=off",)) as server:

        def write(connection: Connection) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 4:
                # Then it ends all others too, and recovers.
                os.kill(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(), SIGKILL)
            for number in range(3):
                connection.execute(_note, {"at": datetime.fromtimestamp(attempts, UTC), "of": {"number": number}})

        async with open_store(server.create()) as store:
            for _ in range(4):
                await store.write(write, Apart("audit"))
            assert (
                await store.read(lambda connection: connection.execute(select(func.count(audit.c.id))).scalar()) == 12
            )
    assert attempts == 5


async def test_a_crashed_server_that_gives_the_same_number_to_another_transaction_stores_both(tmp_path: Path) -> None:
    attempts = 0

    with running(("fsync=off",)) as server:
        url = server.create()

        def write(connection: Connection) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 4:
                number, backend = connection.exec_driver_sql(
                    "SELECT pg_current_xact_id()::text, pg_backend_pid()"
                ).one()
                os.kill(backend, SIGKILL)
                assert next_transaction(url) == number
            for each in range(3):
                connection.execute(_note, {"at": datetime.fromtimestamp(attempts, UTC), "of": {"number": each}})

        async with open_store(url) as store:
            for _ in range(4):
                await store.write(write, Apart("audit"))
            assert (
                await store.read(lambda connection: connection.execute(select(func.count(audit.c.id))).scalar()) == 12
            )
    assert attempts == 5


def next_transaction(url: str) -> str:
    """Commits one as soon as the server has recovered; its number."""
    for _ in range(600):
        with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE another ()")
            found = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            assert found is not None
            return str(found[0])
        time.sleep(0.05)
    raise AssertionError("the server has not recovered")


async def test_a_server_that_stays_away_is_told_and_nothing_is_stored(tmp_path: Path, file: Path) -> None:
    url = url_of(tmp_path)
    with between(url) as line:
        async with limited(line.url(url), patience=0.3) as store:
            line.refusing = True
            line.cut()
            for failing in (tell(store, "lost"), store.rows(SESSION)):
                with pytest.raises(StoreUnreachable, match="cannot be reached") as told:
                    await failing
                assert "secret" not in str(told.value)
            line.refusing = False
            await tell(store, "found")
        assert engines.sql(file, "SELECT text FROM inbox") == [("found",)]


async def test_a_process_that_stops_in_a_transaction_holds_nobody_up_for_long(tmp_path: Path, elsewhere: Store) -> None:
    async with limited(url_of(tmp_path), max_idle=0.3) as stopped, held(stopped, OfSession(SESSION)) as holding:
        async with asyncio.timeout(30):
            await tell(elsewhere, "hi")
        assert not holding.task.done()
    assert holding.attempts == 2, "it goes on with its write when it goes on"


async def test_a_write_that_learns_late_that_its_connection_is_lost_is_run_again(
    tmp_path: Path, elsewhere: Store
) -> None:
    """As after a pause of the machine, or of the network."""
    async with (
        limited(url_of(tmp_path), patience=0.1, max_idle=0.3) as stopped,
        held(stopped, OfSession(SESSION)) as holding,
    ):
        async with asyncio.timeout(30):
            await tell(elsewhere, "hi")
    assert holding.attempts == 2


async def test_a_process_that_stops_in_a_transaction_holds_nobody_up_for_longer_than_its_lease(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path), lease=3.0) as store:
        asked = "SHOW idle_in_transaction_session_timeout"
        assert await store.read(lambda connection: connection.exec_driver_sql(asked).scalar()) == "2s"


async def test_a_query_whose_caller_is_gone_leaves_no_connection_behind(tmp_path: Path, file: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        giving_up = [
            asyncio.create_task(store.read(lambda connection: connection.exec_driver_sql("SELECT pg_sleep(0.2)").all()))
            for _ in range(8)
        ]
        await until(lambda: engines.sql(file, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%'"))
        for task in giving_up:
            task.cancel()
        await asyncio.gather(*giving_up, return_exceptions=True)
        async with asyncio.timeout(60):
            assert await store.rows(SESSION) == ()
    mine = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await until(lambda: engines.sql(file, f"SELECT count(*) {mine}") == [(0,)])


async def test_a_full_disk_is_explained(store: Store) -> None:
    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'could not extend file'; END $$")

    with pytest.raises(StoreFailed, match="its disk is full"):
        await store.write(fill)
