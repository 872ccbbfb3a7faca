"""What every row of the contract needs: a model, and the home that it is run in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.channels.contract.discord_home import DiscordHome
from tests.channels.contract.home import Home, Stage
from tests.channels.contract.slack_home import SlackHome, SlackPaneHome
from tests.channels.contract.telegram_home import TelegramHome
from tests.channels.contract.terminal_home import TerminalHome
from tests.channels.contract.web_home import WebHome
from tests.servers.discord import Discord
from tests.servers.models import ModelServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Afterwards: the model was asked for every answer it was to give, and nobody complained."""
    async with ModelServer() as models, _home(request.param, tmp_path) as home:
        stage = Stage(home, models, tmp_path)
        yield stage
        assert models.refusals == []
        assert models.unplayed == 0
        home.check()


@asynccontextmanager
async def _home(name: str, folder: Path) -> AsyncIterator[Home]:
    match name:
        case "telegram":
            async with BotApi() as api:
                yield TelegramHome(api)
        case "slack":
            async with Slack() as server:
                yield SlackHome(server)
        case "slack-pane":
            async with Slack() as server:
                yield SlackPaneHome(server)
        case "discord":
            async with Discord() as discord:
                yield DiscordHome(discord)
        case "web":
            yield WebHome()
        case _:
            yield TerminalHome(folder)
