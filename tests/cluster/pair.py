"""Two whole gateways in this process, on one PostgreSQL database, each with a channel and a model of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.agent import Agent
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool
from channels.address import Sender
from channels.memory import MemoryChannel, plain_text
from channels.message import Receipt
from channels.reply import QuestionSegment, Reply
from gateway.app import Gateway, GatewayOptions
from gateway.bus import Bus, NoticeSent
from gateway.bus.postgres import PostgresBus
from gateway.inbound.access import AccessPolicy, ChannelAccess
from gateway.lifecycle.worker_lease import WorkerLease
from gateway.store import Store, open_store
from gateway.turns.agents import OneAgent
from tests.engines import engines
from tests.gateway.play import ANN, PLACE, inbound

LEASE = 600.0
"""Seconds: nobody dies here."""


@dataclass
class Worker:
    """One of the two, on the database at `url`. `looked` counts how often it was told to look at the store."""

    url: str
    gateway: Gateway
    store: Store
    bus: PostgresBus
    channel: MemoryChannel
    model: ScriptedModel
    looked: list[None] = field(default_factory=list)

    async def say(self, text: str, by: Sender = ANN) -> Receipt:
        """A message that this worker accepts."""
        receipt = await self.gateway.deliver(inbound(text, by=by))
        assert receipt is not None
        return receipt

    async def reply(self, text: str, *, done: bool = True) -> Reply:
        """The reply with this text, once this worker shows it."""

        def found(channel: MemoryChannel) -> Reply | None:
            fitting = (reply for reply in channel.replies.values() if text in plain_text(reply))
            return next((reply for reply in fitting if reply.done or not done), None)

        shown = await self.channel.until(found)
        assert shown is not None
        return shown

    async def asked(self) -> QuestionSegment:
        """The open question of a parked turn, once this worker shows it."""

        def found(channel: MemoryChannel) -> QuestionSegment | None:
            segments = (segment for reply in channel.replies.values() if reply.parked for segment in reply.segments)
            return next((each for each in segments if isinstance(each, QuestionSegment) and each.open), None)

        segment = await self.channel.until(found)
        assert segment is not None
        return segment

    async def unparked(self) -> None:
        """No turn of the place runs here."""
        while self.gateway.dispatcher.active("memory/me/chat") is not None:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)


async def answered(text: str, *workers: Worker) -> None:
    """Exactly one of the workers shows this; which of them goes on with a parked turn is not said."""
    waiting = [asyncio.ensure_future(worker.reply(text)) for worker in workers]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert sum(each.done() for each in waiting) == 1
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@asynccontextmanager
async def two_gateways(
    folder: Path,
    one: ScriptedModel,
    other: ScriptedModel,
    *tools: Tool,
    bound: float = 60.0,
    max_running_turns: int = 4,
    messages_per_minute: int | None = None,
    policies: Mapping[str, ChannelAccess] | None = None,
    max_running_turns_total: int | None = None,
    channels: tuple[MemoryChannel, MemoryChannel] | None = None,
    leases: bool = False,
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Both run until left, and know each other. With `leases` each waits for what the other has to show."""
    url = engines.server().create("template_interject")
    options = GatewayOptions(
        max_running_turns=max_running_turns,
        max_running_turns_total=max_running_turns_total,
        messages_per_minute=messages_per_minute,
    )
    media = MemoryMedia()
    try:
        async with asyncio.timeout(bound), AsyncExitStack() as stack:
            a, b = [
                await stack.enter_async_context(
                    _worker(url, name, model, channel, tools, media, folder, options, policies or {}, leases=leases)
                )
                for name, model, channel in zip(
                    "ab", (one, other), channels or (MemoryChannel(), MemoryChannel()), strict=True
                )
            ]
            await known(a.bus, b.bus)
            await known(b.bus, a.bus)
            yield a, b
    finally:
        engines.server().drop(url)


@asynccontextmanager
async def _worker(
    url: str,
    name: str,
    model: ScriptedModel,
    channel: MemoryChannel,
    tools: Sequence[Tool],
    media: MemoryMedia,
    folder: Path,
    options: GatewayOptions,
    policies: Mapping[str, ChannelAccess],
    *,
    leases: bool,
) -> AsyncIterator[Worker]:
    looked: list[None] = []
    async with open_store(url, worker=name, lease=LEASE) as store, AsyncExitStack() as stack:
        lease = await stack.enter_async_context(WorkerLease(store, seconds=LEASE)) if leases else None
        bus = PostgresBus(url, name, look_again=lambda: looked.append(None))
        agent = Agent(model, media, folder, tools)
        gateway = Gateway(
            store,
            media,
            AccessPolicy(policies),
            OneAgent(lambda _: agent),
            options,
            bus=bus,
            lease=lease,
        )
        gateway.add(channel)
        async with gateway:
            running = asyncio.create_task(gateway.run())
            try:
                await channel.until(lambda channel: channel.deliver is not None)
                yield Worker(url, gateway, store, bus, channel, model, looked)
            finally:
                running.cancel()
                ended = await asyncio.gather(running, return_exceptions=True)
                if not isinstance(ended[0], asyncio.CancelledError):
                    raise AssertionError("the gateway ended by itself") from ended[0]


async def known(one: Bus, other: Bus) -> None:
    """Returns when events of one arrive at the other."""
    async with other.subscribe("probe", NoticeSent) as events:
        for number in range(1000):
            one.publish(NoticeSent("probe", PLACE, str(number)))
            try:
                async with asyncio.timeout(0.05):
                    while await anext(events) != NoticeSent("probe", PLACE, str(number)):
                        pass
            except TimeoutError:
                continue
            return
    raise AssertionError("the workers do not hear each other")
