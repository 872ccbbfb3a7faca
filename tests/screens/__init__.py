"""The pictures of the documentation, taken of real conversations: `python -m tests.screens`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.screens.discord import DiscordScreen
from tests.screens.slack import SlackScreen
from tests.screens.story import Screen
from tests.screens.telegram import TelegramScreen
from tests.servers.discord import Discord
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

GROUPS = ("telegram", "slack", "discord")


@asynccontextmanager
async def group(platform: str) -> AsyncIterator[Screen]:
    """A group on the platform, on a server of its own."""
    match platform:
        case "telegram":
            async with BotApi(username="interject_bot") as api:
                yield TelegramScreen(api)
        case "slack":
            async with Slack(name="Interject") as slack:
                yield SlackScreen(slack)
        case "discord":
            async with Discord() as discord:
                yield DiscordScreen(discord)
        case _:
            raise ValueError(platform)
