"""Opening a store: new, current, older, newer, damaged, busy and unwritable databases."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    CallEnded,
    Compacted,
    Ended,
    MessagesRead,
    ModelAnswered,
    Notice,
    Text,
    Usage,
    UserMessage,
)
from gateway.store import logs, open_store
from gateway.store.errors import StoreBusy, StoreCorrupt, StoreFailed, StoreTooNew
from gateway.store.migrate import newest
from gateway.store.schema import REVISION
from tests.gateway.notes import SESSION, begin, first_words, tell, url_of
from tests.install.old_databases import database_of

pytestmark = pytest.mark.engines("sqlite")

NOBODY = 65534

ENTRIES_OF_0001 = {
    '{"step":1,"messages":[{"id":1,"sender":"Ann","text":"why \\u00e9 \\"told\\"?","attachments":[],"note":"",'
    '"message_id":"m1","in_group":false,"source":"person","tools":[]}],"kind":"heard"}': MessagesRead(
        1, (UserMessage(1, "Ann", 'why é "told"?', message_id="m1"),)
    ),
    '{"step":1,"parts":[{"text":"Because.","kind":"text"}],"usage":{"input":7,"output":2,"cache_read":0,'
    '"cache_write":0,"reasoning":0,"cost":1e-7,"estimated":false},"model":"demo","interrupted":false,"cut_off":true,'
    '"shown":null,"kind":"answered"}': ModelAnswered(
        1, (Text("Because."),), Usage(7, 2, cost=1e-7), "demo", cut_off=True
    ),
    '{"id":"c1","about":"call","question":"May I?","options":["Allow once","Deny"],"expires_at":1700000000.25,'
    '"arguments":"{}","response":null,"kind":"decision_asked"}': ApprovalRequested(
        "c1", "call", "May I?", ("Allow once", "Deny"), 1700000000.25, "{}"
    ),
    '{"id":"c1","verdict":"allowed_always","by":"Ann","reason":"","kind":"decided"}': ApprovalDecided(
        "c1", "allowed_always", "Ann"
    ),
    '{"call_id":"c1","outcome":"done","text":"heard","attachments":[],"images":[],"caption":"","for_user":"",'
    '"full":null,"final":false,"silent":false,"kind":"call_ended"}': CallEnded("c1", "done", "heard"),
    '{"step":2,"through":"","summary":"decided","left_out":true,"kind":"summarised"}': Compacted(
        2, "", "decided", left_out=True
    ),
    '{"text":"Noted.","options":[],"key":"","kind":"told"}': Notice("Noted."),
    '{"outcome":"stopped","reason":"Ann","kind":"ended"}': Ended("stopped", "Ann"),
}
"""Entries of the turn log as revision 0001 stored them, and what they are now."""


async def fill(folder: Path) -> Path:
    async with open_store(url_of(folder)) as store:
        for number in range(50):
            await tell(store, f"message {number}")
    return folder / "interject.db"


def schema_of(path: Path) -> set[tuple[str, str, str]]:
    """Every table and index, with its columns or definition, whatever the order and the layout of the words."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
        return {
            (type, name, " ".join(sorted(sql.replace("(", " ").replace(")", " ").replace(",", " ").split())))
            for type, name, sql in found
        }


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(sql).fetchall()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, who can write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


async def test_a_new_file_and_its_directories_are_made(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path / "a" / "b")) as store:
        await tell(store)
    assert query(tmp_path / "a" / "b" / "interject.db", "SELECT version_num FROM alembic_version") == [(REVISION,)]


