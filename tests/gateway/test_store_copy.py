"""`interject store copy` moves what a real gateway has written between SQLite and PostgreSQL, row by row."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gateway.cli.main import main
from gateway.store import open_store
from gateway.store.errors import StoreFailed
from gateway.store.schema import metadata
from tests.engines import engines
from tests.gateway.notes import begin, first_words, tell
from tests.gateway.test_from_settings import KEY, answering, person
from tests.install.old_databases import insert
from tests.servers.models import Call, ModelServer, Say
from tests.servers.postgres import Postgres

ROOT = Path(__file__).parents[2]
ASKS = Call("ask_user", {"question": "Red or blue?", "options": ["red", "blue"]})
NOT_COPIED = {"workers", "transaction_marks", "mcp_accounts", "mcp_sign_ins", "shared_secrets"}
BOTH_WAYS = pytest.mark.parametrize("to", ["postgresql", "sqlite"])


@pytest.fixture
def server() -> Postgres:
    return engines.server()


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def made(server: Postgres) -> Iterator[list[str]]:
    """Empty databases on the server, removed after the test."""
    urls = [server.create() for _ in range(2)]
    yield urls
    for url in urls:
        server.drop(url)


def run(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, on either engine."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as database:
            return database.execute(statement).fetchall()
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def copy(capsys: pytest.CaptureFixture[str], source: str, target: str, *options: str) -> dict[str, Any]:
    code = main(["store", "copy", source, target, "--json", *options])
    out, err = capsys.readouterr()
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def refused(capsys: pytest.CaptureFixture[str], source: str, target: str, *options: str) -> str:
    code = main(["store", "copy", source, target, *options])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    return err


async def filled(file: Path) -> str:
    """A database with a few messages that wait."""
    async with open_store(f"sqlite:///{file}") as store:
        await tell(store, "before the move")
    return f"sqlite:///{file}"


def add_many(url: str, count: int) -> None:
    """Rows for several batches. What is in their JSON no engine writes as the other does."""
    detail = '{"b": 1.0, "a": [1e-7, 1e16, -0.0, "\\u0000 \\ud800 é"]}'
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        database.executemany(
            "INSERT INTO audit (at, event, actor, actor_name, session, detail) VALUES (?, 'refused', ?, '', '', ?)",
            ((1e9 + number / 3, f"telegram:{number}", detail) for number in range(count)),
        )
        database.commit()


async def test_a_conversation_goes_on_on_the_other_engine_and_back_with_every_row(
    tmp_path: Path, models: ModelServer, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    models.respond(answering([ASKS], Say("Blue it is."), Say("Still here."), Say("And home again.")))
    async with person(tmp_path, models) as ann:
        await ann.say("paint it")
        await ann.sees(lambda replies: any(each["kind"] == "question" for each in replies[-1:][0]["segments"]))
    first = f"sqlite:///{tmp_path / 'home' / 'interject.db'}"
    with closing(sqlite3.connect(first.removeprefix("sqlite:///"))) as database:
        # First what others refer to.
        for table in (each.name for each in metadata.sorted_tables if each.name not in NOT_COPIED):
            if not database.execute(f"SELECT 1 FROM {table}").fetchone():
                insert(database, table, {})
        database.commit()
    copied = [name for name in metadata.tables if name not in NOT_COPIED]
    counts = {name: run(first, f"SELECT count(*) FROM {name}")[0][0] for name in copied}
    assert min(counts.values()) >= 1

    assert copy(capsys, first, made[0]) == {"rows": counts, "total": sum(counts.values()), "resumed": 0}
    async with person(tmp_path, models, f'[store]\nurl = "{made[0]}"\n') as ann:
        await ann.say("blue")
        assert "Blue it is." in await ann.sees(lambda replies: replies[-1]["done"])
        assert "Still here." in await ann.asks("are you there?")
    again = f"sqlite:///{tmp_path / 'home' / 'again.db'}"
    after = copy(capsys, made[0], again)["rows"]
    assert after["inbox"] > counts["inbox"]
    async with person(tmp_path, models, f'[store]\nurl = "{again}"\n') as ann:
        assert "And home again." in await ann.asks("and now?")
        said = json.dumps(await ann.replies())
    assert all(words in said for words in ("Red or blue?", "Blue it is.", "Still here."))
    assert "paint it" in json.dumps(models.requests[-1].body)


async def test_times_are_exact_and_what_no_database_can_store_is_replaced(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = await filled(tmp_path / "a.db")
    add_many(source, 3)
    run(source, "UPDATE audit SET actor_name = 'a' || char(0) || 'b', session = CAST(x'61EDA080' AS TEXT)")
    copy(capsys, source, made[0])
    times = "SELECT at FROM audit ORDER BY id"
    assert run(made[0], times) == run(source, times)
    [(name, session)] = run(made[0], "SELECT DISTINCT actor_name, session FROM audit")
    assert name == "a\N{REPLACEMENT CHARACTER}b"
    assert session == "a\N{REPLACEMENT CHARACTER}"
    [(detail,), *_] = run(made[0], "SELECT detail FROM audit")
    assert detail == {"a": [1e-7, 1e16, -0.0, "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER} é"], "b": 1}


async def test_new_rows_get_numbers_after_the_copied_ones(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = await filled(tmp_path / "a.db")
    for place in (made[0], f"sqlite:///{tmp_path / 'b.db'}", made[1]):
        copy(capsys, source, place)
        async with open_store(place) as store:
            await tell(store, f"after the move to {place[:6]}")
        source = place
    ids = [number for (number,) in run(source, "SELECT id FROM inbox ORDER BY id")]
    assert ids == [1, 2, 3, 4]
    async with open_store(source) as store:
        assert len(first_words(await begin(store))) == 4


async def started_copy(source: str, target: str) -> Process:
    """A copy as a process, after its first batch."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", "store", "copy", source, target),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stderr.readline(), 60)
    assert line.startswith(b"copied "), line
    return process


