"""Whom the API takes the caller for."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter
from pydantic import BaseModel

from channels.web.parse import OWNER
from gateway.api.caller import WEB, Reader
from gateway.api.events import Person
from gateway.api.limits import UPLOAD_LIMIT
from gateway.store.records import ApiKeyScope


class Session(BaseModel):
    """`conversations` and `agents` are patterns of the only ones that the caller may use; null: all.
    `manages_people`: the caller may admit people, and take their access back. `person` is the author of what the
    caller writes on the web channel, and the ids of conversations that they begin there begin with
    `new_conversations`. `upload_limit` is for one request, with all its files, in bytes."""

    name: str
    person: Person
    manages_people: bool
    scope: ApiKeyScope
    conversations: list[str] | None
    agents: list[str] | None
    upload_limit: int
    new_conversations: str


def router() -> APIRouter:
    routes = APIRouter(tags=["session"])

    @routes.get("/session")
    async def session(caller: Reader) -> Session:
        """Who the caller is, and what they may do."""
        return Session(
            name="Owner" if caller.sender == OWNER else caller.sender.name,
            person=Person(id=caller.sender.id, name=caller.sender.name),
            manages_people=caller.manages_people,
            scope=caller.scope,
            conversations=None if caller.conversations is None else list(caller.conversations),
            agents=None if caller.agents is None else list(caller.agents),
            upload_limit=UPLOAD_LIMIT,
            new_conversations=f"{WEB}:{quote(caller.account, safe='')}:",
        )

    return routes
