"""A Telegram bot as a channel, with python-telegram-bot's `Bot`."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
from telegram import Bot as Api
from telegram.error import BadRequest, InvalidToken, RetryAfter, TelegramError

from agent.media import MediaStore
from channels.address import Address
from channels.backoff import Backoff
from channels.channel import (
    ChannelError,
    ChannelRejected,
    ChatMoved,
    CommandHelp,
    FileUnavailable,
    Lease,
    Ledger,
    RetryLater,
    Undeliverable,
)
from channels.command_menu import CommandMenu
from channels.message import Deliver, FileRef, MessageState, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.sync import rendered, sync_pieces
from channels.telegram import limits
from channels.telegram.api import (
    NOT_IN_CHAT,
    call,
    chat_parameters,
    error_contains,
    only_logged,
    retry_seconds,
    telegram_errors,
    token_rejected,
)
from channels.telegram.content import about
from channels.telegram.inbound import POLL_TIMEOUT, UPDATES, Inbound
from channels.telegram.inbound import REACTIONS as REACTION_UPDATES
from channels.telegram.parse import Bot
from channels.telegram.requests import BotRequests
from channels.telegram.talk import Talk

log = logging.getLogger(__name__)

CONCURRENCY = 8
"""Calls under way at once, enough for the 30 messages a second that Telegram allows a bot."""

REACTIONS: dict[MessageState, str] = {
    "waiting": "🫡",
    "read": "👀",
    "answered": "👌",
    "failed": "💔",
    "stopped": "😴",
    "refused": "🙊",
    "undelivered": "😢",
}
"""Bots may choose from these: https://core.telegram.org/bots/api#reactiontypeemoji. An hourglass is not among them."""

_TOKEN = re.compile(r"\d+:[\w-]+", re.ASCII)