@pytest.fixture
async def interrupted(
    request: pytest.FixtureRequest, tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """A source and a target: the copy was killed in the middle."""
    source, target = await filled(tmp_path / "a.db"), made[0]
    add_many(source, 8_000)
    if request.param == "sqlite":
        copy(capsys, source, made[1])
        source, target = made[1], f"sqlite:///{tmp_path / 'b.db'}"
    process = await started_copy(source, target)
    process.kill()
    await process.communicate()
    return source, target


INTERRUPTED = pytest.mark.parametrize("interrupted", ["postgresql", "sqlite"], indirect=True)


@INTERRUPTED
async def test_a_killed_copy_goes_on_where_it_was(
    interrupted: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = interrupted
    with pytest.raises(StoreFailed, match="unfinished copy"):
        async with open_store(target):
            pass
    summary = copy(capsys, source, target)
    assert 0 < summary["resumed"] < summary["total"]
    assert summary["rows"]["audit"] == run(target, "SELECT count(*) FROM audit")[0][0] == 8_000
    async with open_store(target) as store:
        await tell(store, "it is a database now")
    assert "holds data already" in refused(capsys, source, target)


@INTERRUPTED
async def test_a_row_that_is_not_the_same_is_named_with_its_table_and_key(
    interrupted: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = interrupted
    run(target, "UPDATE audit SET at = at + 0.000001 WHERE id = 17")
    assert "the copy is not the same: in audit the row 17 differs" in refused(capsys, source, target)
    run(target, "UPDATE audit SET id = 99999 WHERE id = 17")
    assert "in audit the row 17 is missing" in refused(capsys, source, target)
    with pytest.raises(StoreFailed, match="unfinished copy"):
        async with open_store(target):
            pass
    assert copy(capsys, source, target, "--restart")["resumed"] == 0


async def test_an_unfinished_copy_goes_on_with_its_own_source_only(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = await filled(tmp_path / "a.db")
    add_many(source, 8_000)
    process = await started_copy(source, made[0])
    process.kill()
    await process.communicate()
    other = await filled(tmp_path / "b.db")
    assert f"an unfinished copy of {tmp_path / 'a.db'}, and not of this source" in refused(capsys, other, made[0])
    await filled(tmp_path / "a.db")
    assert "which has changed since" in refused(capsys, source, made[0])
    assert copy(capsys, source, made[0], "--restart")["resumed"] == 0


@BOTH_WAYS
async def test_nothing_is_copied_while_a_gateway_runs_on_either(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str], to: str
) -> None:
    source = await filled(tmp_path / "a.db")
    copy(capsys, source, made[0])
    target = made[1]
    if to == "sqlite":
        source, target = made[0], f"sqlite:///{tmp_path / 'b.db'}"
    async with open_store(source):
        running = refused(capsys, source, target)
        assert "a gateway" in running
        assert "stop it" in running
    async with open_store(target):
        assert "a gateway" in refused(capsys, source, target)
    copy(capsys, source, target)


async def test_a_database_of_others_is_not_touched_and_no_password_is_shown(
    tmp_path: Path, made: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = await filled(tmp_path / "a.db")
    run(made[0], "CREATE TABLE songs (title text)")
    assert "tables of another program (songs)" in refused(capsys, source, made[0])
    assert run(made[0], "SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == [("songs",)]
    assert "into itself" in refused(capsys, source, source)
    assert "there is nothing to copy" in refused(capsys, f"sqlite:///{tmp_path / 'none.db'}", made[1])
    for odd in (made[1].replace("secret", "p@zebra"), made[1].replace("secret@", "h:zebra/")):
        assert "zebra" not in refused(capsys, source, odd)
    wrong = refused(capsys, source, made[1].replace("secret", "a-wrong-password"))
    assert "password authentication failed" in wrong
    assert "Check that the server runs, and host, database, user and password" in wrong
    assert "a-wrong-password" not in wrong
