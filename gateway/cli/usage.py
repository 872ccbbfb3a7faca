"""`interject usage`: prints what model calls used and cost; works beside a running gateway."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from config.load import Configuration
from gateway.cli.output import fail, json_line, parse_since, table, write_lines
from gateway.outbound.wording import dollars, plain
from gateway.store.errors import StoreError
from gateway.store.read_only import reading
from gateway.store.records import UsageTotals
from gateway.store.usage import UsageBy, UsageRow, total_usage, usage_by

BEGINNING = datetime.fromtimestamp(0, UTC)
WIDTH = 60
"""Characters of a name."""


def show_usage(configuration: Configuration, by: UsageBy, since: str | None, *, as_json: bool) -> int:
    """Returns the exit code: 2 when `since` is no time, 1 when the database cannot be read."""
    try:
        start = BEGINNING if since is None else parse_since(since)
    except ValueError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 2
    try:
        with reading(configuration.settings.store.url) as connection:
            rows = usage_by(connection, by, start)
            total = total_usage(connection, start)
    except StoreError as error:
        return fail(configuration, error)
    if as_json:
        write_lines(json_line(_json(by, row)) for row in rows)
    else:
        write_lines(_table(by, rows, total) if rows else (), "Nothing was used.")
    return 0


def _json(by: UsageBy, row: UsageRow) -> dict[str, Any]:
    name = {"name": row.name} if row.name else {}
    return {by: row.key, **name, **totals_json(row.totals)}


def totals_json(totals: UsageTotals) -> dict[str, Any]:
    """Tokens; `cost` is in dollars. `estimated`: the gateway counted some tokens; `unpriced`: some calls have no known
    price."""
    return {
        "calls": totals.calls,
        "input": totals.input,
        "output": totals.output,
        "cache_read": totals.cache_read,
        "cache_write": totals.cache_write,
        "reasoning": totals.reasoning,
        "cost": round(totals.cost, 6),
        "estimated": totals.estimated,
        "unpriced": totals.unpriced,
    }


def _table(by: UsageBy, rows: tuple[UsageRow, ...], total: UsageTotals) -> list[str]:
    header = (by, "calls", "input", "cached", "output", "cost")
    lines = table(header, [*(_cells(_name(row), row.totals) for row in rows), _cells("total", total)], range(1, 6))
    if total.unpriced:
        lines.append("* some calls have no known price, and count as free")
    return lines


def _name(row: UsageRow) -> str:
    key = plain(row.key, WIDTH)
    return f"{plain(row.name, WIDTH)} ({key})" if row.name else key


def _cells(name: str, totals: UsageTotals) -> tuple[str, ...]:
    counts = (totals.calls, totals.input, totals.cache_read, totals.output)
    return (name, *(f"{count:,}" for count in counts), f"{dollars(totals.cost)}{'*' if totals.unpriced else ''}")
