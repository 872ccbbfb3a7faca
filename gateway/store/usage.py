"""Reports of what model calls used and cost: in all, and by person, conversation, channel, model or day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Double, Integer, bindparam, cast, func, select, type_coerce

from gateway.store.costs import spent, totals_columns, totals_from
from gateway.store.encoding import sender_from_json
from gateway.store.reading import shown_title
from gateway.store.records import UsageTotals
from gateway.store.schema import sessions, turns, usage

UsageBy = Literal["person", "conversation", "channel", "model", "day"]

MAX_ROWS = 1000
"""Rows of a report: those that cost most, or the last days."""

_EPOCH = datetime.fromtimestamp(0, UTC)

_KEYS = {
    "person": usage.c.person,
    "conversation": usage.c.session,
    "channel": usage.c.session,
    "model": usage.c.model,
    # Days since 1970, in UTC.
    "day": cast(type_coerce(usage.c.at, Double) / 86400, Integer),
}
_grouped = {
    by: select(key.label("key"), *totals_columns).where(usage.c.at >= bindparam("since")).group_by(key)
    for by, key in _KEYS.items()
}
_newest = (
    select(func.max(usage.c.id)).where(usage.c.person.in_(bindparam("keys", expanding=True))).group_by(usage.c.person)
)
_people = (
    select(usage.c.person, turns.c.principal)
    .join(turns, turns.c.id == usage.c.turn)
    .where(usage.c.id.in_(_newest.scalar_subquery()))
)
_titles = select(sessions.c.key, shown_title).where(sessions.c.key.in_(bindparam("keys", expanding=True)))
_of_turns = (
    select(usage.c.root, func.sum(usage.c.cost))
    .where(usage.c.root.in_(bindparam("roots", expanding=True)))
    .group_by(usage.c.root)
)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """`key` is a person ("channel:user id"), a session, the name of a channel or of a model, or a day (UTC) like
    2026-11-30; `name` is the person's or the conversation's for display, "" where there is none."""

    key: str
    name: str
    totals: UsageTotals


def total_usage(connection: Connection, since: datetime) -> UsageTotals:
    """What was used since then."""
    return spent(connection, since=since)


def usage_by(connection: Connection, by: UsageBy, since: datetime, channel: str | None = None) -> tuple[UsageRow, ...]:
    """What was used since then, on all channels or on one, what cost most first; days in their order."""
    query = _grouped[by]
    if channel is not None:
        query = query.where(usage.c.session.startswith(f"{quote(channel, safe='')}/", autoescape=True))
    found = [(row.key, totals_from(row)) for row in connection.execute(query, {"since": since})]
    if by == "day":
        return tuple(UsageRow(_date(day), "", totals) for day, totals in sorted(found)[-MAX_ROWS:])
    if by == "channel":
        found = list(_by_channel(found).items())
    found.sort(key=lambda row: (-row[1].cost, -row[1].input - row[1].output, row[0]))
    names = _names(connection, by, [key for key, _ in found[:MAX_ROWS]])
    return tuple(UsageRow(key, names.get(key, ""), totals) for key, totals in found[:MAX_ROWS])


def titles(connection: Connection, keys: Collection[str]) -> dict[str, str]:
    """The titles of these sessions, of those that have one."""
    found = connection.execute(_titles, {"keys": list(keys)})
    return {key: " ".join(title.split()) for key, title in found if title}


def costs_of_turns(connection: Connection, roots: Collection[str]) -> dict[str, float]:
    """What each of these turns has cost until now with all that it delegated, in dollars."""
    return {root: float(cost) for root, cost in connection.execute(_of_turns, {"roots": list(roots)})}


def _names(connection: Connection, by: UsageBy, keys: Collection[str]) -> Mapping[str, str]:
    match by:
        case "person":
            people = connection.execute(_people, {"keys": list(keys)})
            return {person: sender_from_json(principal).name for person, principal in people}
        case "conversation":
            return titles(connection, keys)
        case _:
            return {}


def _by_channel(found: Iterable[tuple[str, UsageTotals]]) -> dict[str, UsageTotals]:
    sums: dict[str, UsageTotals] = {}
    for session, totals in found:
        channel = unquote(session.partition("/")[0])
        sums[channel] = sums.get(channel, UsageTotals()) + totals
    return sums


def _date(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).date().isoformat()
