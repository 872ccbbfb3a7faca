"""Moves messages between Telegram and the gateway, with python-telegram-bot's `Bot`."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from telegram import Bot as Api
from telegram.error import (
    BadRequest,
    Conflict,
    InvalidToken,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

from agent.media import MediaStore
from channels.address import Address
from channels.channel import (
    ChannelRejected,
    CommandHelp,
    FileUnavailable,
    Ledger,
    RetryLater,
    Undeliverable,
)
from channels.message import Deliver, FileRef, InboundMessage, MessageState, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.sync import show_pieces
from channels.telegram.api import FewAtATime, call, only_logged, seconds, telegram_errors, where_to
from channels.telegram.parse import MALFORMED, Bot, Json, needs_username, parse

log = logging.getLogger(__name__)

POLL = 30
"""Seconds that a getUpdates waits for something to happen."""

SIDE_BY_SIDE = 8
"""Calls under way at once, enough for the 30 messages a second that Telegram allows a bot."""

LONGEST_PAUSE = 30.0
ANSWER_LIMIT = 200
"""Characters that whoever pressed a button can be told: https://core.telegram.org/bots/api#answercallbackquery."""

ALLOWED_UPDATES = ["message", "edited_message", "callback_query"]

REACTIONS: dict[MessageState, str] = {"waiting": "🫡", "read": "👀", "answered": "👌", "refused": "🙊"}
"""Bots may choose from these: https://core.telegram.org/bots/api#reactiontypeemoji. An hourglass is not among them."""

_TOKEN = re.compile(r"\d+:[\w-]+", re.ASCII)


