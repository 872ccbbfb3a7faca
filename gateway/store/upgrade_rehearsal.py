"""An upgrade of the database, tried on a copy."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.store.backup_archive import DATABASE, copy_database
from gateway.store.errors import StoreFailed
from gateway.store.schema import REVISION
from gateway.store.sqlite_file import database_path, open_current


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """An upgrade that worked: from which schema to which, of how many conversations, in how many seconds."""

    found: str
    newest: str
    conversations: int
    seconds: float


def rehearse_upgrade(url: str) -> Rehearsal | None:
    """Upgrades a copy of the database, also beside a running gateway; None if there is no database yet.

    Raises `StoreError` if the upgrade fails or loses anything, and `OSError` where there is no room for a copy.
    """
    path = database_path(url)
    if not path.exists():
        return None
    with TemporaryDirectory(dir=path.parent, prefix=".upgrade-") as folder:
        copy = Path(folder) / DATABASE
        copy_database(path, copy)
        found, before = _contents(copy)
        started = time.monotonic()
        open_current(copy, back_up=False).dispose()
        seconds = time.monotonic() - started
        upgraded, after = _contents(copy)
        if upgraded != REVISION or not before.items() <= after.items():
            raise StoreFailed(f"{path}: the upgrade from {found} to {REVISION} would lose rows")
        _check(copy, path)
    return Rehearsal(found, upgraded, after["sessions"], seconds)


def _contents(path: Path) -> tuple[str, Mapping[str, int]]:
    """The schema revision, and the number of rows by table."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return revision, rows


def _check(copy: Path, path: Path) -> None:
    with closing(sqlite3.connect(copy)) as database:
        (finding,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        dangling = database.execute("PRAGMA foreign_key_check").fetchone()
    if finding != "ok" or dangling is not None:
        raise StoreFailed(f"{path}: after the upgrade the database is not whole ({dangling or finding})")
