"""What turns ask people: approvals and questions, and their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, model_validator

from agent.decisions.approvals import decision_options, full_arguments, open_decision
from agent.log import ApprovalDecided, ApprovalRequested, Ended, InputRequested, ModelAnswered
from channels.message import InboundMessage
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.ids import conversation_id
from gateway.api.places import Place, find_place, require_agents_there, require_receiving
from gateway.api.problems import Problem
from gateway.api.waiting import within
from gateway.app import Gateway
from gateway.inbound.commands import ANSWER
from gateway.store import decisions, questions
from gateway.store.records import Turn
from gateway.store.requests import AskingTurn

DECIDED_WITHIN = 30.0
"""Seconds to wait until a decision is stored."""

MAX_REASON = 2000


class Decider(BaseModel):
    """Who may decide: `who` is "anyone_here" in a direct chat, "beginner_and_admins" in a group, "admins" for a limit.
    `began_by` is who began the turn."""

    who: Literal["anyone_here", "beginner_and_admins", "admins"]
    began_by: str
    began_by_name: str


class Decision(BaseModel):
    """Something that a turn asks. `kind`: "approval" of a call or of going beyond a limit, or a "question" of the
    agent or of a running tool. `question` is Markdown. `until`: it is refused then; null: it waits."""

    id: str
    conversation: str
    turn: str
    kind: Literal["approval", "question"]
    state: Literal["open", "decided", "expired"]
    question: str
    options: list[str]
    tool: str | None
    arguments: dict[str, Any] | None
    decidable_by: Decider
    until: datetime | None
    decision: str = ""
    decided_by: str = ""
    reason: str = ""


class Decisions(BaseModel):
    decisions: list[Decision]


class Decide(BaseModel, extra="forbid"):
    """`option` counts from 0; `allow` is for approvals, in place of it."""

    option: int | None = Field(default=None, ge=0, le=99)
    allow: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Decide:
        if (self.option is None) == (self.allow is None):
            raise ValueError("either option or allow is needed")
        return self


class Decided(BaseModel):
    """The request has decided it."""

    decided: Literal[True] = True
    decision: Decision


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["decisions"])

    @routes.get("/decisions")
    async def list_decisions(caller: Reader) -> Decisions:
        """What is open in all conversations that the caller may see, the longest waiting first."""
        asking = await gateway.store.asking_turns()
        found = (each for turn in asking for each in open_requests(gateway, turn))
        return Decisions(decisions=[each for each in found if caller.sees(each.conversation)])

    @routes.get("/conversations/{conversation}/decisions")
    async def list_decisions_there(caller: Reader, conversation: str) -> Decisions:
        """What is asked in the conversation now."""
        place = await find_place(gateway, caller, conversation)
        asking = await gateway.store.asking_turns(place.session)
        return Decisions(decisions=[each for turn in asking for each in open_requests(gateway, turn)])

    @routes.get("/decisions/{decision}")
    async def get_decision(caller: Reader, decision: str) -> Decision:
        """Also one that is no longer open."""
        return await _find(gateway, caller, decision)

    @routes.post("/decisions/{decision}")
    async def decide(caller: Writer, request: Request, decision: str, given: Decide) -> Decided:
        """Decides it as the caller. 409: somebody has decided it before; 410: nobody had in time."""
        require_receiving(gateway)
        await request.body()
        found = await _find(gateway, caller, decision)
        _require_open(found)
        option = _option(found, given)
        place = await find_place(gateway, caller, found.conversation)
        await require_agents_there(gateway, caller, place.session)
        has_decided = await _press(gateway, request, caller, place, found, option)
        after = await _find(gateway, caller, decision, otherwise=found)
        if has_decided:
            return Decided(decision=after)
        _require_open(after)
        raise Problem(403, "not_allowed", "You may not decide this: the conversation says who may.")

    return routes


async def _press(
    gateway: Gateway, request: Request, caller: Caller, place: Place, found: Decision, option: int
) -> bool:
    """Presses the option's button; whether that has decided or answered."""
    key = found.id.partition(".")[2]
    message = InboundMessage(
        event_id=f"api/decision/{uuid4().hex}",
        address=place.address,
        sender=caller.sender_at(place.address),
        sent_at=datetime.now(UTC),
        kind="command",
        command=ANSWER,
        text=f"{key} {option}",
    )
    receipt = await gateway.deliver(message)
    if receipt is None or receipt.run is None or receipt.refused:
        return False
    waiting = gateway.run_waits.wait(receipt.run, lambda run: run.run.state != "waiting")
    run = await within(request, DECIDED_WITHIN, waiting)
    if run is None:
        raise Problem(503, "not_decided_yet", "The decision is not stored yet. Look at it again.", retry_after=1)
    # What did not decide was answered with words by a turn of its own.
    return run.run.turn != run.run.run_id


def _require_open(decision: Decision) -> None:
    match decision.state:
        case "decided":
            by = decision.decided_by or "Somebody"
            raise Problem(409, "decided_otherwise", f"{by} has decided it before: {decision.decision}.")
        case "expired":
            raise Problem(410, "decision_expired", "Nobody decided it in time.")
        case "open":
            pass