class TelegramChannel:
    """A bot account. `api_url` is where the Bot API is, without "/bot"; `media` holds the files that replies show.

    `skipped` counts updates that could not be read. `reactions`: whether the states of people's messages show on them.

    Raises `ChannelRejected` when the token can be none. `aclose()` it when nothing is to be sent any more.
    """

    def __init__(self, name: str, token: str, api_url: str, media: MediaStore, *, reactions: bool = True) -> None:
        if not token:
            raise ChannelRejected(f"channel {name!r} has no token: get one from @BotFather")
        if not _TOKEN.fullmatch(token):
            # The token is a part of each call's address: one that can be none would look like a network that is down.
            raise ChannelRejected(
                f"what channels.{name}.token holds is no token: those of @BotFather look like 123456:ABC-def_1"
            )
        self.name = name
        self.trouble = ""
        self.skipped = 0
        self._media = media
        self._reactions = reactions
        self._bot = Bot(name, token.partition(":")[0])
        self._named = asyncio.Event()
        self._offset: int | None = None
        # Building the TLS context is the dearest part of a client, so both share one.
        tls = {"verify": httpx.create_ssl_context()}
        self._polls = HTTPXRequest(connection_pool_size=2, read_timeout=POLL + 15, httpx_kwargs=tls)
        self._sends = FewAtATime(
            connection_pool_size=SIDE_BY_SIDE,
            read_timeout=30,
            write_timeout=30,
            connect_timeout=10,
            pool_timeout=30,
            media_write_timeout=120,
            httpx_kwargs=tls,
        )
        url, files = f"{api_url.rstrip('/')}/bot", f"{api_url.rstrip('/')}/file/bot"
        self._poller = Api(token, url, files, request=self._polls, get_updates_request=self._polls)
        self._api = Api(token, url, files, request=self._sends, get_updates_request=self._polls)

    async def aclose(self) -> None:
        await self._polls.shutdown()
        await self._sends.shutdown()

    # --- hearing ---

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Confirms updates to Telegram only once they are committed; survives everything but a rejected token."""
        try:
            async with asyncio.TaskGroup() as tasks:
                # Both at once: the first poll does not wait for the bot's name.
                tasks.create_task(self._poll_for_ever(deliver))
                tasks.create_task(self._introduce(commands))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _poll_for_ever(self, deliver: Deliver) -> None:
        backoff = _Backoff()
        while True:
            try:
                await self._poll_once(deliver)
            except InvalidToken as error:
                raise self._rejected() from error
            except Conflict as error:
                await self._take_over(error)
                await backoff.pause()
            except RetryAfter as error:
                await asyncio.sleep(seconds(error))
            except TelegramError as error:
                self.trouble = "Telegram cannot be reached"
                log.warning("%s: Telegram cannot be reached, trying again: %s", self.name, error)
                await backoff.pause()
            except _NotCommitted as error:
                self.trouble = "messages cannot be kept, and wait at Telegram"
                log.error("%s: messages could not be kept and are not confirmed to Telegram: %s", self.name, error)
                await backoff.pause()
            else:
                self.trouble = ""
                backoff = _Backoff()

    async def _poll_once(self, deliver: Deliver) -> None:
        updates = await call(
            self._poller, "getUpdates", offset=self._offset, timeout=POLL, allowed_updates=ALLOWED_UPDATES
        )
        if not updates:
            return
        ids = [id for id in map(_update_id, updates) if id is not None]
        if not ids:
            raise TelegramError("it sent updates without an id")
        late = [update for update in updates if not self._named.is_set() and needs_username(update)]
        await self._deliver([update for update in updates if update not in late] if late else updates, deliver)
        if late:
            await self._named.wait()
            await self._deliver(late, deliver)
        self._offset = max(ids) + 1

    async def _deliver(self, updates: Iterable[Json], deliver: Deliver) -> None:
        """Delivers what can be read, side by side but begun in order. Raises `_NotCommitted`."""
        handlings = [self._handle(update, message, deliver) for update, message in self._read(updates)]
        results = await asyncio.gather(*handlings, return_exceptions=True)
        for error in filter(None, results):
            raise _NotCommitted(repr(error)) from error

    def _read(self, updates: Iterable[Json]) -> Iterator[tuple[Json, InboundMessage]]:
        for update in updates:
            try:
                message = parse(update, self._bot, datetime.now(UTC))
            except MALFORMED:
                self.skipped += 1
                log.exception("%s: update %s cannot be read and is skipped", self.name, _update_id(update))
                continue
            if message is not None:
                yield update, message

    async def _handle(self, update: Json, message: InboundMessage, deliver: Deliver) -> None:
        accepted = await deliver(message)
        if query := update.get("callback_query"):
            # Ends the waiting sign on the button; one pressed long ago cannot be answered any more.
            refused = {"text": accepted.refused[:ANSWER_LIMIT]} if accepted and accepted.refused else {}
            with only_logged("answering a button"):
                await call(self._api, "answerCallbackQuery", callback_query_id=query["id"], **refused)

    async def _take_over(self, error: Conflict) -> None:
        if "webhook" not in error.message.lower():
            self.trouble = "another program polls with the same token; stop it"
            log.error("%s: %s: %s", self.name, self.trouble, error)
            return
        log.warning("%s: a webhook is set for this bot; it is deleted: %s", self.name, error)
        with only_logged("deleting the webhook"):
            await call(self._api, "deleteWebhook", drop_pending_updates=False)

    async def _introduce(self, commands: tuple[CommandHelp, ...]) -> None:
        """Learns the bot's name, without which group talk cannot be read, and tells Telegram its commands."""
        me = await self._insist("getMe")
        self._bot = Bot(self.name, self._bot.account, me["username"])
        self._named.set()
        log.info("%s: this is @%s", self.name, self._bot.username)
        listed = [{"command": command.name, "description": command.help[:256]} for command in commands]
        with suppress(BadRequest):
            await self._insist("setMyCommands", commands=listed)

    async def _insist(self, method: str, **parameters: object) -> Any:
        backoff = _Backoff()
        while True:
            try:
                return await call(self._api, method, **parameters)
            except InvalidToken as error:
                raise self._rejected() from error
            except BadRequest as error:
                log.warning("%s: Telegram refuses %s: %s", self.name, method, error)
                raise
            except TelegramError as error:
                log.info("%s: %s did not work yet: %s", self.name, method, error)
                await backoff.pause()

    def _rejected(self) -> ChannelRejected:
        return ChannelRejected(
            f"Telegram does not accept the token of channel {self.name!r}. Get the bot's token from @BotFather and put "
            f"it into channels.{self.name}.token"
        )

    async def fetch(self, file: FileRef) -> bytes:
        try:
            with telegram_errors():
                remote = await self._api.get_file(file.ref)
                try:
                    return bytes(await remote.download_as_bytearray(read_timeout=60))
                except InvalidToken as error:
                    # The library's name for any 404; the token was good a moment ago.
                    raise FileUnavailable(f"{file.name} cannot be had: Telegram does not have it any more") from error
        except Undeliverable as error:
            if "too big" in str(error):
                raise FileUnavailable(
                    f"{file.name} is larger than the 20 MB that Telegram lets bots download"
                ) from error
            raise FileUnavailable(f"Telegram does not give out {file.name}: {error}") from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """Never asked for: each comment under a post, and each answer, carries what it is about."""
        return None

    # --- speaking ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        # Loaded with the first reply, so that the first poll need not wait for the markdown parser.
        from channels.telegram.outbound import ChatTarget
        from channels.telegram.render import render

        await show_pieces(render(reply), ledger, ChatTarget(self._api, self._media, reply.address, reply.reply_to))

    async def typing(self, address: Address) -> None:
        with only_logged("typing"):
            await call(self._api, "sendChatAction", action="typing", **where_to(address, typing=True))

    async def show_status(self, status: MessageStatus) -> None:
        """One call replaces a bot's reaction: https://core.telegram.org/bots/api#setmessagereaction. Groups may allow
        only some, or none."""
        before = REACTIONS.get(status.before) if status.before else None
        emoji = REACTIONS.get(status.state)
        if not self._reactions or status.message_id is None or (emoji is not None and emoji == before):
            return
        message = {"chat_id": status.address.chat, "message_id": status.message_id}
        reaction = [{"type": "emoji", "emoji": emoji}] if emoji else []
        try:
            await call(self._api, "setMessageReaction", reaction=reaction, **message)
        except RetryAfter as error:
            raise RetryLater(seconds(error)) from error
        except TelegramError as error:
            log.debug("%s: marking message %s failed: %s", self.name, status.message_id, error)

    def pace(self, address: Address) -> float:
        """https://core.telegram.org/bots/faq: about one message a second in a chat, twenty a minute in a group."""
        return 1.0 if address.kind == "direct" else 3.0


class _NotCommitted(Exception):
    pass


class _Backoff:
    """Pauses that grow to `LONGEST_PAUSE`, jittered so that many gateways do not come back at once."""

    def __init__(self) -> None:
        self._pause = 0.25

    async def pause(self) -> None:
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))


def _update_id(update: Json) -> int | None:
    id = update.get("update_id") if isinstance(update, dict) else None
    return id if isinstance(id, int) else None
