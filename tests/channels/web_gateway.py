"""A small honest stand-in for the gateway: it keeps what is said in memory and lets a test speak for the agent."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import httpx
import uvicorn
from PIL import Image

from agent.media import Attachment, FileTooLarge, MediaMissing
from channels.address import Address, Sender
from channels.channel import CommandHelp, NotStored, Sent
from channels.history import Context, Conversation, Item, PersonMessage, ShownReply
from channels.message import InboundMessage, MessageState, MessageStatus, Receipt
from channels.reply import Reply, Segment
from channels.runs import CallResult, RunReport, UnknownRun
from channels.web.channel import WebChannel
from channels.web.http_app import app

TOKEN = "let-me-in-0123456789"
COMMANDS = (CommandHelp("stop", "Stops what runs"), CommandHelp("new", "Starts afresh"))


class MemoryMedia:
    def __init__(self, limit: int = 10_000_000) -> None:
        self._limit = limit
        self._bytes: dict[str, bytes] = {}

    async def put(self, data: bytes, name: str) -> Attachment:
        if len(data) > self._limit:
            raise FileTooLarge(name, len(data), self._limit)
        hash = hashlib.sha256(data).hexdigest()
        self._bytes[hash] = data
        is_png = data.startswith(b"\x89PNG")
        return Attachment(hash, name, "image/png" if is_png else "application/octet-stream", len(data))

    async def read(self, attachment: Attachment) -> bytes:
        if attachment.hash not in self._bytes:
            raise MediaMissing(attachment)
        return self._bytes[attachment.hash]


class NoLedger:
    """The web channel must not need it."""

    def pieces(self) -> tuple[Sent, ...]:
        raise AssertionError("the web channel uses the ledger")

    async def sending(self, key: str) -> None:
        self.pieces()

    async def sent(self, key: str, ref: str, digest: str) -> None:
        self.pieces()

    async def rename(self, old: str, new: str) -> None:
        self.pieces()

    async def removed(self, key: str) -> None:
        self.pieces()

    async def simplified(self, key: str) -> None:
        self.pieces()

    async def undeliverable(self, key: str, reason: str) -> None:
        self.pieces()

    def permit(self) -> None:
        """Always."""

    def failed(self, key: str) -> bool:
        raise AssertionError


class NoRuns:
    """Nothing that is said here begins anything."""

    def tools(self, address: Address) -> frozenset[str]:
        return frozenset()

    async def report(self, run_id: str) -> RunReport:
        raise UnknownRun

    async def wait(self, run_id: str) -> RunReport:
        raise UnknownRun

    async def report_for(self, message: int) -> RunReport | None:
        return None

    async def submit_results(self, run_id: str, results: Sequence[CallResult]) -> None:
        raise UnknownRun


@dataclass
class Gateway:
    """Keeps items in order; `heard` is all that was delivered. What `say` and `mark` change is told to the channel."""

    media: MemoryMedia = field(default_factory=MemoryMedia)
    refuse: str | None = None
    full: bool = False
    heard: list[InboundMessage] = field(default_factory=list)
    filled: Context | None = None
    _items: dict[str, list[Item]] = field(default_factory=dict)
    _ended: dict[str, list[list[Item]]] = field(default_factory=dict)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.channel = WebChannel("web", self, NoRuns(), self.media, lambda: TOKEN)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        if self.full:
            raise NotStored("The disk is full.")
        for number, known in enumerate(self.heard, 1):
            if known.event_id == message.event_id:
                return Receipt(number, duplicate=True, refused=self.refuse)
        self.heard.append(message)
        number = len(self.heard)
        items = self._items.setdefault(message.address.chat, [])
        if message.command == "new":
            self._ended.setdefault(message.address.chat, []).append(items.copy())
            items.clear()
        elif message.kind == "new":
            items.append(await self._person_message(number, message))
        async with self._arrived:
            self._arrived.notify_all()
        return Receipt(number, refused=self.refuse)

    async def _person_message(self, number: int, message: InboundMessage) -> PersonMessage:
        files = [await self.media.put(await self.channel.fetch(file), file.name) for file in message.files]
        state: MessageState = "refused" if self.refuse else "waiting"
        reason = self.refuse or ""
        return PersonMessage(
            number,
            message.message_id,
            message.sender.name,
            message.text,
            tuple(files),
            state,
            None,
            reason,
            datetime.now(UTC),
        )

    async def hear(self, fits: Callable[[InboundMessage], bool] = lambda message: True) -> InboundMessage:
        """The first delivered message that fits, once it is there."""

        def found() -> InboundMessage | None:
            return next(filter(fits, self.heard), None)

        async with asyncio.timeout(60), self._arrived:
            await self._arrived.wait_for(found)
        message = found()
        assert message
        return message

    async def say(
        self,
        chat: str,
        id: str,
        *segments: Segment,
        to: InboundMessage | None = None,
        status: str = "",
        done: bool = False,
        parked: bool = False,
    ) -> None:
        reply_to = to.message_id if to else None
        reply = Reply(id, Address("web", "local", chat), reply_to, segments, status, done, parked)
        items = self._items.setdefault(chat, [])
        known = [n for n, item in enumerate(items) if isinstance(item, ShownReply) and item.reply.id == id]
        place = known[0] if known else len(items)
        items[place : place + 1] = [ShownReply(reply)]
        await self.channel.show(reply, NoLedger())

    async def mark(
        self, chat: str, number: int, state: MessageState, step: int | None = None, reason: str = ""
    ) -> None:
        for place, item in enumerate(self._items[chat]):
            if isinstance(item, PersonMessage) and item.id == number:
                self._items[chat][place] = replace(item, state=state, step=step, reason=reason)
        address = Address("web", "local", chat)
        await self.channel.show_status(
            MessageStatus(address, number, self.heard[number - 1].message_id, state, step, reason)
        )

    async def conversations(self, channel: str) -> tuple[Conversation, ...]:
        assert channel == "web"
        return tuple(_conversation(chat, items) for chat, items in reversed(self._items.items()) if items)

    async def earlier(self, channel: str) -> tuple[Conversation, ...]:
        return tuple(
            replace(_conversation(chat, items), generation=number)
            for chat, ended in self._ended.items()
            for number, items in enumerate(ended)
            if items
        )

    async def history(self, address: Address, generation: int | None = None) -> tuple[Item, ...]:
        if generation is not None:
            return tuple(dict(enumerate(self._ended.get(address.chat, ()))).get(generation, ()))
        return tuple(self._items.get(address.chat, ()))

    async def context(self, address: Address, person: Sender) -> Context | None:
        return self.filled

    async def delete(self, address: Address, by: str) -> None:
        self._items.pop(address.chat, None)
        self._ended.pop(address.chat, None)


def _conversation(chat: str, items: list[Item]) -> Conversation:
    title = next((item.text[:60] for item in items if isinstance(item, PersonMessage)), "")
    running = any(isinstance(item, ShownReply) and not item.reply.done for item in items)
    return Conversation(Address("web", "local", chat), title, datetime.now(UTC), running)


@dataclass(frozen=True)
class Served:
    gateway: Gateway
    url: str
    listening: asyncio.Task[None] | None

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"} | headers, timeout=60)

    async def stop_listening(self) -> None:
        if self.listening:
            self.listening.cancel()
            await asyncio.wait([self.listening])


@asynccontextmanager
async def served(gateway: Gateway, *, listening: bool = True, port: int = 0, **options: Any) -> AsyncIterator[Served]:
    """The house behind a real server, the channel listening, until left."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        config = uvicorn.Config(app(gateway.channel, **options), log_level="warning", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            listening = tasks.create_task(gateway.channel.listen(gateway.deliver, COMMANDS)) if listening else None
            await asyncio.sleep(0)
            site = Served(gateway, f"http://127.0.0.1:{listener.getsockname()[1]}", listening)
            yield site
            await site.stop_listening()
            server.should_exit = True
            await serving


def png(width: int = 640, height: int = 360, color: str = "#4255c8") -> bytes:
    kept = BytesIO()
    Image.new("RGB", (width, height), color).save(kept, "PNG")
    return kept.getvalue()