class TelegramChannel:
    """A bot account. `api_url` is the Bot API's address, without "/bot"; `media` holds the files that replies show.

    `reactions`: whether reactions show the status of people's messages. `earlier_messages`: how many messages of a
    group the model is shown when it is called. With a `webhook_url` Telegram posts updates there (see
    `asgi`), else they are polled. `reaction_answers`: whether Telegram is asked for reactions, which may be answers.

    Raises `ChannelRejected` for a malformed token. Close it with `aclose()` when nothing more is to be sent.
    """

    def __init__(
        self,
        name: str,
        token: str,
        api_url: str,
        media: MediaStore,
        *,
        reactions: bool = True,
        earlier_messages: int = 30,
        webhook_url: str = "",
        reaction_answers: bool = False,
    ) -> None:
        if not token:
            raise ChannelRejected(f"channel {name!r} has no token: get one from @BotFather")
        if not _TOKEN.fullmatch(token):
            # The token is part of each call's URL: a malformed one would look like a network failure.
            raise ChannelRejected(
                f"channels.{name}.token is malformed: tokens of @BotFather look like 123456:ABC-def_1"
            )
        self.name = name
        self.problem = ""
        self._media = media
        self._reactions = reactions
        # Building the TLS context is the most expensive part of a client, so both share one.
        tls = httpx.create_ssl_context()
        self._polls = BotRequests(api_url, connections=2, read_timeout=POLL_TIMEOUT + 15, tls=tls)
        self._calls = BotRequests(api_url, connections=CONCURRENCY, read_timeout=30, tls=tls)
        url, files = f"{api_url.rstrip('/')}/bot", f"{api_url.rstrip('/')}/file/bot"
        poller = Api(token, url, files, request=self._polls, get_updates_request=self._polls)
        self._api = Api(token, url, files, request=self._calls, get_updates_request=self._polls)
        self._account = token.partition(":")[0]
        self._webhook_url = webhook_url
        # Only who has the token can know it.
        self._secret = hmac.new(token.encode(), b"webhook", hashlib.sha256).hexdigest()
        self._menu = CommandMenu(self._register)
        self._talk = Talk(earlier_messages)
        self._updates = [*UPDATES, *([REACTION_UPDATES] if reaction_answers else [])]
        self._inbound = Inbound(
            poller,
            self._api,
            Bot(name, self._account),
            self._set_trouble,
            self._talk,
            allowed_updates=self._updates,
        )

    @property
    def skipped(self) -> int:
        """How many updates could not be read."""
        return self._inbound.skipped

    async def aclose(self) -> None:
        await self._polls.shutdown()
        await self._calls.shutdown()

    def _set_trouble(self, problem: str) -> None:
        self.problem = problem

    # --- inbound ---

    @property
    def connector(self) -> str | None:
        """Of two polls, Telegram ends the older one: https://core.telegram.org/bots/api#getupdates. Posted updates may
        come to any worker."""
        return None if self._webhook_url else f"telegram:{self._account}"

    def use_lease(self, lease: Lease) -> None:
        """Its state is not used: Telegram itself knows which updates are confirmed, and sends the others to whoever
        polls next."""
        self._inbound.may_poll = lease.is_held

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Confirms updates to Telegram only once they are committed. Survives everything but a rejected token."""
        self._menu.commands = commands
        try:
            async with asyncio.TaskGroup() as tasks:
                # Concurrent: the first poll does not wait for the bot's username.
                tasks.create_task(self._inbound.listen(deliver) if self._webhook_url else self._inbound.run(deliver))
                tasks.create_task(self._identify())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self.problem = ""

    async def _identify(self) -> None:
        """Gets the bot's username, without which group messages cannot be read, and registers the commands."""
        if self._webhook_url:
            await self._set_webhook()
        me = await self._call_until_answered("getMe")
        self._inbound.identify(Bot(self.name, self._account, me["username"]))
        log.info("%s: this is @%s", self.name, me["username"])
        await self._menu.show()

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        self._menu.commands = commands
        await self._menu.show()

    async def _register(self, commands: tuple[CommandHelp, ...]) -> None:
        """https://core.telegram.org/bots/api#setmycommands"""
        with suppress(BadRequest):
            await self._call_until_answered("setMyCommands", commands=_listed(commands))

    async def _set_webhook(self) -> None:
        try:
            # One connection keeps the order of updates.
            await self._call_until_answered(
                "setWebhook",
                url=self._webhook_url,
                secret_token=self._secret,
                allowed_updates=self._updates,
                max_connections=1,
            )
        except BadRequest as error:
            raise ChannelRejected(
                f"Telegram does not accept channels.{self.name}.webhook_url, {self._webhook_url}: {error.message}"
            ) from error

    def asgi(self) -> Callable[[Any, Any, Any], Awaitable[None]]:
        """The application behind the webhook, on any path."""
        # Loads a part of the web server.
        from channels.telegram.webhook import webhook_app

        return webhook_app(self._secret, self._inbound.take)

    async def _call_until_answered(self, method: str, **parameters: object) -> Any:
        """Retries until Telegram accepts or rejects the call. Raises `BadRequest` or `ChannelRejected`."""
        backoff = Backoff()
        while True:
            try:
                return await call(self._api, method, **parameters)
            except InvalidToken as error:
                raise token_rejected(self.name) from error
            except BadRequest as error:
                log.warning("%s: Telegram rejects %s: %s", self.name, method, error)
                raise
            except TelegramError as error:
                log.info("%s: %s failed, trying again: %s", self.name, method, error)
                await backoff.pause()

    async def fetch(self, file: FileRef) -> bytes:
        try:
            with telegram_errors():
                remote = await self._api.get_file(file.ref)
                try:
                    return bytes(await remote.download_as_bytearray(read_timeout=60))
                except InvalidToken as error:
                    # The library's error for any 404; the token was valid a moment ago.
                    raise FileUnavailable("it is no longer on Telegram") from error
        except Undeliverable as error:
            if "too big" in str(error):
                raise FileUnavailable("it is larger than the 20 MB that Telegram lets bots download") from error
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """Never called: each comment under a post, and each answer, carries the message that it refers to."""
        return None

    async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        """Of what this process has received: in privacy mode Telegram sends bots only what is meant for them."""
        return self._talk.between(address, after, before)

    async def topic(self, address: Address) -> str:
        """https://core.telegram.org/bots/api#getchat"""
        with telegram_errors():
            return about(await call(self._api, "getChat", chat_id=address.chat))

    # --- outbound ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        # Imported with the first reply, so that the first poll need not wait for the markdown parser.
        from channels.telegram.outbound import ChatTarget
        from channels.telegram.render import render

        target = ChatTarget(self._api, self._media, reply.address, reply.reply_to)
        await sync_pieces(await rendered(render, reply), ledger, target)

    async def typing(self, address: Address) -> None:
        with only_logged("typing"):
            await call(self._api, "sendChatAction", action="typing", **chat_parameters(address, typing=True))

    async def show_status(self, status: MessageStatus) -> None:
        """One call replaces a bot's reaction: https://core.telegram.org/bots/api#setmessagereaction. Groups may allow
        only some reactions, or none."""
        before = REACTIONS.get(status.before) if status.before else None
        emoji = REACTIONS.get(status.state)
        if not self._reactions or status.message_id is None or (emoji is not None and emoji == before):
            return
        message = {"chat_id": status.address.chat, "message_id": status.message_id}
        reaction = [{"type": "emoji", "emoji": emoji}] if emoji else []
        try:
            await call(self._api, "setMessageReaction", reaction=reaction, **message)
        except RetryAfter as error:
            raise RetryLater(retry_seconds(error)) from error
        except TelegramError as error:
            log.debug("%s: the reaction on message %s failed: %s", self.name, status.message_id, error)

    async def direct_chat(self, person: str) -> str | None:
        """A private chat has the id of its person: https://core.telegram.org/bots/api#chat"""
        return person

    async def is_member(self, address: Address, person: str) -> bool:
        """Telegram is certain to say it only to a bot that is an admin of the group:
        https://core.telegram.org/bots/api#getchatmember"""
        if not person.isdecimal():
            return False
        try:
            return await self._is_in(address.chat, int(person))
        except ChatMoved as moved:
            return await self._is_in(moved.chat, int(person))

    async def _is_in(self, chat: str, person: int) -> bool:
        try:
            with telegram_errors():
                found = await call(self._api, "getChatMember", chat_id=chat, user_id=person)
        except ChannelError as error:
            cause = error.__cause__
            if isinstance(cause, BadRequest) and error_contains(cause, *NOT_IN_CHAT):
                return False
            raise
        # Who is restricted may have left.
        return found["status"] not in ("left", "kicked") and found.get("is_member", True) is not False

    def pace(self, address: Address) -> float:
        """https://core.telegram.org/bots/faq: about one message a second in a chat, twenty a minute in a group."""
        return 1.0 if address.kind == "direct" else 3.0


def _listed(commands: tuple[CommandHelp, ...]) -> list[dict[str, str]]:
    # Telegram's names have no hyphens, and what a person types with one is a command too (`parse.py`).
    return [
        {"command": command.name.replace("-", "_"), "description": command.help[: limits.COMMAND_DESCRIPTION]}
        for command in commands
        if len(command.name) <= limits.COMMAND_NAME
    ][: limits.COMMANDS]
