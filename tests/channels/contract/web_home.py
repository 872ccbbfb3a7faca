"""The web chat, for the contract: a client that opens the printed link and shows what the API tells, nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from gateway.assembly.build import Built
from tests.channels.contract.home import (
    INTERRUPTED,
    Feature,
    File,
    Picture,
    Plain,
    PlainPlace,
    Seen,
    Signal,
    Upload,
    Words,
)

T = TypeVar("T")
Json = dict[str, Any]

OVER = {"answered", "failed", "stopped", "withdrawn", "refused"}


class WebPlace(PlainPlace):
    """A conversation. It is watched while the gateway runs, and what was seen stays."""

    def __init__(self, chat: str) -> None:
        self.items: list[Json] = []
        self._path = f"/api/v1/conversations/web:local:{chat}"
        self._bell = Signal()
        self._files: dict[str, bytes] = {}
        self._posted: dict[str, tuple[dict[str, Any], str]] = {}
        self._client: httpx.AsyncClient | None = None
        self._watching: asyncio.Task[None] | None = None

    # --- the line ---

    async def open(self, client: httpx.AsyncClient) -> None:
        self._client = client
        begun = asyncio.Event()
        self._watching = asyncio.create_task(self._watch(client, begun))
        async with asyncio.timeout(60):
            await begun.wait()

    async def close(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if not watching.cancelled():
                watching.result()

    @property
    def client(self) -> httpx.AsyncClient:
        assert self._client is not None
        return self._client

    async def _watch(self, client: httpx.AsyncClient, begun: asyncio.Event) -> None:
        async with client.stream("GET", f"{self._path}/events") as answer:
            answer.raise_for_status()
            async for event in _events(answer.aiter_lines()):
                self._take(event)
                await self._fetch(client)
                begun.set()
                self._bell.ring()

    def _take(self, event: Json) -> None:
        match event["type"]:
            case "snapshot":
                self.items = event["items"]
            case "message":
                self._put("message", "id", event["message"])
            case "message.state":
                for item in self.items:
                    if item["kind"] == "message" and item["id"] == event["id"]:
                        item |= {"state": event["state"], "step": event["step"]}
            case "reply":
                self._put("reply", "reply", {"kind": "reply", "reply": event["reply"]})
            case "reply.changed":
                _change(next(reply for reply in self._replies() if reply["id"] == event["turn"]), event)

    def _put(self, kind: str, key: str, item: Json) -> None:
        def name(item: Json) -> object:
            return item[key]["id"] if kind == "reply" else item[key]

        same = [n for n, known in enumerate(self.items) if known["kind"] == kind and name(known) == name(item)]
        place = same[0] if same else len(self.items)
        self.items[place : place + 1] = [item]

    async def _fetch(self, client: httpx.AsyncClient) -> None:
        segments = [segment for reply in self._replies() for segment in reply["segments"]]
        for attachment in [segment["attachment"] for segment in segments if segment["kind"] == "media"]:
            if attachment["hash"] not in self._files:
                path = f"{self._path}/files/{attachment['hash']}/{quote(attachment['name'], safe='')}"
                answer = await client.get(path)
                answer.raise_for_status()
                self._files[attachment["hash"]] = answer.content

    def _shown_files(self) -> set[str]:
        segments = [segment for reply in self._replies() for segment in reply["segments"]]
        return {segment["attachment"]["hash"] for segment in segments if segment["kind"] == "media"}

    def _replies(self) -> list[Json]:
        return [item["reply"] for item in self.items if item["kind"] == "reply"]

    # --- what the person does ---

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        id = uuid4().hex
        await self._post(id, json={"client_id": id, "text": text})
        return id

    async def send(self, *files: Upload, text: str = "") -> str:
        id = uuid4().hex
        parts = [("files", (file.name, file.data)) for file in files]
        await self._post(id, data={"client_id": id, "text": text}, files=parts)
        return id

    async def _post(self, id: str, **body: Any) -> None:
        self._posted[id] = (body, self._path)
        (await self.client.post(f"{self._path}/messages", **body)).raise_for_status()

    async def again(self, message: str) -> None:
        """As the page does when it has not got the answer to its post."""
        body, path = self._posted[message]
        answer = await self.client.post(f"{path}/messages", **body)
        assert answer.json()["duplicate"]

    async def push_malformed(self) -> None:
        answer = await self.client.post(f"{self._path}/messages", content=b"{", headers={"Content-Type": "text/json"})
        assert answer.is_client_error

    async def press(self, option: str) -> None:
        def asked() -> tuple[str, int] | None:
            for segment in (segment for reply in self._replies() for segment in reply["segments"]):
                if segment["kind"] == "question" and segment["open"] and option in segment["options"]:
                    return segment["key"], segment["options"].index(option)
            return None

        question, number = await self.until(asked)
        await self._press(f"/answer {question} {number}")

    async def press_stop(self) -> None:
        await self._press("/stop")

    async def _press(self, command: str) -> None:
        body = {"client_id": uuid4().hex, "text": command, "as": "command"}
        (await self.client.post(f"{self._path}/messages", json=body)).raise_for_status()

    async def heard(self) -> None:
        """The answer to each post is the confirmation."""

    # --- what the person sees ---

    async def reload(self) -> list[Json]:
        """The items as the page gets them when it is opened."""
        answer = await self.client.get(f"{self._path}/history", params={"limit": 1000})
        items: list[Json] = [] if answer.status_code == 404 else answer.json()["items"]
        return items

    def screen(self) -> Sequence[Seen]:
        return [seen for reply in self._replies() for segment in reply["segments"] for seen in self._seen(segment)]

    def _seen(self, segment: Json) -> Iterator[Seen]:
        match segment["kind"]:
            case "text":
                markdown = segment["markdown"]
                plain = f"{_plain(markdown)}\n{INTERRUPTED}" if segment["interrupted"] else _plain(markdown)
                yield Words(plain, markdown, tuple(re.findall(r"```\w*\n(.*?)\n?```", markdown, re.DOTALL)))
            case "media" if segment["attachment"]["hash"] not in self._files:
                pass  # it is still being loaded
            case "media":
                attachment, data = segment["attachment"], self._files[segment["attachment"]["hash"]]
                if attachment["media_type"].startswith("image/"):
                    yield Picture(data, segment["caption"])
                else:
                    yield File(attachment["name"], data, segment["caption"])
            case "question":
                asked, answer = segment["question"], segment["answer"]
                yield Words("\n".join(filter(None, (_plain(asked), answer))), asked)

    def status(self) -> str:
        return " ".join(reply["status"] for reply in self._replies())

    async def until(self, holds: Callable[[], T]) -> T:
        return await self._bell.until(holds, self.screen)

    async def settled(self) -> None:
        """What was streamed is what a reload would show, and no message is left in the air."""
        reloaded = await self.reload()
        await self._bell.until(
            lambda: _brief(self.items) == _brief(reloaded) and self._files.keys() >= self._shown_files(),
            lambda: (self.items, reloaded),
        )
        assert {item["state"] for item in self.items if item["kind"] == "message"} <= OVER
        assert all(reply["done"] for reply in self._replies())


class WebHome(Plain):
    name = "web"
    has: frozenset[Feature] = frozenset(
        {"album", "files", "history", "malformed", "outage", "redelivery", "channels", "screen"}
    )

    def __init__(self) -> None:
        self.main = WebPlace("main")
        self._rooms = {"main": self.main}

    def settings(self) -> str:
        return "[web]\nport = 0\n"

    @asynccontextmanager
    async def visit(self, built: Built) -> AsyncIterator[None]:
        assert built.link is not None
        async with httpx.AsyncClient(
            base_url=httpx.URL(built.link).join("/"), follow_redirects=True, trust_env=False, timeout=60
        ) as client:
            (await client.get(built.link)).raise_for_status()
            for place in self._rooms.values():
                await place.open(client)
            try:
                yield
            finally:
                for place in self._rooms.values():
                    await place.close()

    def room(self, name: str) -> WebPlace:
        """To be asked for before the gateway runs."""
        return self._rooms.setdefault(name, WebPlace(name))

    def bold(self, text: str) -> str:
        return f"**{text}**"

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """The page's stream breaks off, and comes back."""
        for place in self._rooms.values():
            await place.close()
        yield
        for place in self._rooms.values():
            await place.open(place.client)


async def _events(stream: AsyncIterator[str]) -> AsyncIterator[Json]:
    async for line in stream:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def _change(reply: Json, change: Json) -> None:
    segments = {segment["key"]: segment for segment in reply["segments"]}
    for key, added in change["grown"].items():
        segments[key]["markdown"] += added
    segments |= {segment["key"]: segment for segment in change["segments"]}
    reply |= {
        "segments": [segments[key] for key in change["order"]],
        "status": change["status"],
        "done": change["done"],
    }


def _plain(markdown: str) -> str:
    """Near enough for texts that have these statuses for looks only."""
    return re.sub(r"^```.*$|[*_`]", "", markdown, flags=re.MULTILINE)


def _brief(items: list[Json]) -> tuple[object, object]:
    """Messages in order, and each reply. Where a reply stands among them, the page decides by the steps.

    A chosen option has no message id: the stream shows it in its question only.
    """
    written = [item for item in items if item["kind"] == "message" and item["message_id"] is not None]
    messages = [(item["id"], item["text"], item["state"]) for item in written]
    return messages, {item["reply"]["id"]: item["reply"]["segments"] for item in items if item["kind"] == "reply"}
