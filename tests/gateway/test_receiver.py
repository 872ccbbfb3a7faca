"""Receiving through the whole gateway: messages are stored once, read in order, and not blocked by failures."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.log import MessagesRead
from agent.models.scripted import ScriptedModel
from channels.address import Address
from channels.channel import FileUnavailable, NotStored, RetryLater, Unreachable
from channels.memory import MemoryChannel
from channels.message import FileRef, ThreadRoot
from gateway.inbound.access import ChannelAccess
from gateway.sessions import session_key
from tests.gateway.play import ELSEWHERE, PLACE, inbound, playing, until

GROUP = Address("memory", "me", "group", kind="group")
PHOTO = FileRef("photo", "cat.png", "image/png")


class FileChannel(MemoryChannel):
    """A channel whose downloads raise the given errors first; `opened` releases them."""

    def __init__(self, *troubles: Exception) -> None:
        super().__init__()
        self.troubles = list(troubles)
        self.asked = asyncio.Event()
        self.opened = asyncio.Event()

    async def fetch(self, file: FileRef) -> bytes:
        self.asked.set()
        await self.opened.wait()
        if self.troubles:
            raise self.troubles.pop(0)
        return b"bytes"


async def test_a_message_is_answered_even_if_its_delivery_is_cancelled(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        for _ in range(20):
            delivery = asyncio.ensure_future(play.gateway.bus.deliver(inbound("hi", event="once")))
            await asyncio.sleep(0)
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
        await play.reply("You said: hi")
        await play.until_idle()
        assert await play.messages_read() == [["hi"]]


async def test_a_message_is_stored_before_deliver_returns_and_only_once(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        first = await play.gateway.bus.deliver(inbound("hi", event="e"))
        assert sum(play.states().values()) == 1
        second = await play.gateway.bus.deliver(inbound("hi", event="e"))
        assert first is not None
        assert second == replace(first, duplicate=True)


async def test_a_message_that_cannot_be_stored_is_not_accepted_and_may_be_delivered_again(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        play.refuse_to_write("inbox")
        with pytest.raises(NotStored, match="no room"):
            await play.gateway.bus.deliver(inbound("hi", event="e"))
        play.write_again("inbox")
        await play.gateway.bus.deliver(inbound("hi", event="e"))
        await play.reply("You said: hi")


async def test_parts_of_an_act_that_cannot_be_stored_are_all_read_when_it_is_delivered_again(tmp_path: Path) -> None:
    first, second = (inbound(text, address=GROUP, addressed=text == "@bot") for text in ("what is this?", "@bot"))
    policies = {"memory": ChannelAccess(frozenset({"*"}))}
    async with playing(tmp_path, ScriptedModel(), policies=policies) as play:
        assert await play.gateway.bus.deliver(replace(first, cut="\n")) is None
        play.refuse_to_write("inbox")
        with pytest.raises(NotStored):
            await play.gateway.bus.deliver(second)
        play.write_again("inbox")
        await play.gateway.bus.deliver(second)
        await play.reply("You said: what is this?\n@bot")
        await play.until_idle()
        assert len(play.shown()) == 1


async def test_a_message_is_read_even_if_a_platform_cannot_tell_what_was_said_before_it(tmp_path: Path) -> None:
    class Garbled(MemoryChannel):
        async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
            raise KeyError("author")

    async with playing(tmp_path, ScriptedModel(), channel=Garbled()) as play:
        await play.deliver(replace(inbound("hi", address=GROUP), has_talk=True))
        await play.reply("You said: hi")


@pytest.mark.parametrize(
    "trouble", [FileUnavailable("it is gone"), ValueError("a bug"), OSError("no network")], ids=repr
)
async def test_an_unavailable_file_is_named_and_the_message_is_read(tmp_path: Path, trouble: Exception) -> None:
    channel = FileChannel(trouble)
    model = ScriptedModel()
    async with playing(tmp_path, model, channel=channel) as play:
        channel.opened.set()
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await play.reply("You said: look")
        heard = model.requests[0].transcript[-1]
        assert isinstance(heard, MessagesRead)
        assert "cat.png is not available" in heard.messages[0].note
        await play.reply("⚠️ The file cat.png is not available")


@pytest.mark.parametrize("trouble", [RetryLater(0.01), Unreachable("gone")], ids=repr)
async def test_fetching_a_file_is_retried(tmp_path: Path, trouble: Exception) -> None:
    channel = FileChannel(trouble)
    model = ScriptedModel()
    async with playing(tmp_path, model, channel=channel) as play:
        channel.opened.set()
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await play.reply("You said: look")
        heard = model.requests[0].transcript[-1]
        assert isinstance(heard, MessagesRead)
        assert [attachment.name for attachment in heard.messages[0].attachments] == ["cat.png"]


async def test_a_message_after_a_file_is_read_after_it(tmp_path: Path) -> None:
    channel = FileChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await play.say("and then this")
        await channel.asked.wait()
        channel.opened.set()
        await play.reply("You said: and then this")
        assert [text for texts in await play.messages_read() for text in texts] == ["look", "and then this"]


async def test_storing_fetched_files_is_retried(tmp_path: Path) -> None:
    channel = FileChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await channel.asked.wait()
        play.refuse_to_write("inbox", "UPDATE")
        channel.opened.set()
        for _ in range(20):
            await asyncio.sleep(0.005)
        play.write_again("inbox")
        await play.reply("You said: look")


async def test_a_stop_discards_messages_that_wait_for_files(tmp_path: Path) -> None:
    channel = FileChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await channel.asked.wait()
        await play.say("/stop", "go on")
        await play.reply("1 queued message discarded.")
        await play.reply("You said: go on")
        channel.opened.set()
        await play.until_idle()
        assert await play.messages_read() == [["go on"]]


async def test_files_are_fetched_after_a_restart(tmp_path: Path) -> None:
    channel = FileChannel()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.gateway.bus.deliver(inbound("look", files=(PHOTO,)))
        await channel.asked.wait()
    channel = FileChannel()
    channel.opened.set()
    async with playing(tmp_path, ScriptedModel(), channel=channel) as play:
        await play.reply("You said: look")


async def test_a_command_does_not_interrupt_a_running_turn(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", gate := asyncio.Event(), " done."])
    async with playing(tmp_path, model) as play:
        await play.say("go")
        await play.reply("Well", done=False)
        await play.say("/status")
        await play.reply("Running task: the model is answering")
        await play.say("/frobnicate")
        await play.reply("There is no command `/frobnicate`")
        await until(lambda: play.states()["waiting"] == 0)
        gate.set()
        await play.reply("Well done.")
        assert len(model.requests) == 1


async def test_a_failing_command_is_reported_and_blocks_nothing(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        play.refuse_to_write("sessions", "UPDATE OF generation")
        await play.say("/new", "hello")
        await play.reply("`/new` did not work")
        await play.reply("You said: hello")
        await play.until_idle()


# Beginning a turn


async def test_a_message_to_an_idle_session_is_stored_with_the_turn_that_reads_it(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel(["Well", asyncio.Event()])) as play:
        await play.say("hi")
        assert (play.states(), play.sql("SELECT count(*) FROM turns")) == ({"consumed": 1}, [(1,)])


async def test_a_message_is_stored_though_no_turn_can_begin(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        play.refuse_to_write("turns")
        await play.say("one", "two")
        assert play.states() == {"waiting": 2}
        play.write_again("turns")
        await play.say("three")
        await play.until_idle()
        assert [text for texts in await play.messages_read() for text in texts] == ["one", "two", "three"]


@pytest.mark.parametrize("woken", [False, True], ids=["alone", "while other work wakes the session"])
async def test_a_message_that_begins_no_turn_leaves_its_slot_to_others(tmp_path: Path, woken: bool) -> None:
    async with playing(tmp_path, ScriptedModel(), max_running_turns=1) as play:
        play.refuse_to_write("inbox")
        delivery = asyncio.ensure_future(play.gateway.bus.deliver(inbound("lost")))
        await asyncio.sleep(0)
        if woken:
            play.gateway.bus.wake(session_key(PLACE))
        with pytest.raises(NotStored):
            await delivery
        play.write_again("inbox")
        await play.say("elsewhere", address=ELSEWHERE)
        await play.say("hi")
        await play.reply("You said: elsewhere")
        await play.reply("You said: hi")
        await play.until_idle()


async def test_a_message_waits_for_a_slot_like_the_others(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel(["Well", gate]), max_running_turns=1) as play:
        await play.say("one", address=ELSEWHERE)
        await play.reply("Well", done=False)
        await play.say("two")
        assert play.states() == {"consumed": 1, "waiting": 1}
        gate.set()
        await play.reply("You said: two")


async def test_messages_that_come_at_once_are_read_by_one_turn_in_order(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        texts = [str(number) for number in range(20)]
        await play.say(*texts)
        await play.until_idle()
        assert await play.messages_read() == [texts]
