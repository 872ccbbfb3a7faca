"""People and their access: roles of the settings, pairing, and those who were refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from gateway.api.caller import Caller, Operator
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.records import Pairing
from gateway.turns.roles import Role


class Listed(BaseModel):
    """A user of the settings, or a group, as written there: an id, an @name, or "*" for everybody. "allow" is the
    allowlist, whose people have the default role. `id` and `name` are whom an @name means, "" until that is known."""

    channel: str
    list: Role | Literal["allow"]
    user: str
    id: str
    name: str


class Paired(BaseModel):
    """Somebody with access by pairing."""

    channel: str
    id: str
    name: str


class PairingRequest(BaseModel):
    """Somebody who asks for access. `code` is told to admins only, "" for others."""

    channel: str
    id: str
    name: str
    code: str
    expires_at: datetime


class Refused(BaseModel):
    """Somebody whose messages were refused, who is not allowed."""

    channel: str
    id: str
    name: str
    messages: int
    last_at: datetime


class People(BaseModel):
    listed: list[Listed]
    paired: list[Paired]
    requests: list[PairingRequest]
    refused: list[Refused]


class Code(BaseModel, extra="forbid"):
    code: str = Field(min_length=1, max_length=40)


class Revocation(BaseModel, extra="forbid"):
    """`id` is the platform's id of the person."""

    channel: str = Field(min_length=1, max_length=200)
    id: str = Field(min_length=1, max_length=200)


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(prefix="/people", tags=["people"])

    @routes.get("")
    async def people(caller: Operator) -> People:
        """Who may write to the bot, who asks for it, and who was refused lately."""
        return await _people(gateway, caller.operates, with_codes=caller.manages_people)

    @routes.post("/pair")
    async def pair(code: Code, caller: Operator) -> Paired:
        """Approves who was given this code; they are told. Needs the scope `admin`, or a signed-in admin of the
        channel."""
        channel = _managed(caller)
        pairing = await gateway.access_changes.approve(code.code, caller.actor, caller.sender.name, channel)
        if pairing is None:
            raise Problem(404, "code_unknown", "This pairing code is unknown or has expired.")
        return _paired(pairing)

    @routes.post("/revoke")
    async def revoke(person: Revocation, caller: Operator) -> Paired:
        """Takes back what pairing gave: what the person has running is stopped, what waits is refused. The lists of the
        settings are not changed. Needs the same as `pair`."""
        pairing = None
        if _managed(caller) in (None, person.channel):
            actor, name = caller.actor, caller.sender.name
            pairing = await gateway.access_changes.revoke(person.id, actor, name, person.channel)
        if pairing is None:
            raise Problem(404, "not_paired", "Nobody with this id has access to this channel by pairing.")
        return _paired(pairing)

    return routes


def _managed(caller: Caller) -> str | None:
    """The channel for whose people the caller decides; None: all."""
    if not caller.manages_people:
        raise Problem(403, "scope_missing", f'This needs a key with the scope "admin"; yours has "{caller.scope}".')
    return caller.operates


async def _people(gateway: Gateway, channel: str | None, *, with_codes: bool) -> People:
    """Of this channel, or of all."""
    now = datetime.now(UTC)
    pairings = [each for each in await gateway.store.pairings() if channel in (None, each.channel)]
    named = {(each.channel, each.name): each for each in await gateway.store.identities()}
    listed = []
    for place, given, users in gateway.access.lists():
        for user in sorted(users) if channel in (None, place) else ():
            known = named.get((place, user))
            id, name = ("", "") if known is None else (known.user_id, known.user_name)
            listed.append(Listed(channel=place, list=given, user=user, id=id, name=name))
    return People(
        listed=listed,
        paired=[_paired(each) for each in pairings if each.approved],
        requests=[
            PairingRequest(
                channel=each.channel,
                id=each.sender.id,
                name=each.sender.name,
                code=each.code if with_codes else "",
                expires_at=each.expires_at,
            )
            for each in pairings
            if not each.approved and each.expires_at > now
        ],
        refused=[
            Refused(
                channel=each.channel,
                id=each.sender.id,
                name=each.sender.name,
                messages=each.messages,
                last_at=each.last_at,
            )
            for each in await gateway.store.strangers(channel)
        ],
    )


def _paired(pairing: Pairing) -> Paired:
    return Paired(channel=pairing.channel, id=pairing.sender.id, name=pairing.sender.name)
