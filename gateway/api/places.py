"""The conversations that requests name."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from channels.address import Address
from channels.web.parse import BadPost, parse_address
from gateway.api.caller import Caller
from gateway.api.ids import conversation_id, session_of
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.sessions import session_key
from gateway.turns.agents import next_choice

WEB = "web"


@dataclass(frozen=True, slots=True)
class Place:
    """A conversation that the caller sees."""

    session: str
    address: Address

    @property
    def id(self) -> str:
        return conversation_id(self.session)


async def find_place(gateway: Gateway, caller: Caller, conversation: str) -> Place:
    """Raises a 404 for a conversation that does not exist, or that the caller may not see."""
    session = session_of(conversation)
    address = await gateway.store.address_of(session) if caller.sees(conversation_id(session)) else None
    if address is None:
        raise Problem(404, "conversation_not_found", "There is no conversation with this id.")
    return Place(session, address)


async def find_place_or_new(gateway: Gateway, caller: Caller, conversation: str) -> Place:
    """As `find_place`; an unknown one on the web channel is new: it begins with its first message."""
    try:
        return await find_place(gateway, caller, conversation)
    except Problem as missing:
        return _new_place(gateway, caller, conversation, missing)


async def find_place_to_write(gateway: Gateway, caller: Caller, conversation: str) -> Place:
    """As `find_place_or_new`. Raises a 403 if the turn that would read a message has
    an agent that the caller may not use, and a 503 while the gateway takes no messages."""
    require_receiving(gateway)
    place = await find_place_or_new(gateway, caller, conversation)
    if place.address.channel not in gateway.channels:
        raise Problem(409, "channel_off", f"The channel {place.address.channel} is not configured any more.")
    await _require_agents(gateway, caller, place)
    return place


async def find_place_to_change(gateway: Gateway, caller: Caller, conversation: str) -> Place:
    """As `find_place`. Raises a 403 if an agent works there, or would answer next, that the caller may not use."""
    place = await find_place(gateway, caller, conversation)
    await _require_agents(gateway, caller, place)
    return place


async def _require_agents(gateway: Gateway, caller: Caller, place: Place) -> None:
    if caller.agents is None:
        return
    sender = caller.sender_at(place.address)
    choice = await next_choice(gateway.store, gateway.agents, place.session, place.address, sender)
    require_agent(caller, choice.agent)
    await require_agents_there(gateway, caller, place.session)


async def require_agents_there(gateway: Gateway, caller: Caller, session: str) -> None:
    """Raises a 403 if a turn runs or waits there with an agent that the caller may not use."""
    if caller.agents is None:
        return
    running = await gateway.running.of(session)
    turns = [turn for turn, _ in await gateway.store.asking_turns(session)]
    if running is not None:
        turns.append(running.record)
    for turn in turns:
        require_agent(caller, gateway.agents.pick(turn.agent, turn.address, turn.principal))


def require_agent(caller: Caller, agent: str) -> None:
    if not caller.may_use(agent):
        raise Problem(403, "agent_not_allowed", f"Your key may not use the agent {agent}.")


def require_receiving(gateway: Gateway) -> None:
    if not gateway.is_receiving:
        raise Problem(503, "stopping", "The gateway is starting or stopping. Please try again.", retry_after=5)


def _new_place(gateway: Gateway, caller: Caller, conversation: str, missing: Problem) -> Place:
    channel, _, rest = session_of(conversation).partition("/")
    account, _, name = rest.partition("/")
    if channel != WEB or WEB not in gateway.channels or unquote(account) != caller.account:
        raise missing
    try:
        address = parse_address(WEB, name, caller.account)
    except BadPost as error:
        raise Problem(422, "invalid_request", f"{WEB}:{account}:NAME: {error}") from error
    if not caller.sees(conversation_id(session_key(address))):
        raise missing
    return Place(session_key(address), address)
