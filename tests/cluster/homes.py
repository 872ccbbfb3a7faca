"""The platforms on which workers meet people, each with its real SDK in the workers and a local server here."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.interrupt import cancel_and_wait
from tests.channels.contract.discord_home import DiscordHome
from tests.channels.contract.home import Home, Place, Words
from tests.channels.contract.slack_home import SlackHome
from tests.channels.contract.telegram_home import TelegramHome
from tests.gateway.test_kill import REPEAT
from tests.servers.discord import Discord
from tests.servers.models import ModelServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

SETTINGS = """\
[agent]
model = "openai:test"
workspace = "{folder}/workspace"
workspaces = "shared"
shutdown_grace = {grace}
[models.openai]
api_key = "test-key"
base_url = "{models}"
[limits]
messages_per_minute = 10000
[store]
lease = {lease}
[media]
path = "{folder}/media"
[web]
enabled = false
"""

NO_WEB = "[web]\nenabled = false\n"

UNACKNOWLEDGED = 1.0
"""Seconds after which an event comes to Slack's apps again; Slack waits for three."""


@dataclass
class Homes:
    telegram: TelegramHome
    slack: SlackHome
    discord: DiscordHome

    @property
    def all(self) -> tuple[Home, ...]:
        return self.telegram, self.slack, self.discord

    def write_settings(
        self, folder: Path, models: ModelServer, *, lease: float, grace: int = 0, more: str = ""
    ) -> Path:
        """An interject.toml for workers on all platforms. The files of people and of the agent are in folders that they
        share."""
        file = folder / "interject.toml"
        channels = "".join(home.settings().replace(NO_WEB, "") for home in self.all)
        file.write_text(
            SETTINGS.format(folder=folder, models=models.openai_url, lease=lease, grace=grace) + channels + more
        )
        return file

    async def listened_to(self) -> None:
        """Workers listen on each of them."""
        await self.telegram.api.until(lambda api: api.polls)
        await self.slack.server.connected()
        await self.discord.server.connected()


@asynccontextmanager
async def three_homes() -> AsyncIterator[Homes]:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(BotApi())
        slack = await stack.enter_async_context(Slack())
        discord = await stack.enter_async_context(Discord())
        await stack.enter_async_context(sending_again(slack))
        yield Homes(TelegramHome(api), SlackHome(slack), DiscordHome(discord))


@asynccontextmanager
async def sending_again(slack: Slack) -> AsyncIterator[None]:
    """Slack sends again what nobody acknowledges."""
    sending = asyncio.create_task(_send_again(slack))
    try:
        yield
    finally:
        await cancel_and_wait(sending)


async def _send_again(slack: Slack) -> None:
    while True:
        await asyncio.sleep(UNACKNOWLEDGED / 2)
        for delivery in slack.unacknowledged() if slack.sockets else ():
            if delivery.sent and delivery.sent[-1] < time.monotonic() - UNACKNOWLEDGED:
                slack.send_again(delivery, "timeout")


@dataclass
class Conversation:
    """One place, in which numbered wishes are said, each answered as "[n]"."""

    name: str
    home: Home
    place: Place
    mention: str = ""
    said: list[str] = field(default_factory=list)

    async def say(self, number: str) -> None:
        """On Slack once the app has taken what was said before: what it takes later comes again, behind the others."""
        if isinstance(self.home, SlackHome):
            await self.home.server.settle(timeout=120)
        await self.place.say(f"{self.mention}wish #{number}")
        self.said.append(number)

    def shown(self) -> list[str]:
        """The answered numbers as they stand there, in order, without those that say they may be a repeat."""
        return [number for text in self._texts() if REPEAT not in text for number in _answers(text)]

    def every(self) -> list[str]:
        return [number for text in self._texts() for number in _answers(text)]

    def screen(self) -> str:
        return "\n".join(repr(text) for text in self._texts())

    async def answered(self) -> None:
        await self.place.until(lambda: set(self.said) <= set(self.every()))

    def _texts(self) -> Sequence[str]:
        return [seen.plain for seen in self.place.screen() if isinstance(seen, Words)]


def _answers(text: str) -> list[str]:
    return re.findall(r"\[(\d+)\]", text)


def conversations(homes: Homes) -> tuple[Conversation, ...]:
    """Direct ones and one of a group on each platform, and on Slack one in whose messages texts are streamed."""
    pane = Conversation("slack pane", homes.slack, homes.slack.room(""))
    found = [pane]
    for home in homes.all:
        found.append(Conversation(f"{home.name} direct", home, home.main))
        found.append(Conversation(f"{home.name} group", home, home.group(), f"{home.mention} "))
    return tuple(found)
