"""What was used and what it cost, and the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Caller, Operator
from gateway.api.ids import conversation_id
from gateway.app import Gateway
from gateway.store.records import AuditKind, AuditRow, UsageTotals
from gateway.store.usage import UsageBy

MAX_EVENTS = 1_000
DEFAULT_EVENTS = 200
DEFAULT_AGE = timedelta(days=30)


class Totals(BaseModel):
    """Calls of models; tokens: `input` includes those from and to the cache, `output` those of reasoning. `cost` is in
    dollars. `estimated`: some tokens were counted by the gateway. `unpriced`: the price of some calls is not known."""

    calls: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cost: float
    estimated: bool
    unpriced: bool


class UsageRow(BaseModel):
    """`key` is a person ("telegram:7"), the id of a conversation, the name of a channel or of a model, or a day in UTC
    ("2026-11-30"). `name` is for display, "" where there is none."""

    key: str
    name: str
    totals: Totals


class Usage(BaseModel):
    """What cost most comes first; days are in their order."""

    by: UsageBy
    since: datetime
    total: Totals
    rows: list[UsageRow]


class AuditEvent(BaseModel):
    """`actor` is "channel:user id", "operator" on the command line, "api:…" for a key, or "" for the gateway itself.
    `conversation` may be "". `detail` depends on the kind of event."""

    id: int
    at: datetime
    event: str
    actor: str
    name: str
    conversation: str
    detail: dict[str, Any]


class Audit(BaseModel):
    """Newest first. `kinds` are all kinds of events that there are."""

    events: list[AuditEvent]
    kinds: list[str]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["usage"])

    @routes.get("/usage")
    async def usage(caller: Operator, by: UsageBy = "day", since: datetime | None = None) -> Usage:
        """Tokens and cost, by default of the last 30 days. A key for some conversations sees only theirs."""
        begin = _time(since)
        rows = await gateway.store.usage_by(by, begin, None if by == "conversation" else caller.operates)
        shown = [(each.key, each.name, each.totals) for each in rows]
        if by == "conversation":
            named = ((conversation_id(key), name, totals) for key, name, totals in shown)
            shown = [(key, name, totals) for key, name, totals in named if caller.sees(key)]
        total = await _total(gateway, caller, begin, [totals for _, _, totals in shown])
        return Usage(
            by=by,
            since=begin,
            total=_totals(total),
            rows=[UsageRow(key=key, name=name, totals=_totals(totals)) for key, name, totals in shown],
        )

    @routes.get("/audit")
    async def audit(
        caller: Operator,
        since: datetime | None = None,
        event: Annotated[str | None, Query(max_length=20)] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = DEFAULT_EVENTS,
    ) -> Audit:
        """Who was refused or admitted, who decided, stopped or deleted what, and which calls had effects; by default of
        the last 30 days. A key for some conversations sees only what happened there."""
        begin, seen, before = _time(since), list[AuditEvent](), None
        while len(seen) < limit:
            rows = await gateway.store.audit_since(begin, event, limit, before)
            seen += [each for each in map(_event, reversed(rows)) if _sees(caller, each)]
            if len(rows) < limit:
                break
            # What this caller may not see was among them.
            before = rows[0].id
        return Audit(events=seen[:limit], kinds=list(get_args(AuditKind)))

    return routes


def _event(row: AuditRow) -> AuditEvent:
    return AuditEvent(
        id=row.id,
        at=row.at,
        event=row.event,
        actor=row.actor,
        name=row.actor_name,
        conversation=conversation_id(row.session),
        detail=row.detail,
    )


def _time(since: datetime | None) -> datetime:
    if since is None:
        return datetime.now(UTC) - DEFAULT_AGE
    return since if since.tzinfo is not None else since.replace(tzinfo=UTC)


async def _total(gateway: Gateway, caller: Caller, since: datetime, seen: list[UsageTotals]) -> UsageTotals:
    if caller.conversations is None:
        return await gateway.store.total_usage(since)
    return sum(seen, UsageTotals())


def _totals(totals: UsageTotals) -> Totals:
    return Totals(
        calls=totals.calls,
        input=totals.input,
        output=totals.output,
        cache_read=totals.cache_read,
        cache_write=totals.cache_write,
        reasoning=totals.reasoning,
        cost=totals.cost,
        estimated=totals.estimated,
        unpriced=totals.unpriced,
    )


def _sees(caller: Caller, event: AuditEvent) -> bool:
    return caller.conversations is None or (bool(event.conversation) and caller.sees(event.conversation))
