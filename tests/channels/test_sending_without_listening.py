"""Two adapters of one account, as two workers have them: one listens, the other one sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest

from channels.channel import Channel
from channels.message import InboundMessage, MessageStatus
from channels.reply import MediaSegment, Reply, TextSegment
from channels.slack.channel import SlackChannel
from channels.telegram.channel import TelegramChannel
from tests.channels.test_discord_channel import Shelfmark, account
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import COMMANDS, Inbox, Shelf, png
from tests.servers import discord, slack
from tests.servers.discord import Discord
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi


class Screen(Protocol):
    """A direct chat with Ann."""

    @property
    def texts(self) -> list[str]: ...


@dataclass
class Platform:
    """`connected` returns when an adapter listens. `send` is what Ann does: she sends a file with these words. `marks`
    are the reactions of the bot on it, `pictures` those that it has shown."""

    open: Callable[[Shelf], Channel]
    connected: Callable[[], Awaitable[object]]
    chat: Screen
    send: Callable[[str, bytes], Awaitable[object]]
    marks: Callable[[InboundMessage], Sequence[str]]
    pictures: Callable[[], list[bytes]]


@asynccontextmanager
async def on_telegram() -> AsyncIterator[Platform]:
    async with BotApi() as api:
        ann = api.private()
        yield Platform(
            lambda shelf: TelegramChannel("telegram", api.token, api.url, shelf),
            lambda: api.until(lambda api: api.polls),
            ann,
            lambda text, data: ann.send_document(data, text),
            lambda message: [reaction["emoji"] for reaction in ann.reactions[int(message.message_id or 0)]],
            lambda: [shown.photo for shown in ann.messages if shown.photo],
        )


@asynccontextmanager
async def on_slack() -> AsyncIterator[Platform]:
    async with Slack() as server:
        ann = server.direct("Ann")

        def open_channel(shelf: Shelf) -> Channel:
            return SlackChannel(
                "slack", server.bot_token, shelf, Shelfmark(), app_token=server.app_token, api_url=server.api_url
            )

        yield Platform(
            open_channel,
            server.connected,
            ann,
            lambda text, data: ann.send_files([slack.Upload("notes.txt", data)], text),
            lambda message: ann.marks_on(message.message_id or ""),
            lambda: [file.data for shown in ann.messages for file in shown.files],
        )


@asynccontextmanager
async def on_discord() -> AsyncIterator[Platform]:
    async with Discord() as server:
        ann = server.direct()

        def open_channel(shelf: Shelf) -> Channel:
            return account(server, shelf, Shelfmark())

        yield Platform(
            open_channel,
            server.connected,
            ann,
            lambda text, data: ann.say(text, files=[discord.Upload("notes.txt", data)]),
            lambda message: ann.reactions_on(message.message_id or ""),
            lambda: [file.data for shown in ann.messages for file in shown.files],
        )


@asynccontextmanager
async def opened(platform: Platform, shelf: Shelf) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two adapters."""
    pair = platform.open(shelf), platform.open(shelf)
    try:
        yield pair
    finally:
        for channel in pair:
            await channel.aclose()


@pytest.mark.parametrize("on", [on_telegram, on_slack, on_discord])
async def test_a_worker_that_does_not_listen_goes_on_with_a_reply_of_one_that_does(
    on: Callable[[], AbstractAsyncContextManager[Platform]],
) -> None:
    shelf, inbox, ledger = Shelf(), Inbox(), MemoryLedger()
    picture = await shelf.put(png(), "blue.png")
    async with on() as platform, opened(platform, shelf) as (first, second):
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(first.listen(inbox.deliver, COMMANDS))
            await platform.connected()
            await platform.send("hi", b"some bytes")
            await inbox.texts(1)
            [message] = inbox.messages

            def reply(text: str, *more: MediaSegment, open: bool = False) -> Reply:
                segments = (TextSegment("t1", text, open=open), *more)
                return Reply("run-1", message.address, message.message_id, segments, "", not open)

            await first.show(reply("I", open=True), ledger)
            await first.show_status(MessageStatus(message.address, 1, message.message_id, "read"))
            await second.typing(message.address)
            await second.show(reply("I think", open=True), ledger)
            assert platform.chat.texts == ["I think"]
            await second.show(reply("I think so.", MediaSegment("m1", picture)), ledger)
            await second.show_status(
                MessageStatus(message.address, 1, message.message_id, "answered", before="read"),
            )
            assert await second.fetch(message.files[0]) == b"some bytes"
            listener.cancel()
        assert [text for text in platform.chat.texts if text] == ["I think so."]
        assert platform.pictures() == [png()]
        assert len(platform.marks(message)) == 1
        assert all(piece.state == "shown" for piece in ledger.pieces())
