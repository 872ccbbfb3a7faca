"""Delivery under any sequence of refusals, lost answers, rate limits, moved chats and restarts: each reply is shown
once or known to be undeliverable, and no chat is blocked."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agent.agent import Agent
from agent.events import OnDelta, TextDelta
from agent.log import Call, MessagesRead, Text
from agent.model import Answer, Request
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from agent.tool_result import ToolResult
from channels.address import Address, Sender
from channels.channel import (
    ChatMoved,
    Ledger,
    OutcomeUnknown,
    Refused,
    RetryLater,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.memory import MemoryChannel
from channels.message import InboundMessage
from channels.reply import MediaSegment, QuestionSegment, Reply, TextSegment
from channels.sync import Piece, sync_pieces
from gateway.app import Gateway, GatewayOptions
from gateway.inbound.access import AccessPolicy
from gateway.outbound.delivery import RetryLimits
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.store import open_store
from gateway.turns.agents import OneAgent
from tests.engines import Kind, engines
from tests.gateway.machines import run_machine
from tests.gateway.play import until

CHATS = ("one", "two", "three")
THREADS = (None, "a", "b")
ANN = Sender("7", "Ann")
LIMITS = RetryLimits(attempts=2, seconds=0.5, max_backoff=0.01)
BOUND = 60.0
TURNS = (
    "SELECT id, address ->> 'chat', address ->> 'thread', undeliverable FROM turns WHERE address ->> 'chat' != 'direct'"
)
TOLD = "SELECT 1 FROM audit WHERE event = 'undelivered' AND CAST(detail AS TEXT) LIKE ?"
OPEN = "SELECT 1 FROM turns WHERE NOT delivered UNION SELECT 1 FROM inbox WHERE state = 'waiting'"

Fault = Literal["lost", "vanished", "failed", "down", "limited", "refused"]
FAULTS = st.sampled_from(["lost", "vanished", "failed", "down", "limited", "refused"])


@dataclass
class Post:
    """A message on the platform."""

    text: str
    thread: str | None
    repeat: bool = False
    deleted: bool = False


@dataclass
class Platform:
    """Chats by their current id, and what goes wrong next in each. `moved` are former ids with the next ones."""

    posts: dict[str, list[Post]] = field(default_factory=dict)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    takes_files: bool = True

    def current(self, chat: str) -> str:
        while chat in self.moved:
            chat = self.moved[chat]
        return chat


class Target:
    """A `channels.sync.Target` for one conversation."""

    def __init__(self, platform: Platform, address: Address) -> None:
        self._platform = platform
        self._chat = address.chat
        self._thread = address.thread

    def batch_size(self, contents: Sequence[str]) -> int:
        return 1

    async def send(self, contents: Sequence[str], *, first: bool, repeat: bool) -> Sequence[str]:
        fault = self._refuse(contents[0])
        posts = self._platform.posts.setdefault(self._chat, [])
        posts.append(Post(contents[0], self._thread, repeat))
        if fault == "lost":
            raise OutcomeUnknown("the answer was lost")
        return [f"{self._chat}/{len(posts) - 1}"]

    async def edit(self, ref: str, content: str, *, repeat: bool) -> bool:
        chat, _, number = ref.partition("/")
        if chat != self._chat:
            return False
        fault = self._refuse(content, sending=False)
        post = self._platform.posts[chat][int(number)]
        if post.deleted:
            return False
        post.text, post.repeat = content, repeat
        if fault == "lost":
            raise ServerFailed("the answer was lost")
        return True

    async def delete(self, ref: str) -> None:
        chat, _, number = ref.partition("/")
        if chat == self._chat:
            self._refuse("", sending=False)
            self._platform.posts[chat][int(number)].deleted = True

    def simpler(self, content: str) -> Sequence[str]:
        return () if content.startswith("file") else [f"plain {content}"]

    def notice(self, content: str, reason: str) -> str:
        return f"not shown: {reason}"

    def _refuse(self, content: str, *, sending: bool = True) -> Fault | None:
        platform = self._platform
        if self._chat in platform.moved:
            raise ChatMoved(platform.moved[self._chat])
        if self._chat in platform.closed:
            raise Undeliverable("the chat is closed")
        if content.startswith("file") and not platform.takes_files:
            raise OutcomeUnknown("no file arrives")
        faults = platform.faults.get(self._chat)
        match fault := faults.popleft() if faults else None:
            case "vanished" if sending:
                raise OutcomeUnknown("the request was lost")
            case "failed" | "vanished":
                raise ServerFailed("internal error")
            case "down":
                raise Unreachable("no connection")
            case "limited":
                raise RetryLater(0.001)
            case "refused":
                raise Refused("not like this")
            case _:
                return fault


def pieces_of(reply: Reply) -> list[Piece[str]]:
    pieces = []
    for segment in reply.segments:
        match segment:
            case TextSegment(key, markdown):
                pieces.append(Piece(key, markdown, markdown))
            case MediaSegment(key, attachment):
                pieces.append(Piece(key, attachment.hash, f"file {attachment.name}", editable=False))
            case QuestionSegment(key, question):
                # A task that was interrupted too often ends with the offer to try again.
                pieces.append(Piece(key, question, question))
    return pieces


class PlatformChannel(MemoryChannel):
    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self._platform = platform

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        await sync_pieces(pieces_of(reply), ledger, Target(self._platform, reply.address))

    async def direct_chat(self, person: str) -> str | None:
        return "direct"


@tool(effect="write", repeatable=True)
async def paint(context: ToolContext, name: str) -> ToolResult:
    """Paints."""
    return ToolResult("painted", (await context.media.put(name.encode(), name),))


class Painter:
    """Answers "words 5" with "answer 5.", "paint 5" with a file and then with words."""

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        reads = [each for each in request.transcript if isinstance(each, MessagesRead)]
        asked = reads[-1].messages[-1].text
        what, _, number = asked.partition(" ")
        painted = any(f"painted-{number}" in str(each) for each in request.transcript)
        if what == "paint" and not painted:
            return Answer((Call(f"c{number}", "paint", f'{{"name": "painted-{number}"}}'),))
        await on_delta(TextDelta(f"answer {number}"))
        await asyncio.sleep(0)
        return Answer((Text(f"answer {number}."),))


class DeliveryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Path(self.folder.name) / "test.db"
        self.platform = Platform()
        self.media = MemoryMedia()
        self.said = 0
        self.runner = asyncio.Runner()
        self.runner.run(self._start())

    async def _start(self) -> None:
        self.stack = AsyncExitStack()
        self.store = await self.stack.enter_async_context(open_store(engines.url(self.database)))
        agent = Agent(Painter(), self.media, Path(), (paint,))
        gateway = Gateway(
            self.store,
            self.media,
            AccessPolicy({}),
            OneAgent(lambda _: agent),
            GatewayOptions(max_running_turns=9, delivery=LIMITS),
        )
        self.channel = PlatformChannel(self.platform)
        gateway.add(self.channel)
        self.gateway = await self.stack.enter_async_context(gateway)
        self.running = asyncio.create_task(self.gateway.run())
        await self.channel.until(lambda channel: channel.deliver is not None)

    async def _crash(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.stack.aclose()

    def _say(self, text: str, chat: str, thread: str | None, *, command: str | None = None) -> None:
        self.said += 1
        number, words = self.said, "" if command else f"{text} {self.said}"
        address = Address("memory", "me", self.platform.current(chat), thread, "group")
        at = datetime.now(UTC)
        message = InboundMessage(f"e{number}", address, ANN, at, message_id=f"m{number}", text=words)
        if command is not None:
            message = replace(message, kind="command", command=command)
        self.runner.run(self._deliver(message))

    async def _deliver(self, message: InboundMessage) -> None:
        assert self.channel.deliver is not None
        await self.channel.deliver(message)
        await asyncio.sleep(0.001)

    @rule(chat=st.sampled_from(CHATS), thread=st.sampled_from(THREADS), paints=st.booleans())
    def somebody_writes(self, chat: str, thread: str | None, *, paints: bool) -> None:
        self._say("paint" if paints else "words", chat, thread)

    @rule(chat=st.sampled_from(CHATS), thread=st.sampled_from(THREADS))
    def somebody_asks_for_what_was_not_delivered(self, chat: str, thread: str | None) -> None:
        self._say("", chat, thread, command="redeliver")

    @rule(chat=st.sampled_from(CHATS), faults=st.lists(FAULTS, min_size=1, max_size=4))
    def things_go_wrong(self, chat: str, faults: list[Fault]) -> None:
        self.platform.faults.setdefault(self.platform.current(chat), deque()).extend(faults)

    @rule(chat=st.sampled_from(CHATS))
    def a_chat_is_closed(self, chat: str) -> None:
        self.platform.closed.add(self.platform.current(chat))

    @rule(chat=st.sampled_from(CHATS))
    def a_chat_is_opened(self, chat: str) -> None:
        self.platform.closed.discard(self.platform.current(chat))

    @rule()
    def files_are_refused(self) -> None:
        self.platform.takes_files = not self.platform.takes_files

    @rule(chat=st.sampled_from(CHATS), told=st.booleans())
    def a_chat_moves(self, chat: str, *, told: bool) -> None:
        old = self.platform.current(chat)
        new = f"{old}+"
        self.platform.moved[old] = new
        if old in self.platform.closed:
            self.platform.closed.add(new)
        if told:
            address, at = Address("memory", "me", old, None, "group"), datetime.now(UTC)
            move = InboundMessage(f"moved:{new}", address, ANN, at, kind="moved", text=new)
            self.runner.run(self._deliver(move))

    @rule()
    def time_passes(self) -> None:
        self.runner.run(asyncio.sleep(0.02))

    @rule()
    def the_gateway_is_killed_and_starts_again(self) -> None:
        self.runner.run(self._again())

    async def _again(self) -> None:
        await self._crash()
        await self._start()

    def teardown(self) -> None:
        try:
            self.runner.run(self._settle())
            self.platform.faults.clear()
            for chat in CHATS:
                self._say("words", chat, "last")
            self.runner.run(self._settle())
            self._check()
        finally:
            self.runner.run(self._crash())
            self.runner.close()
            engines.remove(self.database)
            self.folder.cleanup()

    async def _settle(self) -> None:
        """No fault that passes may last for ever; a closed chat and refused files may."""
        async with asyncio.timeout(BOUND):
            await until(lambda: not self._sql(OPEN))

    def _sql(self, query: str, *values: object) -> list[tuple[object, ...]]:
        return engines.sql(self.database, query, *values)

    def _check(self) -> None:
        for id, chat, thread, undeliverable in self._sql(TURNS):
            turn = self.runner.run(self.store.turn(str(id)))
            posts = [post for post in self._posts(str(chat).rstrip("+")) if post.thread == thread]
            reply = ReplyBuilder(turn.id, turn.address, None, turn.entries).reply()
            for piece in pieces_of(reply):
                shown = [post for post in posts if post.text.removeprefix("plain ") == piece.content]
                assert shown or undeliverable is not None, (piece, posts)
                if piece.content.startswith(("answer", "file")):
                    assert sum(not post.repeat for post in shown) <= 1, (piece, posts)
            if undeliverable is not None:
                assert undeliverable
                assert self._sql(
                    "SELECT 1 FROM audit WHERE event = 'undelivered' AND CAST(detail AS TEXT) LIKE ?", f"%{id}%"
                )
        for chat in CHATS:
            if self.platform.current(chat) not in self.platform.closed:
                assert any(post.thread == "last" for post in self._posts(chat)), f"{chat} is blocked"

    def _posts(self, chat: str) -> list[Post]:
        """What stands in the chat, under all of its ids."""
        posts = [*self.platform.posts.get(chat, ())]
        while chat in self.platform.moved:
            chat = self.platform.moved[chat]
            posts += self.platform.posts.get(chat, ())
        return [post for post in posts if not post.deleted]


EXAMPLES = {"sqlite": 20, "postgresql": 5}


@pytest.mark.engines
def test_delivery_under_any_sequence_of_faults(engine: Kind) -> None:
    run_machine(DeliveryMachine, examples=EXAMPLES[engine], steps=20)
