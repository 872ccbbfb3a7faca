"""The database: whether it can be read, is whole and of this version, how large its journal is, and who holds it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from config.load import Configuration
from gateway.cli.doctor.finding import Finding
from gateway.cli.doctor.schema import schema_finding
from gateway.cli.output import age, size
from gateway.store.errors import StoreError
from gateway.store.read_only import Holder, file_snapshot
from gateway.store.schema_support import schema_or_none
from gateway.store.sqlite_file import read_only_uri

LARGE_JOURNAL = 256_000_000
"""Bytes; SQLite empties the journal at about 4 MB unless somebody keeps reading."""

_PART = "database"


def check_database(configuration: Configuration, running: Sequence[Holder]) -> Iterator[Finding]:
    """`running`: the gateways on it."""
    yield _gateways(running)
    store = configuration.settings.store
    if store.file is None:
        from gateway.cli.doctor.server import check_server

        yield from check_server(store.url, is_running=bool(running))
        return
    yield from _check_file(store.file)


def _check_file(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding(_PART, "ok", f"{path} does not exist yet; the first start makes it")
        return
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as database:
            yield _integrity(database, path)
        with file_snapshot(path) as connection:
            yield schema_finding(schema_or_none(connection))
    except (sqlite3.Error, StoreError) as error:
        why = "the gateway does not start with it, and stores nothing"
        do = "check its owner and the disk; if it is damaged: stop the gateway, interject restore FILE"
        yield Finding(_PART, "problem", f"{path} cannot be read: {error}", why, do)
    yield _journal(path)


def _gateways(running: Sequence[Holder]) -> Finding:
    if not running:
        return Finding("gateway", "ok", "none runs for this data directory; interject run starts it")
    first, *others = running
    host = f" on {first.host}" if first.host else ""
    pid = "" if first.pid is None else f" (process {first.pid}{host})"
    more = f", and {len(others)} more" if others else ""
    return Finding("gateway", "ok", f"runs for {age(first.since)}{pid}{more}")


def _integrity(database: sqlite3.Connection, path: Path) -> Finding:
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found == "ok":
        return Finding(_PART, "ok", f"{path} is whole ({size(path.stat().st_size)})")
    why = "damaged pages lose conversations, and the damage grows"
    return Finding(_PART, "problem", f"{path} is damaged: {found}", why, "stop the gateway, interject restore FILE")


def _journal(path: Path) -> Finding:
    journal = path.with_name(f"{path.name}-wal")
    found = journal.stat().st_size if journal.exists() else 0
    if found < LARGE_JOURNAL:
        return Finding("journal", "ok", size(found))
    why = "reading becomes slow, and the disk fills"
    do = "look for a program that keeps the database open, such as a shell or a backup; then restart the gateway"
    return Finding("journal", "warning", size(found), why, do)
