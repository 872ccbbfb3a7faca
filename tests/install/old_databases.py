"""Databases of earlier schemas, made by the migrations of their time and filled with rows."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

from gateway.store import migrate
from gateway.store.migrations.versions.log_entry_kinds import FIELDS, KINDS
from gateway.store.sqlite_file import prepare_writing

Rows = Mapping[str, Sequence[Mapping[str, object]]]
"""By table."""


def tables(database: sqlite3.Connection) -> list[str]:
    """Those with rows of people, not those that say which schema it is."""
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found if name not in ("alembic_version", "schema_support")]


def database_of(revision: str, rows: Rows, folder: Path) -> Path:
    """A database as the version of that schema left it: the rows of today without what came later, and one row in every
    other table."""
    path = folder / "interject.db"
    engine = create_engine(f"sqlite:///{path}")
    prepare_writing(engine)
    with engine.begin() as connection:
        migrate.upgrade(connection, revision)
    engine.dispose()
    with closing(sqlite3.connect(path)) as database:
        # First what others refer to.
        for table in sorted(tables(database), key=lambda table: not rows.get(table)):
            for row in rows.get(table) or [{}]:
                insert(database, table, row if revision != "0001" else with_old_kinds(row))
        database.commit()
    return path


def insert(database: sqlite3.Connection, table: str, row: Mapping[str, object]) -> None:
    """The columns that the table has; made up where the row has nothing for one that needs a value."""
    columns = database.execute(f'PRAGMA table_info("{table}")').fetchall()
    values = {
        name: row[name] if name in row else made_up(database, table, name, type)
        for _, name, type, needed, default, _ in columns
        if name in row or (needed and default is None)
    }
    if table == "media_uses" and not row:
        values["turn"] = 1
    names, places = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
    database.execute(f'INSERT INTO "{table}" ({names}) VALUES ({places})', tuple(values.values()))


def made_up(database: sqlite3.Connection, table: str, column: str, type: str) -> object:
    (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if found := re.search(rf"\b{column} IN \((.*?)\)", sql):
        choices = [choice.strip("' ") for choice in found[1].split(",")]
        # Of states the last: one that has ended.
        return choices[-1] if column == "state" else choices[0]
    if column in ("address", "principal") and (known := database.execute(f"SELECT {column} FROM turns").fetchone()):
        return known[0]
    for _, _, other, own, theirs, *_ in database.execute(f'PRAGMA foreign_key_list("{table}")'):
        if own == column:
            return database.execute(f'SELECT "{theirs}" FROM "{other}"').fetchone()[0]
    return {"JSON": "{}", "BOOLEAN": 0, "TEXT": "x", "VARCHAR": "x"}.get(type.partition("(")[0], 1)


def with_old_kinds(row: Mapping[str, object]) -> Mapping[str, object]:
    """An entry of a turn's log as it was written before its kinds were renamed."""
    if "entry" not in row:
        return row
    entry = json.loads(str(row["entry"]))
    for kind, old, new in FIELDS:
        if entry["kind"] == kind:
            entry[old] = entry.pop(new)
    entry["kind"] = {new: old for old, new in KINDS.items()}.get(entry["kind"], entry["kind"])
    return {**row, "entry": json.dumps(entry)}
