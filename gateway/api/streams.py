"""Event streams: of one conversation, and of all that the caller may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.api import events
from gateway.api.caller import Caller, Reader
from gateway.api.follower import Follower
from gateway.api.places import find_place_or_new
from gateway.app import Gateway

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The latter tells nginx to pass on each event at once."""

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; the data of each is an `Event` (see /api/v1/events/schema.json).",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

LastEventId = Annotated[str | None, Header(max_length=100, description="The id of the last event that was taken.")]
After = Annotated[str | None, Query(max_length=100, description="The same, for browsers: they send no such header.")]


class EventStream(StreamingResponse):
    """Closes its source as soon as the client disconnects, not at the next garbage collection."""

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes]) -> None:
        self._source = source
        super().__init__(source, headers=_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._source):
            await super().__call__(scope, receive, send)


def router(gateway: Gateway, follower: Follower) -> APIRouter:
    routes = APIRouter(tags=["events"])

    @routes.get("/events/schema.json")
    async def event_schema(caller: Reader) -> dict[str, Any]:
        """The JSON schema of the data of each event."""
        return events.schema()

    @routes.get("/events", response_class=EventStream, status_code=200, responses=_STREAM)
    async def all_events(caller: Reader, after: After = None, last_event_id: LastEventId = None) -> EventStream:
        """The events of all conversations that the caller may see, and, with the scope `operate`, of channels, from now
        on or after the last event taken."""
        return EventStream(follower.everything(partial(_sees, caller), last_event_id or after))

    @routes.get("/conversations/{conversation}/events", response_class=EventStream, status_code=200, responses=_STREAM)
    async def conversation_events(
        conversation: str, caller: Reader, after: After = None, last_event_id: LastEventId = None
    ) -> EventStream:
        """A snapshot of the conversation and its events from now on, or those after the last event taken. One of the
        web channel may begin later."""
        place = await find_place_or_new(gateway, caller, conversation)
        return EventStream(follower.conversation(place.session, last_event_id or after))

    return routes


def _sees(caller: Caller, conversation: str) -> bool:
    """`conversation` is "" for what happens to channels."""
    return caller.sees(conversation) if conversation else caller.conversations is None and caller.may("operate")
