"""`interject sessions`: lists the conversations with their state and cost; works beside a running gateway."""

from __future__ import annotations

from typing import Any

from config.load import Configuration
from gateway.cli.output import age, fail, json_line, table, write_lines
from gateway.outbound.wording import dollars, plain
from gateway.store.errors import StoreError
from gateway.store.overview import ConversationRow, conversation_rows
from gateway.store.read_only import reading

TITLE_WIDTH = 50


def show_sessions(configuration: Configuration, limit: int, *, as_json: bool) -> int:
    """The newest `limit` conversations. Returns the exit code: 1 when the database cannot be read."""
    try:
        with reading(configuration.settings.store.url) as connection:
            found = conversation_rows(connection, limit)
    except StoreError as error:
        return fail(configuration, error)
    if as_json:
        write_lines(json_line(_json(row)) for row in found)
    else:
        write_lines(_table(found) if found else (), "No conversations.")
    return 0


def _json(row: ConversationRow) -> dict[str, Any]:
    return {
        "conversation": row.session,
        "channel": row.address.channel,
        "kind": row.address.kind,
        "chat": row.address.chat,
        "thread": row.address.thread,
        "title": row.title,
        "state": row.state,
        "waiting": row.waiting,
        "last": row.last_at,
        "cost": round(row.cost, 6),
    }


def _table(found: tuple[ConversationRow, ...]) -> list[str]:
    header = ("last", "state", "cost", "kind", "title", "conversation")
    return table(header, [_cells(row) for row in found], right=(0, 2))


def _cells(row: ConversationRow) -> tuple[str, ...]:
    state = f"{row.state}, {row.waiting} unread" if row.waiting else row.state
    title = plain(row.title, TITLE_WIDTH)
    return age(row.last_at), state, dollars(row.cost), row.address.kind, title, plain(row.session, 200)
