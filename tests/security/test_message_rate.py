"""One person's flood of messages: refused beyond the limit, told once, and no obstacle for anybody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.media import Attachment
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from channels.address import Sender
from gateway.app import GatewayOptions
from tests.gateway.play import ANN, ELSEWHERE, inbound, playing

LIMIT = GatewayOptions(messages_per_minute=3)
BOB = Sender("8", "Bob")
REASON = "more than 3 messages a minute"
TOLD = "Not taken"


async def test_messages_beyond_the_limit_are_refused_and_the_person_is_told_once(tmp_path: Path) -> None:
    model = ScriptedModel()
    async with playing(tmp_path, model, options=LIMIT) as play:
        receipts = [await play.gateway.bus.deliver(inbound(f"message {n}")) for n in range(200)]
        refused = [receipt.refused for receipt in receipts if receipt is not None]
        assert refused == [None] * 3 + [REASON] * 197
        await play.reply(TOLD)
        await play.until_idle()
        assert sum(TOLD in text for text in play.shown()) == 1
        assert sum(map(len, await play.messages_read())) == 3
        assert play.states()["refused"] == 197
        assert len(model.requests) <= 3
        assert len(play.sql("SELECT 1 FROM audit WHERE event = 'refused'")) == 0


async def test_the_limit_is_per_person_in_all_conversations(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), options=LIMIT) as play:
        for _ in range(3):
            await play.gateway.bus.deliver(inbound("hi", address=ELSEWHERE))
        ann = await play.gateway.bus.deliver(inbound("hi", by=ANN))
        bob = await play.gateway.bus.deliver(inbound("hello", by=BOB))
        assert ann is not None
        assert ann.refused == REASON
        assert bob is not None
        assert bob.refused is None
        await play.reply("You said: hello")


async def test_commands_and_deletions_always_work(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), options=LIMIT) as play:
        for n in range(4):
            await play.gateway.bus.deliver(inbound("hi", id=f"first-{n}"))
        for command in ("/status", "/stop"):
            receipt = await play.gateway.bus.deliver(inbound(command))
            assert receipt is not None
            assert receipt.refused is None
        deleted = await play.gateway.bus.deliver(inbound(kind="withdrawn", id="first-0"))
        assert deleted is not None
        assert deleted.refused is None
        # Its text is for the agent.
        queued = await play.gateway.bus.deliver(inbound("/queue and this"))
        assert queued is not None
        assert queued.refused == REASON


@pytest.mark.parametrize("command", ["/export", "/retry", "/forget", "/nonsense"])
async def test_commands_that_make_work_are_limited_too(tmp_path: Path, command: str) -> None:
    async with playing(tmp_path, ScriptedModel(), options=LIMIT) as play:
        receipts = [await play.gateway.bus.deliver(inbound(command)) for _ in range(50)]
        assert [receipt.refused for receipt in receipts if receipt is not None] == [None] * 3 + [REASON] * 47
        for always in ("/stop", "/cancel", "/stop all", "/status", "/help", "/answer none 1"):
            receipt = await play.gateway.bus.deliver(inbound(always))
            assert receipt is not None
            assert receipt.refused is None
        await play.reply(TOLD)
        await play.until_idle()
        assert sum(TOLD in text for text in play.shown()) == 1


class SlowMedia(MemoryMedia):
    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.go_on = asyncio.Event()

    async def put(self, data: bytes, name: str) -> Attachment:
        self.begun += 1
        await self.go_on.wait()
        return await super().put(data, name)


async def test_a_person_has_one_export_at_a_time(tmp_path: Path) -> None:
    media = SlowMedia()
    async with playing(tmp_path, ScriptedModel(), media=media) as play:
        await play.say("/export", "/export", "/export")
        await play.reply("making an export for you already")
        assert media.begun <= 1
        media.go_on.set()
        await play.reply("contains personal data")
        await play.until_idle()
        assert media.begun == 1
        await play.say("/export")
        await play.until_idle()
        assert media.begun == 2


async def test_messages_delivered_again_and_those_of_hours_ago_are_not_counted_as_now(tmp_path: Path) -> None:
    """After an interruption, a platform delivers what was written meanwhile, and some of it twice."""
    async with playing(tmp_path, ScriptedModel(), options=LIMIT) as play:
        first = inbound("hi")
        for _ in range(10):
            receipt = await play.gateway.bus.deliver(first)
            assert receipt is not None
            assert receipt.refused is None
        for hours in range(10, 0, -1):
            message = inbound("earlier")
            earlier = await play.gateway.bus.deliver(replace(message, sent_at=message.sent_at - timedelta(hours=hours)))
            assert earlier is not None
            assert earlier.refused is None


async def test_a_minute_later_messages_are_taken_again(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(), options=LIMIT) as play:
        for _ in range(5):
            await play.gateway.bus.deliver(inbound("hi"))
        message = inbound("later")
        receipt = await play.gateway.bus.deliver(replace(message, sent_at=message.sent_at + timedelta(minutes=1)))
        assert receipt is not None
        assert receipt.refused is None
