"""Replies of one conversation that two workers have to show."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.models.scripted import ScriptedModel
from channels.channel import Ledger
from channels.memory import MemoryChannel, plain_text
from channels.reply import Reply
from gateway.bus import TurnEnded
from tests.cluster.pair import two_gateways
from tests.gateway.play import ELSEWHERE, inbound


class Slow(MemoryChannel):
    """A platform that takes nothing yet. `asked` is set when it is to show something."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = asyncio.Event()
        self.asked = asyncio.Event()

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        self.asked.set()
        await self.takes.wait()
        await super().show(reply, ledger)


async def test_a_reply_waits_for_an_earlier_one_that_another_worker_has_not_shown_yet(tmp_path: Path) -> None:
    slow, quick = Slow(), MemoryChannel()
    models = ScriptedModel("First."), ScriptedModel("Second.", "Elsewhere.")
    async with two_gateways(tmp_path, *models, channels=(slow, quick), leases=True) as (a, b):
        async with a.bus.subscribe("memory/me/chat", TurnEnded) as ends:
            await a.say("one")
            await slow.asked.wait()
            await anext(ends)
            await b.say("two")
            await anext(ends)
        # What comes later in another conversation is shown meanwhile.
        assert await b.gateway.deliver(inbound("three", address=ELSEWHERE)) is not None
        await b.reply("Elsewhere.")
        assert [plain_text(reply) for reply in quick.replies.values()] == ["Elsewhere."]
        assert slow.replies == {}
        slow.takes.set()
        await a.reply("First.")
        await b.reply("Second.")


async def test_a_reply_that_has_waited_follows_the_one_that_its_worker_takes_over(tmp_path: Path) -> None:
    slow, quick = Slow(), MemoryChannel()
    models = ScriptedModel("First."), ScriptedModel("Second.")
    async with two_gateways(tmp_path, *models, channels=(slow, quick), leases=True) as (a, b):
        async with a.bus.subscribe("memory/me/chat", TurnEnded) as ends:
            await a.say("one")
            await slow.asked.wait()
            await anext(ends)
            await b.say("two")
            await anext(ends)
        assert await b.store.bury(("a",), expired=False) == ("a",)
        await b.gateway.look()
        await b.reply("Second.")
        assert [plain_text(reply) for reply in quick.replies.values()] == ["First.", "Second."]
