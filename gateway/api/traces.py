"""How a turn went, in time."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api.caller import Operator
from gateway.api.ids import conversation_id
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.turns.trace import trace_of
from gateway.turns.trace_text import rows_of, summary


class TraceRow(BaseModel):
    """Something that happened: messages read, a call of the model or of a tool, an approval, what was shown. `at` and
    `seconds` are seconds since the turn began and how long it took, null where that is not known."""

    kind: str
    label: str
    at: float | None
    seconds: float | None


class Trace(BaseModel):
    """`summary` says how it went in one line. `seconds` is how long the turn took, null while it has not ended, `end`
    the time of the last thing in it."""

    turn: str
    conversation: str
    summary: str
    started_at: datetime
    seconds: float | None
    end: float
    cost: float
    rows: list[TraceRow]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get("/turns/{turn}/trace")
    async def trace(turn: str, caller: Operator) -> Trace:
        """What the turn did when, from its log: also while it runs."""
        conversation = await gateway.store.conversation_of_turn(turn)
        found = None
        if conversation is not None and caller.sees(conversation_id(conversation)):
            found = await gateway.store.traced(turn)
        if found is None or conversation is None:
            raise Problem(404, "turn_not_found", "There is no turn with this id.")
        traced = trace_of(found)
        return Trace(
            turn=traced.turn,
            conversation=conversation_id(conversation),
            summary=gateway.mask(summary(traced)),
            started_at=traced.started_at,
            seconds=traced.seconds,
            end=traced.end,
            cost=traced.cost.cost,
            rows=[
                TraceRow(kind=row.kind, label=gateway.mask(row.label), at=row.at, seconds=row.seconds)
                for row in rows_of(traced)
            ],
        )

    return routes
