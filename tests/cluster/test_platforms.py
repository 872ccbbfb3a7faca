"""Each platform with workers in processes of their own: killed, stopped, cut off from the database and ended, of which
people notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.turns.typing import REPEAT
from tests.cluster.fleet import fleet
from tests.cluster.homes import sending_again
from tests.cluster.test_day import settled
from tests.servers.discord import Discord
from tests.servers.models import ModelServer, Request, Say, Silence
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")

WORKERS = ("a", "b", "c")
SETTINGS = """\
[agent]
model = "openai:test"
workspace = "{folder}/workspace"
shutdown_grace = 0
[models.openai]
api_key = "test-key"
base_url = "{models}"
[store]
lease = 1.5
[media]
path = "{folder}/media"
[web]
enabled = false
{channel}
allow = ["*"]
"""


class Chat(Protocol):
    """Ann's direct chat with the bot."""

    @property
    def texts(self) -> list[str]: ...

    def hear(self, match: str) -> Coroutine[Any, Any, object]: ...


@dataclass
class Platform:
    """`settings` are those of the channel, `connector` begins the name of its lease. `listened_to` returns when a
    worker listens, `check` asserts what the platform has seen of the workers."""

    settings: str
    connector: str
    chat: Chat
    say: Callable[[str], Coroutine[Any, Any, object]]
    listened_to: Callable[[], Coroutine[Any, Any, object]]
    check: Callable[[], None]


@asynccontextmanager
async def on_telegram() -> AsyncIterator[Platform]:
    async with BotApi() as api:
        ann = api.private()
        yield Platform(
            f'[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"',
            "telegram:",
            ann,
            ann.say,
            lambda: api.until(lambda api: api.polls),
            lambda: None,
        )


@asynccontextmanager
async def on_slack() -> AsyncIterator[Platform]:
    async with Slack() as slack, sending_again(slack):
        ann = slack.direct("Ann")
        tokens = f'bot_token = "{slack.bot_token}"\napp_token = "{slack.app_token}"\napi_url = "{slack.api_url}"'
        yield Platform(f"[channels.slack]\n{tokens}", "", ann, ann.say, lambda: slack.connected(3), lambda: None)


@asynccontextmanager
async def on_discord() -> AsyncIterator[Platform]:
    async with Discord() as discord:
        ann, urls = discord.direct(), f'api_url = "{discord.api_url}"\ngateway_url = "{discord.gateway_url}"'

        def check() -> None:
            assert len(discord.gateway.identifies) == 1, "one session for all"
            assert len(discord.gateway.resumes) >= 3

        settings = f'[channels.discord]\ntoken = "{discord.token}"\n{urls}'
        yield Platform(settings, "discord:", ann, ann.say, discord.connected, check)


def repeat(request: Request) -> list[object]:
    return [Say(f"You said {request.messages[-1].text}.")]


@pytest.mark.parametrize("on", [on_telegram, on_slack, on_discord])
async def test_a_conversation_goes_on_whatever_happens_to_the_worker_that_listens(
    tmp_path: Path, on: Callable[[], AbstractAsyncContextManager[Platform]]
) -> None:
    async with on() as platform, ModelServer() as models:
        models.respond(repeat)
        file, chat = tmp_path / "interject.toml", platform.chat
        file.write_text(SETTINGS.format(folder=tmp_path, models=models.openai_url, channel=platform.settings))
        async with fleet(file, *WORKERS, apart=WORKERS) as workers:

            def listening() -> str:
                return workers.holder(platform.connector) if platform.connector else min(workers.processes)

            async def asks(text: str) -> None:
                await platform.say(text)
                await chat.hear(f"You said {text}.")
                await settled(workers)

            await platform.listened_to()
            await asks("one")
            await workers.kill(listening())
            await asks("two")
            for name in workers.processes:
                await workers.alive(name)
            stopped = workers.processes[listening()]
            stopped.stop()
            await asks("three")
            # It finds out that others take it for dead, and begins again.
            stopped.resume()
            await workers.alive(stopped.name)
            cut_off = listening()
            workers.links[cut_off].swallow()
            await asks("four")
            workers.links[cut_off].deliver()
            await workers.alive(cut_off)
            assert await workers.end(listening()) == 0
            await asks("five")
            platform.check()
        assert chat.texts == [f"You said {word}." for word in ("one", "two", "three", "four", "five")]


async def test_a_worker_that_was_stopped_types_in_no_chat_when_it_wakes(tmp_path: Path) -> None:
    async with BotApi() as api, ModelServer() as models:
        models.script(Silence(), Say("Done."))
        file, chat = tmp_path / "interject.toml", api.private()
        channel = f'[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"'
        file.write_text(SETTINGS.format(folder=tmp_path, models=models.openai_url, channel=channel))
        async with fleet(file, "a", "b") as workers:
            await api.until(lambda api: api.polls)
            await chat.say("hi")
            await chat.until(lambda chat: chat.actions)
            stopped = workers.processes[workers.holder("telegram:")]
            stopped.stop()
            await chat.hear("Done.")
            await settled(workers)
            # Until it would show it again.
            await asyncio.sleep(REPEAT)
            shown = len(chat.actions)
            stopped.resume()
            await workers.alive(stopped.name)
    assert len(chat.actions) == shown
