"""Conversations: the list of those that the caller may see."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api.caller import Reader
from gateway.api.ids import conversation_id
from gateway.app import Gateway
from gateway.store.records import StoredConversation


class Conversation(BaseModel):
    """`running`: a turn runs there."""

    id: str
    channel: str
    title: str
    last_at: datetime
    running: bool


class Conversations(BaseModel):
    conversations: list[Conversation]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["conversations"])

    @routes.get("/conversations")
    async def list_conversations(caller: Reader) -> Conversations:
        """The newest first."""
        stored = [each for name in gateway.channels for each in await gateway.store.conversations(name)]
        seen = [each for each in map(_conversation, stored) if caller.sees(each.id)]
        return Conversations(conversations=sorted(seen, key=lambda each: each.last_at, reverse=True))

    return routes


def _conversation(stored: StoredConversation) -> Conversation:
    return Conversation(
        id=conversation_id(stored.session),
        channel=stored.address.channel,
        title=stored.title,
        last_at=stored.last_at,
        running=stored.running,
    )
