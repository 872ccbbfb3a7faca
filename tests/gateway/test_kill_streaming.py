"""The real process is killed with SIGKILL while an answer grows in a group of each platform."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.channels.contract.discord_home import DiscordHome
from tests.channels.contract.home import lines
from tests.channels.contract.slack_home import SlackHome
from tests.channels.contract.telegram_home import TelegramHome
from tests.gateway.test_kill import process, settled
from tests.servers.discord import Discord
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

SETTINGS = """\
[agent]
model = "openai:test"
[models.openai]
api_key = "test-key"
base_url = "{models}"
{home}
"""

AnyHome = TelegramHome | SlackHome | DiscordHome


@asynccontextmanager
async def home_of(name: str) -> AsyncIterator[AnyHome]:
    match name:
        case "telegram":
            async with BotApi() as api:
                yield TelegramHome(api)
        case "slack":
            async with Slack() as slack:
                yield SlackHome(slack)
        case _:
            async with Discord() as discord:
                yield DiscordHome(discord)


async def is_heard(home: AnyHome) -> None:
    """What is said from now on reaches the gateway."""
    if not isinstance(home, TelegramHome):
        await home.server.connected()


async def confirmed(folder: Path) -> None:
    """It is noted that what is on screen was sent."""
    async with asyncio.timeout(60):
        while True:
            with closing(sqlite3.connect(folder / "home" / "interject.db")) as connection:
                if connection.execute("SELECT count(*) FROM outbox WHERE state = 'shown'").fetchone() != (0,):
                    return
            await asyncio.sleep(0.02)


@pytest.mark.crash
@pytest.mark.parametrize("name", ["telegram", "slack", "discord"])
async def test_after_a_kill_in_mid_stream_one_reply_stands_complete_in_its_place(tmp_path: Path, name: str) -> None:
    async with home_of(name) as home, ModelServer() as models:
        models.script([Say(["One two", Pause()])], [Pause(), Say("One two three.")], Say("You are welcome."))
        file = tmp_path / "interject.toml"
        file.write_text(SETTINGS.format(models=models.openai_url, home=home.settings()))
        group = home.group()
        async with process(file) as gateway:
            await is_heard(home)
            await group.say(f"{home.mention} count")
            await group.until(lambda: lines(group) == ["One two"])
            if name == "telegram":
                # Whether Telegram got a message cannot be asked: killed before it is noted, it would be sent once more.
                await confirmed(tmp_path)
            before = [seen.message for seen in group.screen()]
            gateway.send_signal(signal.SIGKILL)
        async with process(file):
            await is_heard(home)
            await models.until(2)
            models.release(2)
            await group.until(lambda: lines(group) == ["One two three."])
            assert [seen.message for seen in group.screen()] == before
            await group.say(f"{home.mention} thanks")
            await group.until(lambda: lines(group) == ["One two three.", "You are welcome."])
            await settled(tmp_path)
        assert lines(group) == ["One two three.", "You are welcome."]
        assert lines(home.main) == []
        assert models.refusals == []
