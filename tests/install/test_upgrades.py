"""Databases of every earlier schema: rehearsed on a copy, backed up, upgraded, and taken back."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.store import migrate, open_store
from gateway.store.schema import REVISION
from gateway.store.upgrade_backup import KEPT, MAX_AGE, delete_old_backups
from tests.install.old_databases import Rows, database_of, tables
from tests.install.service import PROGRAM, ROOT, service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rows]:
    """What a conversation leaves in a database of today."""
    folder = tmp_path_factory.mktemp("today")
    async with service(folder) as running:
        assert (await running.answer("hello"))["state"] == "completed"
        await running.end(signal.SIGTERM)
    with closing(sqlite3.connect(folder / "home" / "interject.db")) as database:
        database.row_factory = sqlite3.Row
        yield {table: [dict(row) for row in database.execute(f'SELECT * FROM "{table}"')] for table in tables(database)}


def count(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as database:
        return {table: database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables(database)}


def interject(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "INTERJECT_HOME": str(folder)}
    command = [*PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("revision", migrate.revisions()[:-1])
async def test_every_earlier_schema_is_backed_up_and_upgraded_with_all_rows(
    rows: Rows, revision: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = database_of(revision, rows, tmp_path)
    before = count(path)
    with caplog.at_level(logging.INFO, "gateway.store"):
        async with open_store(f"sqlite:///{path}") as store:
            pending = await store.pending()
    assert pending.sessions == ()
    # The process that wrote it is gone.
    assert {**before, "workers": 0}.items() <= {"workers": 0, **count(path)}.items()
    backup = tmp_path / "backups" / f"before-upgrade-from-{revision}.zip"
    assert f"upgraded from the schema {revision} to {REVISION}; a backup of it is {backup}" in caplog.text
    assert backup.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        written = [entry for (entry,) in database.execute("SELECT entry FROM turn_log ORDER BY turn, n")]
    assert list(map(json.loads, written)) == [json.loads(str(row["entry"])) for row in rows["turn_log"]]


async def test_an_upgrade_is_rehearsed_on_a_copy_done_at_the_start_and_taken_back(rows: Rows, tmp_path: Path) -> None:
    oldest = migrate.revisions()[0]
    home = tmp_path / "home"
    home.mkdir()
    path = database_of(oldest, rows, home)
    before = path.read_bytes()

    rehearsed = interject(home, "check", "--upgrade")
    assert f"ok  upgrade: a copy of the database went from the schema {oldest} to {REVISION}" in rehearsed.stdout
    assert (rehearsed.returncode, path.read_bytes()) == (0, before)
    assert not (home / "backups").exists()

    async with service(tmp_path) as running:
        async with running.api() as api:
            items = (await api.get("/api/v1/conversations/web:local:a/history")).json()["items"]
        assert items[0]["text"] == "hello"
        assert (await running.answer("hello again"))["state"] == "completed"
        await running.end(signal.SIGTERM)
    assert "nothing to do" in interject(home, "check", "--upgrade").stdout

    restored = interject(home, "restore", "--force", f"backups/before-upgrade-from-{oldest}.zip")
    assert restored.returncode == 0
    assert f"from the schema {oldest} to" in interject(home, "check", "--upgrade").stdout


async def test_an_upgrade_that_cannot_be_backed_up_is_not_begun(rows: Rows, tmp_path: Path) -> None:
    path = database_of("0009", rows, tmp_path)
    before = path.read_bytes()
    (tmp_path / "backups").write_text("a file, not a directory")
    done = interject(tmp_path, "run")
    assert (done.returncode, path.read_bytes()) == (1, before)
    [line] = [line for line in done.stderr.splitlines() if "interject:" in line]
    assert f"{tmp_path / 'backups' / 'before-upgrade-from-0009.zip'} cannot be written" in line


def test_a_failed_rehearsal_says_what_is_wrong(rows: Rows, tmp_path: Path) -> None:
    path = database_of("0012", rows, tmp_path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE turns ADD COLUMN agent TEXT")
    done = interject(tmp_path, "check", "--upgrade")
    assert done.returncode == 1
    assert "!!  upgrade: " in done.stdout
    assert "duplicate column name: agent" in done.stdout


def test_backups_before_upgrades_are_few_and_have_an_end(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    made = [folder / f"before-upgrade-from-{number:04}.zip" for number in range(1, KEPT + 3)]
    for age, file in enumerate(reversed(made)):
        file.write_bytes(b"")
        os.utime(file, (time.time() - 60 * age,) * 2)
    mine = folder / "mine.zip"
    mine.write_bytes(b"")
    delete_old_backups(tmp_path / "interject.db")
    oldest, *others = made[-KEPT:]
    assert set(folder.iterdir()) == {oldest, *others, mine}
    os.utime(oldest, (time.time() - MAX_AGE - 1,) * 2)
    delete_old_backups(tmp_path / "interject.db")
    assert set(folder.iterdir()) == {*others, mine}