async def test_stored_messages_are_there_after_reopening(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        await tell(store, "remember me")
    async with open_store(url_of(tmp_path)) as store:
        assert first_words(await begin(store)) == ["remember me"]


async def test_the_database_is_durable_by_its_settings(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            found = await store.write(
                lambda connection, name=pragma: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            )
            assert found == value


def test_the_newest_revision_is_the_one_the_schema_names() -> None:
    assert newest() == REVISION


async def test_a_new_database_equals_a_migrated_one(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    made = await fill(tmp_path / "made")
    migrated = tmp_path / "interject.db"
    query(migrated, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    async with open_store(url_of(tmp_path)) as store:
        await tell(store, "hi")
        assert first_words(await begin(store)) == ["hi"]
    unlike = schema_of(made) ^ schema_of(migrated)
    assert {name for _, name, _ in unlike} <= {"alembic_version", "sqlite_autoindex_alembic_version_1"}
    assert query(migrated, "SELECT version_num FROM alembic_version") == [(REVISION,)]


async def test_log_entries_of_revision_0001_are_read_under_their_new_names(tmp_path: Path) -> None:
    entries = [{"turn": 1, "n": n, "entry": entry} for n, entry in enumerate(ENTRIES_OF_0001, 1)]
    session = {"key": SESSION, "address": "{}"}
    turn = {"number": 1, "session": SESSION, "address": "{}", "principal": "{}"}
    path = database_of("0001", {"sessions": [session], "turns": [turn], "turn_log": entries}, tmp_path)
    async with open_store(url_of(tmp_path)) as store:
        read = await store.write(lambda connection: logs.read(connection, 1))
    assert read == tuple(ENTRIES_OF_0001.values())
    assert query(path, "SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_opening_a_new_and_a_current_database_does_not_load_alembic(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from gateway.store import open_store\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        f"        async with open_store({url_of(tmp_path)!r}): pass\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules, 'sqlalchemy.ext.asyncio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "False"]


async def test_a_second_gateway_is_refused_with_the_process_that_holds_the_database(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        with pytest.raises(StoreBusy, match=f"process {os.getpid()}") as refusal:
            async with open_store(url_of(tmp_path)):
                pass
        assert refusal.value.pid == os.getpid()
        await tell(store)
    async with open_store(url_of(tmp_path)) as store:
        assert await store.waiting_busy(SESSION)


@pytest.mark.parametrize("text", [b"hello, I am a text file\n" * 10, b"x", b"\0" * 8192])
async def test_a_file_that_is_no_database_is_refused_and_not_changed(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "interject.db"
    path.write_bytes(text)
    with pytest.raises(StoreCorrupt, match=r"interject\.db.*not an SQLite database.*backup"):
        async with open_store(url_of(tmp_path)):
            pass
    assert path.read_bytes() == text


@pytest.mark.parametrize(("start", "length"), [(16, 84), (100, 4000), (4096, 8192), (20000, 4096)])
async def test_a_damaged_database_is_refused_and_not_changed(tmp_path: Path, start: int, length: int) -> None:
    path = await fill(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[start : start + length] = b"\xa5" * length
    path.write_bytes(damaged)
    with pytest.raises(StoreCorrupt, match="damaged"):
        async with open_store(url_of(tmp_path)):
            pass
    assert path.read_bytes() == damaged


async def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    path = await fill(tmp_path)
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(StoreCorrupt):
        async with open_store(url_of(tmp_path)):
            pass


async def test_the_database_of_another_program_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "interject.db"
    query(path, "CREATE TABLE songs (title)")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another program"):
        async with open_store(url_of(tmp_path)):
            pass
    assert path.read_bytes() == before


async def test_a_newer_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = await fill(tmp_path)
    query(path, "UPDATE alembic_version SET version_num = 'from-the-future'")
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match=r"newer version.*from-the-future") as refusal:
        async with open_store(url_of(tmp_path)):
            pass
    assert refusal.value.revision == "from-the-future"
    assert path.read_bytes() == before


@pytest.fixture
def read_only(tmp_path: Path) -> Path:
    tmp_path.chmod(0o555)
    return tmp_path


async def test_a_directory_that_cannot_be_written_is_refused(read_only: Path) -> None:
    with as_nobody(), pytest.raises(StoreFailed, match=r"interject\.db cannot be opened for writing"):
        async with open_store(url_of(read_only)):
            pass


async def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="cannot be opened"):
        async with open_store(url_of(tmp_path / "file")):
            pass


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/x", "sqlite://", "sqlite:///:memory:", "nonsense"])
async def test_a_url_that_is_not_supported_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(StoreFailed, match="sqlite:///FILE"):
        async with open_store(url):
            pass


async def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(StoreFailed) as refusal:
        async with open_store("postgresql://me:secret@127.0.0.1/x"):
            pass
    assert "secret" not in str(refusal.value)