def _option(decision: Decision, given: Decide) -> int:
    if given.option is not None:
        if given.option >= len(decision.options):
            raise Problem(422, "invalid_request", f"option: there are {len(decision.options)}, counted from 0.")
        return given.option
    if decision.kind == "question":
        raise Problem(422, "invalid_request", "allow: this is a question. Choose an option, or send a message.")
    return 0 if given.allow else len(decision.options) - 1


async def _find(gateway: Gateway, caller: Caller, id: str, otherwise: Decision | None = None) -> Decision:
    """Raises a 404 unless it is open, or in the log of its turn; `otherwise`: what is then meant."""
    turn_id, _, key = id.partition(".")
    try:
        turn = await gateway.store.turn(turn_id)
    except LookupError:
        raise _unknown() from None
    if not caller.sees(conversation_id(turn.session)):
        raise _unknown()
    asking = await gateway.store.asking_turns(turn.session)
    found = (each for one in asking for each in open_requests(gateway, one) if each.id == id)
    decision = next(found, None) or _past(gateway, turn, key) or otherwise
    if decision is None:
        raise _unknown()
    return decision


def _unknown() -> Problem:
    return Problem(404, "decision_not_found", "There is no request with this id.")


def open_requests(gateway: Gateway, asking: AskingTurn) -> Iterator[Decision]:
    """What the turn asks people now."""
    turn, request = asking
    approval, question = open_decision(turn.entries), questions.open_in(turn.entries)
    if request is not None:
        yield _question(gateway, turn, request)
    elif approval is not None and turn.parked:
        yield _approval(gateway, turn, approval)
    elif question is not None and turn.parked:
        key, asked = question
        yield _described(gateway, turn, key, kind="question", question=asked.question, options=list(asked.options))


def _question(gateway: Gateway, turn: Turn, request: InputRequested) -> Decision:
    return _described(
        gateway,
        turn,
        f"{questions.KEY}{request.id}",
        kind="question",
        question=request.question,
        options=list(request.options),
        until=datetime.fromtimestamp(request.expires_at, UTC),
    )


def _past(gateway: Gateway, turn: Turn, key: str) -> Decision | None:
    """A request for approval that has been decided, or that the turn is about to wait for."""
    asked = [
        each for each in turn.entries if isinstance(each, ApprovalRequested) and f"{decisions.KEY}{each.id}" == key
    ]
    if not asked:
        return None
    found = _approval(gateway, turn, asked[-1])
    ends = (each for each in reversed(turn.entries) if isinstance(each, ApprovalDecided) and each.id == asked[-1].id)
    decided = next(ends, None)
    if decided is None:
        is_over = turn.stop is not None or any(isinstance(each, Ended) for each in turn.entries)
        return found.model_copy(update={"state": "expired"}) if is_over else found
    state = "expired" if decided.decision == "expired" else "decided"
    return found.model_copy(
        update={"state": state, "decision": decided.decision, "decided_by": decided.by, "reason": decided.reason}
    )


def _approval(gateway: Gateway, turn: Turn, asked: ApprovalRequested) -> Decision:
    calls = {call.id: call.name for each in turn.entries if isinstance(each, ModelAnswered) for call in each.calls}
    tool = (asked.tool or calls.get(asked.id)) if asked.subject == "call" else None
    whole = full_arguments(asked.shown_arguments) if tool else None
    assert len(decision_options(asked)) == len(asked.options)
    return _described(
        gateway,
        turn,
        f"{decisions.KEY}{asked.id}",
        kind="approval",
        question=asked.question if whole is None else f"{asked.question}\n\n{whole}",
        options=list(asked.options),
        tool=tool,
        arguments=_arguments(asked.shown_arguments) if tool else None,
        until=datetime.fromtimestamp(asked.expires_at, UTC),
        is_limit=asked.subject == "limit",
    )


def _arguments(arguments: str) -> dict[str, Any] | None:
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def _described(
    gateway: Gateway,
    turn: Turn,
    key: str,
    *,
    kind: Literal["approval", "question"],
    question: str,
    options: list[str],
    tool: str | None = None,
    arguments: dict[str, Any] | None = None,
    until: datetime | None = None,
    is_limit: bool = False,
) -> Decision:
    if turn.address.kind == "direct" or kind == "question":
        who: Literal["anyone_here", "beginner_and_admins", "admins"] = "anyone_here"
    else:
        who = "beginner_and_admins"
    if is_limit and gateway.access.admins(turn.address.channel):
        who = "admins"
    return Decision(
        id=f"{turn.id}.{key}",
        conversation=conversation_id(turn.session),
        turn=turn.id,
        kind=kind,
        state="open",
        question=question,
        options=options,
        tool=tool,
        arguments=arguments,
        decidable_by=Decider(who=who, began_by=turn.principal.id, began_by_name=turn.principal.name),
        until=until,
    )
