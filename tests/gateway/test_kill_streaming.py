"""The real process is killed with SIGKILL while an answer grows in a group of each platform."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.channels.contract.discord_home import DiscordHome
from tests.channels.contract.home import lines
from tests.channels.contract.slack_home import SlackHome
from tests.channels.contract.telegram_home import TelegramHome
from tests.engines import engines
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

CONTINUED = ["One two", "⏸ interrupted by a restart", "three."]

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


async def until(folder: Path, count: str) -> None:
    """The query counts something in the store."""
    async with asyncio.timeout(60):
        while True:
            if engines.sql(folder / "home" / "interject.db", count) != [(0,)]:
                return
            await asyncio.sleep(0.02)


@pytest.mark.crash
@pytest.mark.parametrize("name", ["telegram", "slack", "discord"])
async def test_after_a_kill_in_mid_stream_what_was_read_stands_and_the_model_goes_on_below_it(
    tmp_path: Path, name: str
) -> None:
    async with home_of(name) as home, ModelServer() as models:
        models.script([Say(["One two", Pause()])], [Pause(), Say("three.")], Say("You are welcome."))
        file = tmp_path / "interject.toml"
        file.write_text(SETTINGS.format(models=models.openai_url, home=home.settings()))
        group = home.group()
        async with process(file) as gateway:
            await is_heard(home)
            await group.say(f"{home.mention} count")
            await group.until(lambda: lines(group) == ["One two"])
            # Whether Telegram got a message cannot be asked: killed before it is noted, it would be sent once more.
            await until(tmp_path, "SELECT count(*) FROM outbox WHERE state = 'shown'")
            await until(tmp_path, "SELECT count(*) FROM turns WHERE draft LIKE '%One two%'")
            before = [seen.message for seen in group.screen()]
            gateway.send_signal(signal.SIGKILL)
        async with process(file):
            await is_heard(home)
            await models.until(2)
            asked = models.requests[-1].messages
            assert [(message.role, message.text) for message in asked[-2:-1]] == [("assistant", "One two")]
            assert "interrupted here, by a restart" in asked[-1].text
            models.release(2)
            await group.until(lambda: lines(group) == CONTINUED)
            assert [seen.message for seen in group.screen()] == before
            await group.say(f"{home.mention} thanks")
            await group.until(lambda: lines(group) == [*CONTINUED, "You are welcome."])
            await settled(tmp_path)
        assert lines(group) == [*CONTINUED, "You are welcome."]
        assert lines(home.main) == []
        assert models.refusals == []
