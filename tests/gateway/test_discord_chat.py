"""What people see in Discord is what the model reads, through the real SDK and a real gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from channels.address import Address
from gateway.sessions import session_key
from tests.gateway.stage import gateway
from tests.servers.discord import BOB, Discord
from tests.servers.models import Gate, ModelServer, Request, Say

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
async def discord() -> AsyncIterator[Discord]:
    async with Discord() as discord:
        yield discord


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path, discord: Discord, models: ModelServer) -> Path:
    file = tmp_path / "interject.toml"
    urls = {"api": discord.api_url, "gateway": discord.gateway_url, "models": models.openai_url}
    file.write_text(SETTINGS.format(token=discord.token, **urls))
    return file


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
