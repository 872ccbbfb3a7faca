"""The limit for the turns of all workers together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.events import OnDelta
from agent.model import Answer, Request
from agent.models.scripted import ScriptedModel
from channels.address import Sender
from tests.cluster.pair import two_gateways
from tests.gateway.play import PLACE, inbound, until

pytestmark = pytest.mark.engines("postgresql")

ELSEWHERE = replace(PLACE, chat="other")


async def test_what_finds_no_room_begins_as_soon_as_a_turn_at_another_worker_has_ended(tmp_path: Path) -> None:
    gate = asyncio.Event()
    busy, idle = ScriptedModel(["Well", gate]), ScriptedModel("Here.")
    async with two_gateways(tmp_path, busy, idle, max_running_turns_total=1) as (a, b):
        await a.say("a long story")
        await a.reply("Well", done=False)
        await b.gateway.deliver(inbound("hello", address=ELSEWHERE))
        # It has been refused once it waits and asks no more.
        await until(lambda: b.gateway.dispatcher.waiting == 1 and not b.gateway.dispatcher.running())
        assert idle.requests == []
        looked = len(b.looked)
        gate.set()
        await b.reply("Here.")
        assert len(b.looked) == looked, "nobody had to look at the store"


async def test_a_turn_that_parks_leaves_its_room_and_a_stop_of_one_that_waits_is_obeyed(tmp_path: Path) -> None:
    gate = asyncio.Event()
    busy, idle = ScriptedModel(["Well", gate]), ScriptedModel("Never.")
    async with two_gateways(tmp_path, busy, idle, max_running_turns_total=1) as (a, b):
        await a.say("a long story")
        await a.reply("Well", done=False)
        await b.gateway.deliver(inbound("hello", address=ELSEWHERE))
        await until(lambda: b.gateway.dispatcher.waiting == 1 and not b.gateway.dispatcher.running())
        await b.gateway.deliver(inbound("/stop", address=ELSEWHERE))
        gate.set()
        await a.reply("Well")
        await until(lambda: not b.gateway.dispatcher.waiting and not b.gateway.dispatcher.running())
        assert idle.requests == []


@dataclass
class Counts:
    """Of the answers of several models: how many are given at the moment, and were given at most; `enough`: three."""

    now: int = 0
    most: int = 0
    answered: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)


class CountingModel(ScriptedModel):
    """The first answers end when there are three."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        counts = self.counts
        counts.now += 1
        counts.most = max(counts.most, counts.now)
        if counts.now == 3:
            counts.enough.set()
        await counts.enough.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        counts.now -= 1
        counts.answered += 1
        return await super().answer(request, on_delta)


async def test_both_workers_together_run_as_many_turns_as_they_may_and_no_more(tmp_path: Path) -> None:
    counts = Counts()
    one, other = CountingModel(counts), CountingModel(counts)
    async with two_gateways(tmp_path, one, other, max_running_turns=8, max_running_turns_total=3) as (a, b):
        for number in range(6):
            for worker in (a, b):
                chat = f"{worker.store.worker}{number}"
                place = replace(PLACE, chat=chat)
                await worker.gateway.deliver(inbound("hello", by=Sender(chat, chat), address=place))
        await until(lambda: counts.answered == 12)
    assert counts.most == 3
