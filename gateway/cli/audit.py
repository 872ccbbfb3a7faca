"""`interject audit`: prints the audit log; works beside a running gateway."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config.load import Configuration
from gateway.cli.output import fail, parse_since, write_lines
from gateway.store import offline
from gateway.store.errors import StoreError
from gateway.store.records import AuditRow

BEGINNING = datetime.fromtimestamp(0, UTC)


def show_audit_log(configuration: Configuration, since: str | None, *, as_json: bool) -> int:
    """Returns the exit code: 2 when `since` is no time, 1 when the log cannot be read."""
    try:
        start = BEGINNING if since is None else parse_since(since)
    except ValueError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 2
    try:
        rows = offline.audit_since(configuration.settings.store.url, start)
    except StoreError as error:
        return fail(configuration, error)
    write_lines(_json(row) if as_json else _line(row) for row in rows)
    return 0


def _json(row: AuditRow) -> str:
    fields: dict[str, Any] = {"time": row.at.isoformat(), "event": row.event, "actor": row.actor}
    fields |= {"name": row.actor_name} if row.actor_name else {}
    fields |= {"conversation": row.session} if row.session else {}
    return json.dumps(fields | row.detail, ensure_ascii=True)


def _line(row: AuditRow) -> str:
    """One line. JSON escapes whatever could change the terminal."""
    who = row.actor or "gateway"
    parts = [row.at.strftime("%Y-%m-%d %H:%M:%S"), row.event, who, *_fields(row)]
    return "  ".join(parts)


def _fields(row: AuditRow) -> list[str]:
    fields: Mapping[str, Any] = {"name": row.actor_name, "conversation": row.session, **row.detail}
    return [f"{name}={json.dumps(value)}" for name, value in fields.items() if value not in ("", None, [], {})]
