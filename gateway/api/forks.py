"""Forks: a new conversation on the web channel that begins with the history of another one."""

from __future__ import annotations

from typing import Annotated, assert_never
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, Field

from channels.address import Address
from channels.web.parse import clean_text, parse_address
from gateway.api.caller import Caller, Writer
from gateway.api.conversations import Conversation
from gateway.api.ids import conversation_id
from gateway.api.places import WEB, Place, find_place, require_agent, require_receiving
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.bus import TitleChanged
from gateway.sessions import session_key
from gateway.store.forks import Fork
from gateway.store.records import AuditEvent, ModelChoice
from gateway.turns.agents import next_choice

MAX_TITLE = 200
MAX_ID = 2**63 - 1

_MARK = " (fork)"


class NewFork(BaseModel, extra="forbid"):
    """The history is copied up to and including the turn that read `message` (its `id`), or the turn of the run `turn`;
    without either, up to the last one that has ended. `name` is that of the new conversation, `web:local:NAME`."""

    message: int | None = Field(default=None, ge=1, le=MAX_ID)
    turn: str | None = Field(default=None, min_length=1, max_length=100)
    title: str = Field(default="", max_length=MAX_TITLE)
    agent: Annotated[str, Field(max_length=500)] | None = None
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["conversations"])

    @routes.post("/conversations/{conversation}/fork", status_code=201)
    async def fork_conversation(caller: Writer, conversation: str, new: NewFork) -> Conversation:
        """Begins a new conversation with the history of this one, up to a message or a turn of it."""
        require_receiving(gateway)
        if new.message is not None and new.turn is not None:
            raise Problem(422, "invalid_request", "Name a message or a turn, not both.")
        place = await find_place(gateway, caller, conversation)
        address = _address(gateway, caller, new)
        choice = await _choice(gateway, caller, place, address, new)
        title = " ".join(clean_text(new.title).split()) or await _title(gateway, place)
        wanted = Fork(place.session, address, new.message, new.turn, title, choice)
        await _fork(gateway, caller, wanted)
        return await _described(gateway, address)

    return routes


def _address(gateway: Gateway, caller: Caller, new: NewFork) -> Address:
    address = parse_address(WEB, new.name or f"fork-{uuid4().hex[:12]}", caller.account)
    if WEB not in gateway.channels:
        raise Problem(409, "channel_off", f"The channel {WEB} is not configured any more.")
    if not caller.sees(conversation_id(session_key(address))):
        detail = "You may use some conversations only, and not the new one. A key may see it with another `name`."
        raise Problem(403, "key_limited", detail)
    return address


async def _choice(gateway: Gateway, caller: Caller, place: Place, address: Address, new: NewFork) -> ModelChoice:
    """What is chosen in the new conversation: the given agent, or else the agent and the model of the original."""
    agents, roles, sender = gateway.agents, gateway.access.roles, caller.sender_at(address)
    role = gateway.access.role_of(address.channel, sender)
    choice = await next_choice(gateway.store, agents, place.session, place.address, caller.sender_at(place.address))
    if new.agent is not None:
        if new.agent not in agents.named or not roles.may_choose_agent(role, new.agent):
            raise Problem(422, "unknown_agent", f"There is no agent {new.agent} that you may choose.")
        choice = ModelChoice(agent=new.agent)
    elif choice.model not in roles.models(roles.level(role), gateway.models):
        choice = ModelChoice(reasoning=choice.reasoning, agent=choice.agent)
    require_agent(caller, choice.agent)
    if choice.agent == agents.pick("", address, sender):
        return ModelChoice(choice.model, choice.reasoning)
    return choice


async def _title(gateway: Gateway, place: Place) -> str:
    found = (await gateway.store.places([place.session])).get(place.session)
    title = "" if found is None else found.title
    return f"{title[: MAX_TITLE - len(_MARK)]}{_MARK}" if title else ""


async def _fork(gateway: Gateway, caller: Caller, wanted: Fork) -> None:
    match await gateway.store.fork(wanted):
        case "forked":
            pass
        case "exists":
            raise Problem(409, "conversation_exists", "There is a conversation of this name already.")
        case "not_found":
            raise Problem(404, "turn_not_found", "This conversation has no such message or turn.")
        case "not_ended":
            detail = "No turn has ended there yet. Try again when the answer is complete, or name an earlier turn."
            raise Problem(409, "turn_not_ended", detail)
        case outcome:
            assert_never(outcome)
    session = session_key(wanted.address)
    origin = {"from": conversation_id(wanted.session)}
    await gateway.store.record_audit(AuditEvent("forked", caller.actor, caller.sender.name, session, origin))
    gateway.bus.publish(TitleChanged(session))


async def _described(gateway: Gateway, address: Address) -> Conversation:
    session = session_key(address)
    found = (await gateway.store.places([session])).get(session)
    info = await gateway.store.session_info(session)
    if found is None or info is None:
        raise Problem(404, "conversation_not_found", "The conversation was deleted meanwhile.")
    return Conversation(
        id=conversation_id(session),
        channel=address.channel,
        kind=address.kind,
        title=found.title,
        last_at=info.last_at,
        running=False,
        archived=False,
    )
