"""Whatever a turn says, in every form that it has while it grows and when it is whole, no platform refuses it.

The local servers hold what they are sent against the platforms' documented limits, with numbers of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.channel import Channel
from channels.discord.channel import DiscordChannel
from channels.reply import MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.slack.channel import SlackChannel
from channels.telegram.channel import TelegramChannel
from tests.channels.test_discord_channel import Shelfmark
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import Shelf, png
from tests.channels.test_telegram_limits import LINES, REPLIES
from tests.servers.discord import Discord
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi, parse_html

MANY_STYLES = "**b** _i_ `c` " * 100
MANY_LINKS = "\n".join(f"[{n}](https://e.org/{'x' * 200}{n})" for n in range(60))
EMPTY = Reply("run-1", Address("x", "9", "7"), None, status="working")
NO_FILE = Attachment("", "", "image/png", 0)
STYLED = st.sampled_from([MANY_STYLES, MANY_LINKS, MANY_STYLES[:800], MANY_LINKS[:1000]])
MANY_OPTIONS = st.lists(LINES, min_size=20, max_size=60).map(tuple) | st.just(("字" * 90,) * 60)
FULL = st.lists(
    st.builds(MediaSegment, st.just("m"), st.just(NO_FILE), STYLED)
    | st.builds(QuestionSegment, st.just("q:4f0c5d6e_3_0"), STYLED, MANY_OPTIONS)
    | st.builds(TextSegment, st.just("t"), STYLED),
    max_size=3,
)


@dataclass(frozen=True, slots=True)
class Stage:
    """A channel at its server. `refused` says what the server did not take."""

    channel: Channel
    address: Address
    picture: Attachment
    refused: Callable[[], list[Any]]


@asynccontextmanager
async def telegram() -> AsyncIterator[Stage]:
    async with BotApi() as api:
        shelf = Shelf()
        channel = TelegramChannel("telegram", api.token, api.url, shelf)
        address = Address("telegram", "123456", str(api.private().id))
        yield Stage(channel, address, await picture(shelf), lambda: [*api.refusals, *ignored_by(api)])
        await channel.aclose()


def ignored_by(api: BotApi) -> list[str]:
    """Texts with more formatting than a message has."""
    texts = [call.params.text(name) for call in api.calls for name in ("text", "caption")]
    return [text for text in texts if len(parse_html(text)[1]) > 100]


@asynccontextmanager
async def slack() -> AsyncIterator[Stage]:
    async with Slack() as server:
        shelf = Shelf()
        channel = SlackChannel(
            "slack", server.bot_token, shelf, Shelfmark(), app_token=server.app_token, api_url=server.api_url
        )
        root = await server.direct("Ann").say("hi")
        address = Address("slack", "U0BOT", server.direct("Ann").id, root["ts"])
        yield Stage(channel, address, await picture(shelf), lambda: list(server.refusals))
        await channel.aclose()


@asynccontextmanager
async def discord() -> AsyncIterator[Stage]:
    async with Discord() as server:
        shelf = Shelf()
        channel = DiscordChannel(
            "discord", server.token, shelf, Shelfmark(), api_url=server.api_url, gateway_url=server.gateway_url
        )
        address = Address("discord", "1000", str(server.direct().id))
        yield Stage(channel, address, await picture(shelf), lambda: list(server.refusals))
        await channel.aclose()


async def picture(shelf: Shelf) -> Attachment:
    """With a name as long as those that the gateway keeps."""
    return await shelf.put(png(), f"{'图' * 60}.png")


PLATFORMS: dict[str, Callable[[], AbstractAsyncContextManager[Stage]]] = {
    "telegram": telegram,
    "slack": slack,
    "discord": discord,
}


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_a_platform_takes_every_form_of_any_reply(platform: Callable[[], AbstractAsyncContextManager[Stage]]) -> None:
    numbers = count()

    @settings(max_examples=12, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
    @example(reply=EMPTY, more=[MediaSegment("m", NO_FILE, MANY_STYLES[:800]), MediaSegment("m", NO_FILE, MANY_LINKS)])
    @example(reply=EMPTY, more=[QuestionSegment("q:4f0c5d6e_3_0", MANY_LINKS, ("字" * 90,) * 60)])
    @given(reply=REPLIES, more=FULL)
    def shown_without_a_refusal(reply: Reply, more: list[Segment]) -> None:
        segments = tuple(placed(segment, number, stage) for number, segment in enumerate((*reply.segments, *more)))
        whole = replace(reply, id=f"{next(numbers)}{reply.id}", address=stage.address, segments=segments)
        runner.run(show(stage, whole))
        assert stage.refused() == []

    with asyncio.Runner() as runner:
        opened = platform()
        stage = runner.run(opened.__aenter__())
        try:
            shown_without_a_refusal()
        finally:
            runner.run(opened.__aexit__(None, None, None))


def placed(segment: Segment, number: int, stage: Stage) -> Segment:
    """With a key of its own, and a file that exists."""
    segment = replace(segment, key=f"{segment.key}{number}")
    return replace(segment, attachment=stage.picture) if isinstance(segment, MediaSegment) else segment


async def show(stage: Stage, reply: Reply) -> None:
    ledger = MemoryLedger()
    for done in (False, True):
        await stage.channel.show(replace(reply, done=done), ledger)
    states = [sent.state for sent in ledger.pieces()]
    assert states == ["shown"] * len(states)
