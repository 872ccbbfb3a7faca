"""The statements of the store, as PostgreSQL reads and plans them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Delete, Insert, Select, Update, create_engine, event
from sqlalchemy.sql.selectable import CompoundSelect
from sqlalchemy.sql.visitors import cloned_traverse

import gateway.store
from benchmarks.seeding import seed, session_of
from gateway.store import open_store
from gateway.store.conversation_pages import ListedConversations, conversation_page
from gateway.store.history_pages import history_page
from tests.engines import engines

pytestmark = pytest.mark.engines("postgresql")

DIALECT: Any = create_engine("postgresql+psycopg://").dialect
LARGE = ("inbox", "turns", "turn_log", "outbox", "sessions")

WITH_EACH_MESSAGE = (
    "arrivals",
    "command_turns",
    "decisions",
    "delivery",
    "edits",
    "inbox",
    "logs",
    "outbox",
    "queue",
    "runs",
    "sessions",
    "turn_rows",
    "turns",
)
"""The modules whose statements are run with each message or step."""

EVERY_FEW_SECONDS = ("adoption", "deadlines", "health", "pairing", "revocation", "workers")
"""The modules whose statements each worker runs again and again, also while nothing happens."""


def statements() -> Iterator[tuple[str, str, Any]]:
    """Every statement that a module of the store has made in advance, with the module's name and its own."""
    for module in pkgutil.iter_modules(gateway.store.__path__):
        if module.ispkg or module.name.startswith(("sqlite", "postgres")):
            continue
        for name, value in vars(importlib.import_module(f"gateway.store.{module.name}")).items():
            if isinstance(value, Select | CompoundSelect | Insert | Update | Delete):
                yield module.name, name, value


def prepared(statement: Any) -> tuple[str, int] | None:
    """Its SQL with numbered parameters, and how many there are; None if it is a part of another statement."""
    if isinstance(statement, Select) and statement._correlate:
        return None

    def give_one(bound: Any) -> None:
        bound.required = False
        if bound.expanding and bound.value is None:
            bound.value = [""]

    whole = cloned_traverse(statement, {}, {"bindparam": give_one})
    sql = str(whole.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True}))
    numbers: dict[str, int] = {}
    placed = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sql)
    return placed.replace("%%", "%"), len(numbers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "interject.db"


def test_postgresql_understands_every_statement(file: Path) -> None:
    read = 0
    for module, name, statement in statements():
        if (made := prepared(statement)) is not None:
            engines.sql(file, f"PREPARE {module}{name} AS {made[0]}")
            read += 1
    assert read > 150


async def test_what_is_run_with_each_message_or_every_few_seconds_walks_through_no_large_table(file: Path) -> None:
    """With bound parameters, for which the server makes its plans: a partial index serves only what is written out."""
    await seed(engines.url(file), conversations=2_000, entries=40_000)
    engines.sql(file, "SET plan_cache_mode = force_generic_plan")
    walking, planned = [], 0
    for module, name, statement in statements():
        made = prepared(statement) if module in WITH_EACH_MESSAGE + EVERY_FEW_SECONDS else None
        if made is None or getattr(statement, "whereclause", None) is None:
            continue
        sql, count = made
        engines.sql(file, f"PREPARE {module}{name} AS {sql}")
        values = f"({', '.join(['NULL'] * count)})" if count else ""
        plan = "\n".join(line for (line,) in engines.sql(file, f"EXPLAIN EXECUTE {module}{name}{values}"))
        planned += 1
        walking += [
            f"{module}.{name}: {table}\n{plan}" for table in LARGE if re.search(rf"Seq Scan on {table}\b", plan)
        ]
    assert walking == []
    assert planned > 60


async def test_a_page_walks_through_no_large_table(file: Path) -> None:
    """Neither that of the conversations, also when it searches, nor that of one conversation's history."""
    await seed(engines.url(file), conversations=2_000, entries=40_000)
    pages: list[Callable[[Connection], object]] = [
        lambda connection: conversation_page(connection, ListedConversations(("telegram",)), 50),
        lambda connection: conversation_page(connection, ListedConversations(("telegram",), words="screws"), 50),
        lambda connection: history_page(connection, session_of(7)),
    ]
    async with open_store(engines.url(file)) as store:
        plans = [await store.read(partial(plan_of, page)) for page in pages]
    assert all("Scan" in plan for plan in plans)
    assert [plan for plan in plans for table in LARGE if re.search(rf"Seq Scan on {table}\b", plan)] == []


def plan_of(page: Callable[[Connection], object], connection: Connection) -> str:
    """The plans of all that the page asks."""
    asked: list[tuple[str, Any]] = []

    def note(_: Connection, __: object, statement: str, parameters: Any, *rest: object) -> None:
        asked.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    page(connection)
    event.remove(connection, "before_cursor_execute", note)
    explained = (connection.exec_driver_sql(f"EXPLAIN {statement}", parameters) for statement, parameters in asked)
    return "\n".join(str(line) for lines in explained for line in lines.scalars())
