"""A whole gateway around an in-memory channel and a scripted model, on a real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from agent.agent import Agent
from agent.log import MessagesRead
from agent.media import MediaStore
from agent.model import Model
from agent.testing import MemoryMedia
from agent.tool import Tool
from channels.address import Address, Sender
from channels.memory import MemoryChannel, plain_text
from channels.message import FileRef, InboundMessage, MessageKind, Receipt
from channels.reply import QuestionSegment, Reply
from gateway.app import Gateway, GatewayOptions
from gateway.inbound.access import AccessPolicy, ChannelAccess
from gateway.media import FolderBlobs, Media
from gateway.sessions import session_key
from gateway.store import Store, open_store
from gateway.turns.agents import OneAgent
from gateway.turns.roles import Roles
from tests.engines import engines

PLACE = Address("memory", "me", "chat")
ELSEWHERE = Address("memory", "me", "other")
ANN = Sender("7", "Ann")

_numbers = count(1)


def inbound(
    text: str = "",
    *,
    address: Address = PLACE,
    kind: MessageKind = "new",
    id: str | None = None,
    files: tuple[FileRef, ...] = (),
    event: str | None = None,
    by: Sender = ANN,
    addressed: bool = True,
    follows: bool = False,
    thread_root: str | None = None,
) -> InboundMessage:
    """A message; a text that begins with a slash is a command."""
    number = next(_numbers)
    command, _, arguments = text[1:].partition(" ") if text.startswith("/") else ("", "", text)
    return InboundMessage(
        event_id=event or f"e{number}",
        address=address,
        sender=by,
        sent_at=datetime.now(UTC),
        kind="command" if command else kind,
        message_id=id or f"m{number}",
        text=arguments,
        command=command or None,
        files=files,
        addressed=addressed,
        follows=follows,
        thread_root=thread_root,
    )


class FirstNames:
    """Names of workspaces, as where no two of them want the same one."""

    async def workspace_name(self, key: str) -> str | None:
        return None

    async def name_workspace(self, key: str, names: Sequence[str]) -> str:
        return names[0]


@dataclass(frozen=True)
class Play:
    gateway: Gateway
    store: Store
    channel: MemoryChannel
    database: Path

    async def say(self, *texts: str, address: Address = PLACE, by: Sender = ANN) -> list[Receipt | None]:
        """Delivers side by side, begun in order, as a platform's poll does."""
        return await self.deliver(*(inbound(text, address=address, by=by) for text in texts))

    async def deliver(self, *messages: InboundMessage) -> list[Receipt | None]:
        return list(await asyncio.gather(*map(self.gateway.bus.deliver, messages)))

    async def asked(self, question: str) -> QuestionSegment:
        """The open question, once it is shown and the turn is parked."""

        def found(channel: MemoryChannel) -> QuestionSegment | None:
            segments = (segment for reply in channel.replies.values() if reply.parked for segment in reply.segments)
            questions = (segment for segment in segments if isinstance(segment, QuestionSegment) and segment.open)
            return next((segment for segment in questions if segment.question == question), None)

        segment = await self.channel.until(found)
        assert segment is not None
        return segment

    async def reply(self, text: str, *, done: bool = True) -> Reply:
        """The reply with this text, once it is shown."""

        def found(channel: MemoryChannel) -> Reply | None:
            fitting = (reply for reply in channel.replies.values() if text in plain_text(reply))
            return next((reply for reply in fitting if reply.done or not done), None)

        found_reply = await self.channel.until(found)
        assert found_reply is not None
        return found_reply

    def shown(self) -> list[str]:
        """The text of all replies."""
        return [plain_text(reply) for reply in self.channel.replies.values()]

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Runs SQL beside the gateway, see `Engines.sql`."""
        return engines.sql(self.database, statement, *values)

    def refuse_to_write(self, table: str, verb: str = "INSERT", when: str = "TRUE") -> None:
        """The database refuses to write to the table, as a full disk does, until `write_again`."""
        engines.refuse(self.database, table, verb, when)

    def write_again(self, table: str) -> None:
        engines.allow(self.database, table)

    def states(self) -> Counter[str]:
        return Counter(dict(self.sql("SELECT state, count(*) FROM inbox GROUP BY state")))

    async def messages_read(self) -> list[list[str]]:
        """The messages that each turn has read, by turn."""
        found = []
        for (id,) in self.sql("SELECT id FROM turns WHERE kind = 'turn' ORDER BY number"):
            turn = await self.store.turn(id)
            found.append(
                [each.text for entry in turn.entries if isinstance(entry, MessagesRead) for each in entry.messages]
            )
        return found

    async def until_idle(self) -> None:
        """No turn runs, no message waits, every reply is delivered."""
        await until(lambda: not (self.gateway.dispatcher.running() or self.states()["waiting"]))
        await until(lambda: not self.gateway.delivery.waiting())


async def until(condition: Callable[[], object]) -> None:
    """For conditions without an event. Unbounded, as `playing` is bounded."""
    while not condition():  # noqa: ASYNC110 - files and counters have no events
        await asyncio.sleep(0.002)


@asynccontextmanager
async def playing(
    folder: Path,
    model: Model,
    *tools: Tool,
    channel: MemoryChannel | None = None,
    max_running_turns: int = 4,
    agent: Callable[[Address], Agent] | None = None,
    store: Callable[[Store], Any] = lambda store: store,
    bound: float = 60.0,
    policies: Mapping[str, ChannelAccess] | None = None,
    roles: Roles | None = None,
    media: MemoryMedia | None = None,
    on_disk: bool = False,
    options: GatewayOptions = GatewayOptions(),  # noqa: B008  # it is frozen
    **parts: Any,
) -> AsyncIterator[Play]:
    """A gateway that runs until left. Leaving is a crash; the folder can be used again. `on_disk`: files are stored in
    the folder `media`."""
    memory = MemoryChannel() if channel is None else channel
    database = folder / "test.db"
    async with asyncio.timeout(bound), open_store(engines.url(database)) as opened:
        used_media: MediaStore = MemoryMedia() if media is None else media
        if on_disk:
            used_media = disk = Media(FolderBlobs(folder / "media"), opened)
            parts = {"remove_files": disk.remove, **parts}
        made = Agent(model, used_media, folder, tools)
        access = AccessPolicy(policies or {}, roles)
        options = replace(options, max_running_turns=max_running_turns)
        gateway = Gateway(store(opened), used_media, access, OneAgent(agent or (lambda _: made)), options, **parts)
        gateway.add(memory)
        async with gateway:
            running = asyncio.create_task(gateway.run())
            try:
                await memory.until(lambda memory: memory.deliver is not None)
                yield Play(gateway, opened, memory, database)
            finally:
                running.cancel()
                ended = await asyncio.gather(running, return_exceptions=True)
                if not isinstance(ended[0], asyncio.CancelledError):
                    raise AssertionError("the gateway ended by itself") from ended[0]


@asynccontextmanager
async def storing(folder: Path) -> AsyncIterator[Callable[[str], Awaitable[object]]]:
    """A gateway that stores messages and is killed before it handles them."""
    async with open_store(engines.url(folder / "test.db")) as store:

        async def store_message(text: str) -> object:
            message = inbound(text)
            return await store.accept(message, session_key(message.address))

        yield store_message
