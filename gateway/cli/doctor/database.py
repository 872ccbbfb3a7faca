"""The database: whether it can be read, is whole and of this version, how large its journal is, and who holds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from config.load import Configuration
from gateway.cli.doctor.finding import Finding
from gateway.cli.output import age, size
from gateway.store.errors import StoreError
from gateway.store.read_only import Holder
from gateway.store.schema import REVISION
from gateway.store.sqlite_file import database_path, read_only_uri

LARGE_JOURNAL = 256_000_000
"""Bytes; SQLite empties the journal at about 4 MB unless somebody keeps reading."""

_PART = "database"


def check_database(configuration: Configuration, running: Holder | None) -> Iterator[Finding]:
    yield _gateway(running)
    try:
        path = database_path(configuration.settings.store.url)
    except StoreError as error:
        yield Finding(_PART, "problem", str(error), "nothing can be stored", "correct [store] url")
        return
    if not path.exists():
        yield Finding(_PART, "ok", f"{path} does not exist yet; the first start makes it")
        return
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as database:
            yield _integrity(database, path)
            yield _revision(database)
    except sqlite3.Error as error:
        why = "the gateway does not start with it, and stores nothing"
        do = "check its owner and the disk; if it is damaged: stop the gateway, interject restore FILE"
        yield Finding(_PART, "problem", f"{path} cannot be read: {error}", why, do)
    yield _journal(path)


def _gateway(running: Holder | None) -> Finding:
    if running is None:
        return Finding("gateway", "ok", "none runs for this data directory; interject run starts it")
    pid = "" if running.pid is None else f" (process {running.pid})"
    return Finding("gateway", "ok", f"runs for {age(running.since)}{pid}")


def _integrity(database: sqlite3.Connection, path: Path) -> Finding:
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found == "ok":
        return Finding(_PART, "ok", f"{path} is whole ({size(path.stat().st_size)})")
    why = "damaged pages lose conversations, and the damage grows"
    return Finding(_PART, "problem", f"{path} is damaged: {found}", why, "stop the gateway, interject restore FILE")


def _revision(database: sqlite3.Connection) -> Finding:
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    found = str(row[0]) if row else ""
    if found == REVISION:
        return Finding("schema", "ok", found)
    why = f"this version of interject needs {REVISION}"
    do = "back up, then restart the gateway with this version; it upgrades the database (or install the newer version)"
    return Finding("schema", "warning", found or "none", why, do)


def _journal(path: Path) -> Finding:
    journal = path.with_name(f"{path.name}-wal")
    found = journal.stat().st_size if journal.exists() else 0
    if found < LARGE_JOURNAL:
        return Finding("journal", "ok", size(found))
    why = "reading becomes slow, and the disk fills"
    do = "look for a program that keeps the database open, such as a shell or a backup; then restart the gateway"
    return Finding("journal", "warning", size(found), why, do)
