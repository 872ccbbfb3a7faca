"""One person's many conversations and slow files do not make others wait."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.models.scripted import ScriptedModel
from channels.address import Address, Sender
from channels.memory import MemoryChannel
from channels.message import FileRef
from gateway.app import GatewayOptions
from gateway.lifecycle.fair_slots import fairest
from tests.gateway.play import ANN, inbound, playing, until

BOB = Sender("8", "Bob")
TOPICS = [Address("memory", "me", "group", f"topic-{number}") for number in range(40)]
PRIVATE = Address("memory", "me", "bob")


class HeldModel(ScriptedModel):
    """Answers nobody before `released` is set, except Bob."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.asked = 0

    async def answer(self, request, on_delta):
        self.asked += 1
        if "from Bob" not in str(request.transcript[-1]):
            await self.released.wait()
        return await super().answer(request, on_delta)


async def test_many_conversations_of_one_person_leave_a_slot_for_another(tmp_path: Path) -> None:
    model = HeldModel()
    async with playing(tmp_path, model, max_running_turns=5) as play:
        await play.deliver(*(inbound("work", address=topic, by=ANN) for topic in TOPICS))
        await until(lambda: model.asked == 4)
        await play.say("from Bob", address=PRIVATE, by=BOB)
        await play.reply("You said: from Bob")
        assert model.asked == 5
        model.released.set()
        await play.until_idle()
        assert play.states() == {"consumed": 41}


@pytest.mark.engines
async def test_a_limit_for_all_workers_leaves_a_slot_for_another_person_too(tmp_path: Path) -> None:
    model, options = HeldModel(), GatewayOptions(max_running_turns_total=5)
    async with playing(tmp_path, model, max_running_turns=40, options=options) as play:
        await play.deliver(*(inbound("work", address=topic, by=ANN) for topic in TOPICS))
        await until(lambda: model.asked == 4)
        await play.say("from Bob", address=PRIVATE, by=BOB)
        await play.reply("You said: from Bob")
        assert model.asked == 5
        model.released.set()
        await play.until_idle()
        assert play.states() == {"consumed": 41}


async def test_after_a_restart_too(tmp_path: Path) -> None:
    async with playing(tmp_path, HeldModel(), max_running_turns=1) as play:
        await play.deliver(*(inbound("work", address=topic, by=ANN) for topic in TOPICS))
        await play.say("from Bob", address=PRIVATE, by=BOB)
    model = HeldModel()
    async with playing(tmp_path, model, max_running_turns=5) as play:
        await play.reply("You said: from Bob")
        assert model.asked <= 5


@pytest.mark.parametrize(
    ("held", "share", "next_one"),
    [
        ({}, 4, "a1"),
        ({"ann": 1}, 4, "b1"),
        ({"ann": 1, "bob": 1}, 4, "a1"),
        ({"ann": 2, "bob": 1}, 4, "b1"),
        ({"ann": 4, "bob": 4}, 4, None),
    ],
)
def test_whoever_has_the_least_is_next(held: dict[str, int], share: int, next_one: str | None) -> None:
    waiting = [("a1", "ann"), ("a2", "ann"), ("b1", "bob")]
    assert fairest(waiting, held, share) == next_one


class SlowFiles(MemoryChannel):
    """Ann's files come when `released` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.released = asyncio.Event()
        self.asked = 0

    async def fetch(self, file: FileRef) -> bytes:
        self.asked += 1
        if file.ref == "slow":
            await self.released.wait()
        return b"bytes"


async def test_slow_files_of_one_person_do_not_delay_those_of_another(tmp_path: Path) -> None:
    channel = SlowFiles()
    async with playing(tmp_path, ScriptedModel(), channel=channel, max_running_turns=40) as play:
        slow = FileRef("slow", "slow.bin")
        await play.deliver(*(inbound("look", address=topic, files=(slow,), by=ANN) for topic in TOPICS))
        await until(lambda: channel.asked == 6)
        await play.deliver(inbound("from Bob", address=PRIVATE, files=(FileRef("fast", "fast.bin"),), by=BOB))
        await play.reply("You said: from Bob")
        assert channel.asked == 7
        channel.released.set()
        await play.until_idle()
        assert channel.asked == 41
