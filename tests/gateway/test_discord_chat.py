"""What people see in Discord is what the model reads, through the real SDK and a real gateway."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from channels.address import Address
from gateway.sessions import session_key
from tests.channels.test_telegram_channel import png
from tests.gateway.stage import gateway
from tests.servers.discord import BOB, Discord, Person, Upload
from tests.servers.models import Call, Gate, ModelServer, Request, Say

SETTINGS = """\
[agent]
model = "openai:test"
workspaces = "shared"
[models.openai]
api_key = "test-key"
base_url = "{models}"
[web]
enabled = false
[channels.discord]
token = "{token}"
api_url = "{api}"
gateway_url = "{gateway}"
allow = ["*"]
"""


@pytest.fixture
def file(tmp_path: Path, discord: Discord, models: ModelServer) -> Path:
    file = tmp_path / "interject.toml"
    urls = {"api": discord.api_url, "gateway": discord.gateway_url, "models": models.openai_url}
    file.write_text(SETTINGS.format(token=discord.token, **urls))
    return file


def add(file: Path, option: str) -> None:
    file.write_text(f"{file.read_text()}{option}\n")


def told(request: Request) -> str:
    """What people said, as the model was sent it."""
    return "\n".join(message.text for message in request.messages if message.role == "user")


async def test_an_alert_that_a_program_posted_is_read_with_the_question_about_it(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    models.script(Say("It is the disk."))
    room = discord.channel("alerts")
    async with gateway(file):
        await discord.connected()
        alert = await room.webhook("Grafana", "New alert")
        room.log[int(alert["id"])]["embeds"] = [{"type": "rich", "title": "Disk full", "description": "web-1: 98 %"}]
        await room.say("<@4242> what now?", reply_to=alert)
        await room.hear("It is the disk.")
    for words in ("New alert", "Disk full", "web-1: 98 %", "what now?"):
        assert words in told(models.requests[0])


async def test_a_forums_post_is_read_with_its_title(file: Path, discord: Discord, models: ModelServer) -> None:
    models.script(Say("It is the linker."))
    async with gateway(file):
        await discord.connected()
        post = await discord.forum().thread("Build breaks on ARM since 2.3", text="any idea?")
        await post.say("<@4242> do you know?", by=BOB)
        await post.hear("It is the linker.")
    for words in ("Build breaks on ARM since 2.3", "any idea?", "do you know?"):
        assert words in told(models.requests[0])


async def test_a_message_that_is_edited_to_mention_the_bot_is_a_new_one(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    models.script(Say("It is green."))
    async with gateway(file):
        await discord.connected()
        room = discord.channel("general")
        said = await room.say("check the build")
        await room.edit(said, "<@4242> check the build")
        await room.hear("It is green.")
    assert "check the build" in told(models.requests[0])


async def test_a_preview_that_comes_while_the_agent_works_steers_nothing(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    gate = asyncio.Event()
    models.script(Say(["It says", Gate(gate), " that rates rise."]))
    async with gateway(file) as built:
        await discord.connected()
        ann = discord.direct()
        said = await ann.say("what says https://news.example/1")
        await ann.hear(re.compile("It says"))
        await ann.unfurl(said, {"type": "link", "url": "https://news.example/1", "title": "Rates rise"})
        session = session_key(Address("discord", "4242", str(ann.id)))
        async with asyncio.timeout(60):
            while len(await built.gateway.store.rows(session)) < 2:  # noqa: ASYNC110 - the store rings no bell
                await asyncio.sleep(0.02)
        gate.set()
        await ann.until(lambda place: "It says that rates rise." in place.texts)
    assert len(models.requests) == 1


@pytest.mark.parametrize("command", ["steer", "queue"])
async def test_a_command_whose_words_wait_shows_them_at_once(
    file: Path, discord: Discord, models: ModelServer, command: str
) -> None:
    gate = asyncio.Event()
    models.script(Say(["It says", Gate(gate), " more."]), Say("In short: rain."))
    async with gateway(file):
        room = discord.channel("general")
        await discord.connected()
        await discord.until(lambda discord: discord.commands)
        await room.say("<@4242> what does it say?")
        await room.hear(re.compile("It says"))
        used = await room.command(command, arguments="in short,\n@everyone")
        assert await used.until_answered() == 4
        assert used.shown is not None
        assert used.shown.content == "> in short,\n> @everyone"
        assert used.shown.pings == frozenset()
        gate.set()
        await room.until(lambda place: any("In short: rain." in text for text in place.texts))
    assert "in short,\n@everyone" in told(models.requests[1])


async def test_a_command_whose_words_begin_a_task_has_the_answer(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    models.script(Say("Rain."))
    async with gateway(file):
        room = discord.channel("general")
        await discord.connected()
        await discord.until(lambda discord: discord.commands)
        used = await room.command("queue", arguments="what does it say?")
        assert await used.until_answered() == 5
        await room.until(lambda place: used.shown is not None and used.shown.content == "Rain.")


async def test_the_bot_is_called_into_a_talk_and_later_again(file: Path, discord: Discord, models: ModelServer) -> None:
    models.script(Say("Ann wants tea."), Say("Bob gave in."))
    async with gateway(file):
        await discord.connected()
        room = discord.channel("general")
        root = await room.say("what do we drink?")
        thread = await room.thread("drinks", from_message=root)
        await thread.say("I want tea")
        await thread.say("I want coffee\nANN: I hate tea", by=BOB)
        await thread.say("<@4242> summarise this thread")
        await thread.hear("Ann wants tea.")
        await thread.say("tea it is", by=Person(55, "Deploys", bot=True))
        await thread.say("<@4242> and now?")
        await thread.hear("Bob gave in.")
    first, second = (told(request) for request in models.requests)
    for words in ("what do we drink?", "- Ann: I want tea", "- Bob: I want coffee\n  ANN: I hate tea"):
        assert words in first
    again = second.removeprefix(first)
    assert "tea it is" in again
    assert "I want coffee" not in again


async def test_in_a_channel_the_model_is_told_what_was_said_there(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    models.script(Say("Blue."), Say("Green."))
    add(file, "earlier_messages = 2")
    async with gateway(file):
        await discord.connected()
        room = discord.channel("general")
        for words in ("one", "two", "the sky is blue"):
            await room.say(words, by=BOB)
        await room.say("<@4242> what is the sky?")
        await room.hear("Blue.")
        await room.say("no, green", by=BOB)
        await room.say("<@4242> so what is it?")
        await room.hear("Green.")
    first, second = (told(request) for request in models.requests)
    assert "- Bob: two\n- Bob: the sky is blue" in first
    assert "one" not in first
    assert "- Bob: no, green" in second.removeprefix(first)
    assert "Blue." not in second.removeprefix(first)


async def test_a_reply_to_the_bots_own_picture_brings_the_picture(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    models.script(Say("A red square."))
    async with gateway(file):
        await discord.connected()
        ann = discord.direct()
        shown = ann.post(discord.me, "", {"attachments": [discord.files.add(ann.id, Upload("red.png", png()))]})
        await ann.say("what is this?", reply_to=shown)
        await ann.hear("A red square.")
    assert len([image for message in models.requests[0].messages for image in message.images]) == 1


@pytest.mark.parametrize("is_comment_first", [True, False])
async def test_a_forward_and_the_comment_that_calls_the_bot_are_read_together(
    file: Path, discord: Discord, models: ModelServer, is_comment_first: bool
) -> None:
    models.script(Say("A typo."), Say("A typo."))
    add(file, "earlier_messages = 0")
    async with gateway(file):
        await discord.connected()
        error = await discord.channel("errors").say("NameError: prnt", by=BOB)
        room = discord.channel("general")
        if is_comment_first:
            await room.say("<@4242> what is this?")
            await room.forward(error)
        else:
            await room.forward(error)
            await room.say("<@4242> what is this?")
        await room.hear("A typo.")
    assert "NameError: prnt" in told(models.requests[-1])
    assert "what is this?" in told(models.requests[-1])


async def test_a_scheduled_task_of_somebody_whom_everybody_admits_is_done(
    file: Path, discord: Discord, models: ModelServer
) -> None:
    def answer(request: Request) -> Say | Call:
        if "is due now" in told(request):
            return Say("Your tea!")
        if request.messages[-1].role == "tool":
            return Say("Scheduled.")
        return Call("schedule", {"action": "add", "task": "Tell me to drink tea.", "in_minutes": 0.001})

    models.respond(answer)
    async with gateway(file):
        await discord.connected()
        ann = discord.direct()
        await ann.say("remind me of the tea")
        await ann.hear("Scheduled.")
        await ann.hear("Your tea!")
