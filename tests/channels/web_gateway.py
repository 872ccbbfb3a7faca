"""A small honest stand-in for the gateway behind the page: it keeps what is said in memory, lets a test speak for the
agent, and tells both through the API, in its own words and with its own guard."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from typing import Any

import httpx
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from PIL import Image
from starlette.responses import Response

from agent.media import Attachment
from agent.testing import MemoryMedia
from channels.address import Address
from channels.channel import NotStored
from channels.message import InboundMessage, MessageState, Receipt
from channels.reply import Reply, Segment
from channels.web.access_guard import SecurityHeaders, Site
from channels.web.channel import WebChannel
from channels.web.http_app import app
from channels.web.parse import OWNER, Post, parse, parse_address
from gateway.api import events
from gateway.api.bodies import MessageBodies
from gateway.api.broadcast import Broadcast, Missed, Watcher
from gateway.api.caller import Caller
from gateway.api.conversations import Conversation, Conversations, Deleted
from gateway.api.file_response import StoredFileResponse
from gateway.api.guard import Guard
from gateway.api.history import History
from gateway.api.items import file_item, reply_change, reply_item
from gateway.api.limits import UPLOAD_LIMIT
from gateway.api.messages import Sent
from gateway.api.problems import Problem, answer_problems
from gateway.api.session import Session
from gateway.api.streams import EventStream
from gateway.store.schedules import schedule_of
from gateway.web.connections import App
from gateway.web.http_server import mounted

TOKEN = "let-me-in-0123456789"
HOME = "web:local:"
Item = events.PersonMessage | events.ShownReply


@dataclass
class Gateway:
    """Keeps items in order; `heard` is all that was delivered. What `say` and `mark` change is told to the page.
    `refuse`: why messages are refused; `filled`: the share of the model's context window that is filled."""

    media: MemoryMedia = field(default_factory=MemoryMedia)
    refuse: str | None = None
    full: bool = False
    heard: list[InboundMessage] = field(default_factory=list)
    filled: float | None = None
    told: Broadcast = field(default_factory=Broadcast)
    watchers: set[Watcher] = field(default_factory=set)
    _replies: dict[str, Reply] = field(default_factory=dict)
    _items: dict[str, list[Item]] = field(default_factory=dict)
    _ended: dict[str, list[list[Item]]] = field(default_factory=dict)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.channel = WebChannel("web", self.media)

    async def deliver(self, message: InboundMessage) -> Receipt:
        if self.full:
            raise NotStored("The disk is full.")
        for number, known in enumerate(self.heard, 1):
            if known.event_id == message.event_id:
                return Receipt(number, duplicate=True, refused=self.refuse)
        self.heard.append(message)
        number = len(self.heard)
        chat = message.address.chat
        items = self._items.setdefault(chat, [])
        if message.command == "new":
            self._ended.setdefault(chat, []).append(items.copy())
            items.clear()
            self._tell(chat, events.ConversationChanged(conversation=HOME + chat, change="new", title=""), renews=True)
        elif message.kind == "new":
            written = await self._person_message(number, message)
            items.append(written)
            self._tell(chat, events.MessageAccepted(conversation=HOME + chat, message=written))
        async with self._arrived:
            self._arrived.notify_all()
        return Receipt(number, refused=self.refuse, command="" if self.refuse else message.command or "")

    async def _person_message(self, number: int, message: InboundMessage) -> events.PersonMessage:
        files = [await self.media.put(await self.channel.fetch(file), file.name) for file in message.files]
        return events.PersonMessage(
            id=number,
            message_id=message.message_id,
            sender=events.Person(id=message.sender.id, name=message.sender.name),
            text=message.text,
            files=list(map(file_item, files)),
            state="refused" if self.refuse else "waiting",
            reason=self.refuse or "",
            run=None,
            turn=None,
            step=None,
            schedule=schedule_of(message.event_id),
            sent_at=datetime.now(UTC),
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
        known = [n for n, item in enumerate(items) if isinstance(item, events.ShownReply) and item.reply.id == id]
        place = known[0] if known else len(items)
        items[place : place + 1] = [events.ShownReply(reply=reply_item(reply))]
        before, self._replies[id] = self._replies.get(id), reply
        if before is not None and not before.done:
            self._tell(chat, reply_change(HOME + chat, before, reply))
        else:
            self._tell(chat, events.ReplyShown(conversation=HOME + chat, turn=id, reply=reply_item(reply)))

    async def mark(
        self, chat: str, number: int, state: MessageState, step: int | None = None, reason: str = ""
    ) -> None:
        items = self._items[chat]
        for place, item in enumerate(items):
            if isinstance(item, events.PersonMessage) and item.id == number:
                items[place] = item.model_copy(update={"state": state, "step": step, "reason": reason})
        changed = events.MessageStateChanged(
            conversation=HOME + chat, id=number, state=state, reason=reason, turn=None, step=step
        )
        self._tell(chat, changed)

    def _tell(self, chat: str, event: events.Event, *, renews: bool = False) -> None:
        self.told.publish(chat, HOME + chat, partial(events.encoded, event), renews=renews)

    def snapshot(self, chat: str, newest: int) -> events.Snapshot:
        page = self.history(chat, newest)
        more = page.before is not None
        return events.Snapshot(conversation=HOME + chat, items=page.items, more=more, before=page.before)

    def history(self, chat: str, limit: int, before: str = "", generation: int | None = None) -> History:
        ended = dict(enumerate(self._ended.get(chat, ())))
        items = self._items.get(chat, []) if generation is None else ended.get(generation, [])
        end = int(before) if before else len(items)
        start = max(0, end - limit)
        return History(items=items[start:end], before=str(start) if start else None)

    def conversations(self, *, earlier: bool) -> Conversations:
        found = [
            _conversation(chat, items, number)
            for chat, ended in self._ended.items()
            for number, items in enumerate(ended)
            if items
        ]
        if not earlier:
            found = [_conversation(chat, items, None) for chat, items in reversed(self._items.items()) if items]
        return Conversations(conversations=found, before=None)

    def delete(self, chat: str) -> None:
        self._items.pop(chat, None)
        self._ended.pop(chat, None)
        changed = events.ConversationChanged(conversation=HOME + chat, change="deleted", title="")
        self._tell(chat, changed, renews=True)


def _conversation(chat: str, items: list[Item], generation: int | None) -> Conversation:
    title = next((item.text[:60] for item in items if isinstance(item, events.PersonMessage)), "")
    running = any(isinstance(item, events.ShownReply) and not item.reply.done for item in items)
    return Conversation(
        id=HOME + chat,
        channel="web",
        kind="direct",
        title=title,
        # What /new has ended is older than what goes on.
        last_at=datetime.now(UTC) - timedelta(hours=generation is not None),
        running=running,
        archived=False,
        generation=generation,
    )


class _Owner:
    """Everybody with the token."""

    async def find(self, secret: str) -> Caller | None:
        return Caller(OWNER, "admin") if secret == TOKEN else None

    async def find_person(self, name: str) -> Caller | None:
        return None


async def _stream(gateway: Gateway, chat: str, after: str, newest: int) -> AsyncGenerator[bytes]:
    told = gateway.told

    def renewed(watcher: Watcher) -> bytes:
        watcher.position = told.number
        return events.encoded(gateway.snapshot(chat, newest), told.id(told.number))

    with told.watch(chat) as watcher:
        gateway.watchers.add(watcher)
        number = told.number_of(after)
        if number is not None and watcher.topic.after(number) is not None:
            watcher.position = number
            yield events.encoded(events.Ping(), None)
        else:
            yield renewed(watcher)
        while (found := await watcher.next(15)) is not None:
            assert not isinstance(found, Missed)
            for frame in found:
                yield frame.data
            if any(frame.renews for frame in found):
                yield renewed(watcher)


def _api(gateway: Gateway, upload_limit: int, newest: int) -> FastAPI:
    api = FastAPI()
    api.add_middleware(Guard, callers=_Owner(), site=Site("127.0.0.1"))
    api.add_middleware(SecurityHeaders)
    answer_problems(api)
    routes = APIRouter(prefix="/api/v1")

    @routes.get("/session")
    async def session() -> Session:
        return Session(
            name="Owner",
            person=events.Person(id=OWNER.id, name=OWNER.name),
            manages_people=True,
            scope="admin",
            conversations=None,
            agents=None,
            upload_limit=upload_limit,
            new_conversations=HOME,
        )

    @routes.get("/conversations")
    async def conversations(channel: str, earlier: bool = False) -> Conversations:
        assert channel == "web"
        return gateway.conversations(earlier=earlier)

    @routes.get("/conversations/{id}")
    async def conversation(id: str) -> dict[str, Any]:
        return {"context": None if gateway.filled is None else {"share": gateway.filled, "window": 200_000}}

    @routes.delete("/conversations/{id}")
    async def delete(id: str) -> Deleted:
        gateway.delete(_chat(id))
        return Deleted(conversations=1, messages=1, turns=1, files=0)

    @routes.get("/conversations/{id}/history")
    async def history(id: str, limit: int, before: str = "", generation: int | None = None) -> History:
        return gateway.history(_chat(id), limit, before, generation)

    @routes.get("/conversations/{id}/events", response_class=EventStream)
    async def stream(id: str, after: str = "") -> EventStream:
        return EventStream(_stream(gateway, _chat(id), after, newest))

    @routes.post("/conversations/{id}/messages")
    async def post(id: str, request: Request) -> Sent:
        given = await MessageBodies().read(request, gateway.media, "")
        message = parse(
            Post(
                given.body.client_id,
                given.body.text,
                tuple(each for each in given.files if isinstance(each, Attachment)),
            ),
            parse_address("web", _chat(id)),
            datetime.now(UTC),
        )
        assert given.body.as_ != "command" or message.kind == "command"
        receipt = await gateway.deliver(message)
        return Sent(
            id=receipt.id,
            conversation=id,
            state="refused" if receipt.refused else "accepted",
            reason=receipt.refused or "",
            duplicate=receipt.duplicate,
            run=None,
            conflicts=[],
            command=receipt.command or None,
        )

    @routes.get("/conversations/{id}/files/{hash}/{name}")
    async def file(id: str, hash: str, name: str) -> Response:
        data = await gateway.media.read(Attachment(hash, name, "", 0))
        return StoredFileResponse(await gateway.media.put(data, name), gateway.media)

    api.include_router(routes)
    return api


def _chat(id: str) -> str:
    if not id.startswith(HOME):
        raise Problem(404, "conversation_not_found", f"No conversation {id}.")
    return id.removeprefix(HOME)


async def token() -> str:
    """That of the owner."""
    return TOKEN


def site_of(gateway: Gateway, upload_limit: int = UPLOAD_LIMIT, newest: int = 200) -> App:
    """The page, and the API that it asks."""
    return mounted(app(token, Site("127.0.0.1")), {"/api/v1/": _api(gateway, upload_limit, newest)})


@dataclass(frozen=True)
class Served:
    gateway: Gateway
    url: str

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"} | headers, timeout=60)

    def cut(self) -> None:
        """Ends the streams that are open; new ones go on."""
        for watcher in self.gateway.watchers:
            watcher.close()
        self.gateway.watchers.clear()

    def end_streams(self) -> None:
        self.gateway.told.close()


@asynccontextmanager
async def served(
    gateway: Gateway, *, port: int = 0, upload_limit: int = UPLOAD_LIMIT, newest: int = 200
) -> AsyncIterator[Served]:
    """The house behind a real server until left. A snapshot has the `newest` items."""
    # As a gateway that was started again, it knows nothing of earlier streams.
    gateway.told = Broadcast()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        site = site_of(gateway, upload_limit, newest)
        server = uvicorn.Server(uvicorn.Config(site, log_level="warning", ws="none", lifespan="off"))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve(sockets=[listener]))
            telling = tasks.create_task(gateway.told.distribute())
            served = Served(gateway, f"http://127.0.0.1:{listener.getsockname()[1]}")
            yield served
            served.end_streams()
            telling.cancel()
            server.should_exit = True
            await serving


def png(width: int = 640, height: int = 360, color: str = "#4255c8") -> bytes:
    kept = BytesIO()
    Image.new("RGB", (width, height), color).save(kept, "PNG")
    return kept.getvalue()
