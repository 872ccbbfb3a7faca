"""A client of event streams: it parses what comes, as strict as the format is, and folds replies from their changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx


class Event:
    def __init__(self, id: str, type: str, data: dict[str, Any], raw: str) -> None:
        assert data["type"] == type
        self.id = id
        self.type = type
        self.data = data
        self.raw = raw

    def __repr__(self) -> str:
        return f"<{self.id} {self.data}>"


class Stream:
    """What came in `events`; replies as the client has them in `replies`, by id."""

    def __init__(self, response: httpx.Response) -> None:
        self.events: list[Event] = []
        self.replies: dict[str, dict[str, Any]] = {}
        self._blocks = self._read(response)

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def last_id(self) -> str:
        return [event.id for event in self.events if event.id][-1]

    async def __anext__(self) -> Event:
        return await self.next()

    async def next(self) -> Event:
        event = await anext(self._blocks)
        self.events.append(event)
        self._fold(event)
        return event

    async def until(self, *types: str, where: Callable[[dict[str, Any]], bool] = lambda _: True) -> Event:
        """The next event of one of these types; those before it are taken too."""
        async with asyncio.timeout(30):
            while True:
                event = await self.next()
                if event.type in types and where(event.data):
                    return event

    def take_over(self, earlier: Stream) -> None:
        """Goes on with the replies of an earlier stream."""
        first, self.replies = self.events, earlier.replies
        for event in first:
            self._fold(event)

    def text(self, turn: str) -> str:
        """The texts of a reply, as the client has it."""
        reply = self.replies[turn]
        return "\n".join(reply["segments"][key].get("markdown", "") for key in reply["order"]).strip()

    async def _read(self, response: httpx.Response) -> AsyncIterator[Event]:
        lines: dict[str, str] = {}
        raw: list[str] = []
        async for line in response.aiter_lines():
            raw.append(line)
            if line:
                name, _, value = line.partition(": ")
                assert name in ("id", "event", "data"), line
                assert name not in lines, line
                lines[name] = value
            else:
                yield Event(lines.get("id", ""), lines["event"], json.loads(lines["data"]), "\n".join(raw))
                lines, raw = {}, []

    def _fold(self, event: Event) -> None:
        match event.type:
            case "snapshot":
                self.replies = {}
                for item in event.data["items"]:
                    if item["kind"] == "reply":
                        self._put(item["reply"])
            case "reply":
                self._put(event.data["reply"])
            case "reply.changed":
                reply = self.replies[event.data["turn"]]
                for segment in event.data["segments"]:
                    reply["segments"][segment["key"]] = segment
                for key, added in event.data["grown"].items():
                    reply["segments"][key]["markdown"] += added
                reply["order"] = event.data["order"]
                reply["done"] = event.data["done"]

    def _put(self, reply: dict[str, Any]) -> None:
        self.replies[reply["id"]] = {
            "order": [segment["key"] for segment in reply["segments"]],
            "segments": {segment["key"]: segment for segment in reply["segments"]},
            "done": reply["done"],
        }


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient,
    conversation: str | None = None,
    *,
    after: str | None = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    earlier: Stream | None = None,
) -> AsyncIterator[Stream]:
    """The events of one conversation, or of all. Entered when the stream has begun; goes on with the replies of an
    `earlier` stream."""
    path = "/events" if conversation is None else f"/conversations/{conversation}/events"
    headers = {**(headers or {}), **({} if after is None else {"Last-Event-ID": after})}
    async with client.stream("GET", path, params=params, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        stream.replies |= {} if earlier is None else earlier.replies
        await stream.next()
        yield stream
