"""Messages whose files take their time: they interject when they arrive, and nothing waits long for the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.log import MessagesRead
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from channels.memory import MemoryChannel
from channels.message import FileRef
from channels.reply import TextSegment
from gateway.app import GatewayOptions
from tests.gateway.play import Play, inbound, playing

PHOTO = FileRef("photo", "photo.jpg", "image/jpeg")
VOICE = FileRef("voice", "voice.ogg", "audio/ogg")


class SlowChannel(MemoryChannel):
    """Gives each file when its event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.given = {"photo": asyncio.Event(), "voice": asyncio.Event()}

    async def fetch(self, file: FileRef) -> bytes:
        await self.given[file.ref].wait()
        return file.name.encode()


@asynccontextmanager
async def slowly(
    folder: Path, model: ScriptedModel, *, wait: float = 30.0, media: MemoryMedia | None = None
) -> AsyncIterator[tuple[Play, SlowChannel]]:
    channel = SlowChannel()
    options = GatewayOptions(file_wait=wait)
    async with playing(folder, model, channel=channel, options=options, media=media) as play:
        yield play, channel


def heard(model: ScriptedModel) -> list[tuple[str, str, list[str]]]:
    """Text, note and files of the messages that the model has been shown last."""
    read = [entry for entry in model.requests[-1].transcript if isinstance(entry, MessagesRead)]
    return [
        (message.text, message.note, [file.name for file in message.attachments])
        for entry in read
        for message in entry.messages
    ]


def _is_interrupted(channel: MemoryChannel) -> bool:
    segments = (segment for reply in channel.replies.values() for segment in reply.segments)
    return any(isinstance(segment, TextSegment) and segment.interrupted for segment in segments)


async def test_a_picture_interrupts_the_answer_when_it_arrives_and_is_read_when_it_is_here(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], "A photo.")
    async with slowly(tmp_path, model) as (play, channel):
        await play.say("go")
        await play.reply("Well", done=False)
        await play.deliver(inbound("look", files=(PHOTO,)))
        await channel.until(_is_interrupted)
        assert len(model.requests) == 1
        channel.given["photo"].set()
        await play.reply("A photo.")
    assert heard(model) == [("go", "", []), ("look", "", ["photo.jpg"])]


async def test_words_pass_a_picture_that_hangs(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], ["I stop", asyncio.Event()], "A photo.")
    async with slowly(tmp_path, model) as (play, channel):
        await play.say("go")
        await play.reply("Well", done=False)
        await play.deliver(inbound("look", files=(PHOTO,)))
        await play.say("NOT THAT")
        await play.reply("I stop", done=False)
        assert heard(model) == [("go", "", []), ("NOT THAT", "", [])]
        channel.given["photo"].set()
        await play.reply("A photo.")
        await play.until_idle()
        assert play.states() == {"consumed": 3}
    assert heard(model)[-1] == ("look", "", ["photo.jpg"])


async def test_files_that_are_late_follow_their_message(tmp_path: Path) -> None:
    model = ScriptedModel("I wait for them.", "Here they are.")
    async with slowly(tmp_path, model, wait=0.05) as (play, channel):
        await play.deliver(inbound("look", files=(PHOTO, VOICE)))
        await play.reply("I wait for them.")
        assert heard(model) == [("look", "[picture still on its way]\n[voice note still on its way]", [])]
        for event in channel.given.values():
            event.set()
        await play.reply("Here they are.")
        await play.until_idle()
        assert play.states() == {"consumed": 2}
    assert [files for _, _, files in heard(model)] == [[], ["photo.jpg", "voice.ogg"]]


async def test_an_idle_chat_is_not_held_back_by_files_that_are_late(tmp_path: Path) -> None:
    model = ScriptedModel("I see no photo.", "Hello.")
    async with slowly(tmp_path, model, wait=0.05) as (play, _):
        await play.deliver(inbound("look", files=(PHOTO,)))
        await play.reply("I see no photo.")
        await play.say("hello")
        await play.reply("Hello.")
        assert play.states() == {"consumed": 2, "waiting": 1}


async def test_late_files_come_after_a_crash(tmp_path: Path) -> None:
    media = MemoryMedia()
    async with slowly(tmp_path, ScriptedModel("I wait."), wait=0.05, media=media) as (play, _):
        await play.deliver(inbound("look", files=(PHOTO,)))
        await play.reply("I wait.")
    model = ScriptedModel("Here it is.")
    async with slowly(tmp_path, model, wait=0.05, media=media) as (play, channel):
        channel.given["photo"].set()
        await play.reply("Here it is.")
        await play.until_idle()
        assert play.states() == {"consumed": 2}
    assert [files for _, _, files in heard(model)] == [[], ["photo.jpg"]]


async def test_a_deleted_message_takes_its_late_files_with_it(tmp_path: Path) -> None:
    async with slowly(tmp_path, ScriptedModel("I wait."), wait=0.05) as (play, channel):
        message = inbound("look", files=(PHOTO,))
        await play.deliver(message)
        await play.reply("I wait.")
        await play.deliver(inbound(kind="withdrawn", id=message.message_id))
        channel.given["photo"].set()
        await play.until_idle()
        assert play.states() == {"consumed": 1, "withdrawn": 1, "answered": 1}


async def test_a_turn_goes_on_when_the_picture_that_interrupted_it_is_deleted(tmp_path: Path) -> None:
    model = ScriptedModel(["Well", asyncio.Event()], "I go on.")
    async with slowly(tmp_path, model) as (play, channel):
        await play.say("go")
        await play.reply("Well", done=False)
        message = inbound("look", files=(PHOTO,))
        await play.deliver(message)
        await channel.until(_is_interrupted)
        await play.deliver(inbound(kind="withdrawn", id=message.message_id))
        await play.reply("I go on.")
    assert heard(model) == [("go", "", [])]


async def test_an_edit_changes_the_words_of_a_message_and_not_its_late_files(tmp_path: Path) -> None:
    model = ScriptedModel(["I wait", asyncio.Event()], ["I see", asyncio.Event()], "Here it is.")
    async with slowly(tmp_path, model, wait=0.05) as (play, channel):
        message = inbound("look", files=(PHOTO,))
        await play.deliver(message)
        await play.reply("I wait", done=False)
        await play.deliver(inbound("look here", kind="edited", id=message.message_id))
        await play.reply("I see", done=False)
        assert heard(model)[-1][0] == "look here"
        channel.given["photo"].set()
        await play.reply("Here it is.")
    assert heard(model)[-1][0] == ""
    assert heard(model)[-1][2] == ["photo.jpg"]
