"""The statements of the store, as SQLite plans them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event

from benchmarks.seeding import seed
from gateway.store import adoption, open_store


async def test_what_a_start_finds_to_do_is_found_without_walking_through_all_rows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'interject.db'}"
    await seed(url, conversations=20, entries=1_000)

    def plans(connection: Connection) -> list[str]:
        asked: list[tuple[str, Any]] = []

        def note(_: Connection, __: object, statement: str, parameters: Any, *rest: object) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", note)
        adoption.pending(connection, "next")
        event.remove(connection, "before_cursor_execute", note)
        return [
            f"{line.detail}: {statement}"
            for statement, parameters in asked
            for line in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]

    async with open_store(url) as store:
        found = await store.write(plans)
    assert len(found) > 10
    assert [plan for plan in found if re.match(r"SCAN (turns|inbox|turn_log|sessions)(?! USING)", plan)] == []
