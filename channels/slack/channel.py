"""Moves messages between Slack and the gateway, with slack-bolt and slack_sdk."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_bolt.adapter.starlette.async_handler import to_async_bolt_request, to_starlette_response
from slack_sdk.errors import SlackApiError, SlackClientError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from agent.media import MediaStore
from channels.address import Address, Sender
from channels.backoff import Backoff
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
from channels.slack.agent_sessions import Sessions
from channels.slack.api import (
    TOKEN_ERRORS,
    Api,
    asks_for_patience,
    code_of,
    is_refusal,
    only_logged,
    patience,
    slack_errors,
)
from channels.slack.inbound import Inbound
from channels.slack.outbound import ChatTarget, Streams
from channels.slack.parse import Bot, author, files_of, is_speech, people_in, readable, written
from channels.slack.render import render
from channels.slack.socket_mode import AppTokenRejected, Sockets
from channels.slack.user_names import Names
from channels.sync import sync_pieces

log = logging.getLogger(__name__)

REACTIONS: dict[MessageState, str] = {
    "waiting": "hourglass_flowing_sand",
    "read": "eyes",
    "answered": "white_check_mark",
    "refused": "no_entry_sign",
}

STREAM_PACE = 0.7
"""Seconds between two additions to a stream: chat.appendStream takes a hundred a minute and more."""

PACE = 1.0
"""https://docs.slack.dev/apis/web-api/rate-limits: about one message a second in a channel."""

BODY_LIMIT = 1_000_000
"""Bytes of a request of Slack's; theirs are far smaller, and who sends is not known before all of it is read."""

DOWNLOAD_LIMIT = 50 * 1024 * 1024
"""Bytes of a person's file, of which Slack takes up to 1 GB: more is not kept."""

REMEMBERED = 2000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class SlackChannel:
    """An app in one workspace. With an `app_token` it hears by Socket Mode, else by HTTP (see `asgi`).

    `media` holds the files that replies show. `reactions`: whether the states of people's messages show on them.
    Raises `ChannelRejected` when the tokens can be none. `aclose()` it when nothing is to be sent any more.
    """

    def __init__(
        self,
        name: str,
        bot_token: str,
        media: MediaStore,
        *,
        app_token: str = "",
        signing_secret: str = "",
        api_url: str = "https://slack.com/api/",
        reactions: bool = True,
    ) -> None:
        _check_tokens(name, bot_token, app_token, signing_secret)
        self.name = name
        self.trouble = ""
        self._media = media
        self._reactions = reactions
        self._app_token = app_token
        self._api_host = urlsplit(api_url).netloc
        self._api = Api(bot_token, f"{api_url.rstrip('/')}/")
        self._names = Names(self._api)
        self._sessions = Sessions(self._api)
        self._streams = Streams()
        self._bot: Bot | None = None
        self._hearing = Inbound(self._api, self._names, signing_secret, self._heard, self._tell)
        self._askers: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._marked: OrderedDict[tuple[str, str], str | None] = OrderedDict()

    @property
    def skipped(self) -> int:
        """How many events could not be read."""
        return self._hearing.skipped

    async def aclose(self) -> None:
        await self._api.aclose()

    def _tell(self, trouble: str) -> None:
        self.trouble = trouble

    # --- hearing ---

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Confirms to Slack only what is committed; survives everything but a rejected token.

        Slack learns its commands from the app's manifest alone.
        """
        bot = await self._introduce()
        self._hearing.begin(bot, deliver)
        try:
            if not self._app_token:
                await asyncio.Event().wait()
            sockets = Sockets(self._api, self._app_token, self._hearing.bolt, self._hearing.order.unsettle, self._tell)
            await sockets.listen()
        except AppTokenRejected as error:
            raise ChannelRejected(
                f"Slack does not accept the app token of channel {self.name!r} ({error}). Make an app-level token with "
                f"the scope connections:write and put it into channels.{self.name}.app_token"
            ) from error
        finally:
            self._hearing.end()

    def asgi(self) -> AsgiApp:
        """Slack's request URL, for events, commands and buttons alike, on whatever path it is mounted.

        Answers 200 once a message is committed, 401 to a wrong signature and 5xx to what Slack is to send again.
        """

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)

        return app

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("Slack sends here", 405)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    return PlainTextResponse("too large", 413)
            asked = to_async_bolt_request(request, bytes(body))
        except (ClientDisconnect, ValueError) as error:
            log.info("%s: a request that is none of Slack's: %r", self.name, error)
            return PlainTextResponse("not readable", 400)
        return to_starlette_response(await self._hearing.bolt.async_dispatch(asked))

    async def _introduce(self) -> Bot:
        """Learns who the app is, without which nothing can be read."""
        backoff = Backoff()
        while True:
            try:
                me = await self._api.call("auth.test")
                self._bot = Bot(self.name, me["user_id"], me.get("bot_id") or "", me["team_id"], me.get("user") or "")
            except SlackApiError as error:
                if code_of(error) in TOKEN_ERRORS:
                    raise ChannelRejected(
                        f"Slack does not accept the bot token of channel {self.name!r} ({code_of(error)}). Install the "
                        f"app in the workspace and put its bot token into channels.{self.name}.bot_token"
                    ) from error
                self.trouble = f"Slack does not say who the app is: {code_of(error) or 'it fails'}"
                log.warning("%s: %s", self.name, self.trouble)
                if asks_for_patience(error):
                    await asyncio.sleep(patience(error))
            except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.trouble = "Slack cannot be reached"
                log.warning("%s: Slack cannot be reached, trying again: %r", self.name, error)
            else:
                self.trouble = ""
                self._names.know(Sender(self._bot.account, self._bot.name, self._bot.name, bot=True))
                log.info("%s: this is @%s", self.name, self._bot.name)
                return self._bot
            await backoff.pause()

    def _heard(self, message: InboundMessage) -> None:
        if message.kind == "command" and message.command == "stop" and message.message_id is None:
            self._sessions.pressed(message.address)
        if message.message_id is not None and message.kind == "new":
            self._askers[message.address.chat, message.message_id] = message.sender.id
            if len(self._askers) > REMEMBERED:
                self._askers.popitem(last=False)

    async def fetch(self, file: FileRef) -> bytes:
        id, _, url = file.ref.partition(" ")
        if file.size is not None and file.size > DOWNLOAD_LIMIT:
            raise _too_large(file)
        try:
            with slack_errors():
                if not url:
                    url = await self._address_of(id, file)
                media_type, data = await self._download(file, url)
        except Undeliverable as error:
            raise FileUnavailable(f"Slack does not give out {file.name}: {error}") from error
        if media_type == "text/html" and file.media_type != "text/html":
            # Who may not have a file is sent to a page to sign in, which is no error.
            raise FileUnavailable(f"Slack does not give out {file.name}: the app lacks the scope files:read")
        if len(data) > DOWNLOAD_LIMIT:
            raise _too_large(file)
        return data

    async def _address_of(self, id: str, file: FileRef) -> str:
        """Of files from other workspaces an event tells no more than the id."""
        told = (await self._api.call("files.info", file=id))["file"]
        _, _, url = next(files_of({"files": [told]})).ref.partition(" ")
        if not url:
            raise FileUnavailable(f"{file.name} is not kept by Slack, but by {told.get('external_type') or 'others'}")
        return url

    async def _download(self, file: FileRef, url: str) -> tuple[str, bytes]:
        host = urlsplit(url).netloc
        if host != self._api_host and not host.endswith((".slack.com", ".slack-files.com", ".slack-edge.com")):
            # The token goes with the request, and is for Slack alone.
            raise FileUnavailable(f"{file.name} is not kept by Slack, but at {host}")
        try:
            return await self._api.download(url, DOWNLOAD_LIMIT)
        except aiohttp.ClientResponseError as error:
            if error.status == 429:
                raise RetryLater(float(error.headers["Retry-After"] if error.headers else 1)) from error
            if error.status >= 500:
                raise
            raise FileUnavailable(f"{file.name} cannot be had: Slack does not have it any more") from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        try:
            with slack_errors():
                try:
                    page = await self._api.call(
                        "conversations.replies", channel=address.chat, ts=message_id, limit=1, inclusive=True
                    )
                except SlackApiError as error:
                    if is_refusal(error, "thread_not_found", "message_not_found"):
                        return None
                    raise
        except Undeliverable as error:
            raise FileUnavailable(str(error)) from error
        root = next((message for message in page["messages"] if message["ts"] == message_id), None)
        if root is None or not is_speech(root):
            return None
        names = await self._names.get(people_in(root))
        return ThreadRoot(author(root, names), readable(written(root), names), tuple(files_of(root)))

    # --- speaking ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        asker = self._askers.get((reply.address.chat, reply.reply_to or ""))
        pieces = render(reply)
        if not reply.done:
            await self._sessions.goes_on(reply, asker)
        was_begun = bool(ledger.pieces())
        place = ChatTarget(
            self._api,
            self._media,
            self._bot or _bot_of(reply.address),
            reply.address,
            self._streams,
            self._viewer(reply),
        )
        try:
            await place.recall(reply, pieces, ledger)
            await sync_pieces(pieces, ledger, place)
        except Undeliverable:
            await self._sessions.ended(reply, was_begun=was_begun)
            raise
        if reply.done:
            await self._sessions.ended(reply, was_begun=was_begun)

    def _viewer(self, reply: Reply) -> str | None:
        """For whom a growing text may be streamed (see `ChatTarget`)."""
        if not self._sessions.usable:
            return None
        if reply.address.kind == "direct":
            return ""
        if self._bot is None:
            return None
        return self._askers.get((reply.address.chat, reply.reply_to or ""))

    async def typing(self, address: Address) -> None:
        await self._sessions.typing(address)

    async def show_status(self, status: MessageStatus) -> None:
        """Reactions add up, so the one before is taken away."""
        if not self._reactions or status.message_id is None:
            return
        message, emoji = (status.address.chat, status.message_id), REACTIONS.get(status.state)
        before = self._shown_on(message, status)
        for old in before:
            if old != emoji:
                await self._react("reactions.remove", status, old)
        if emoji and emoji not in before:
            await self._react("reactions.add", status, emoji)
        self._marked[message] = emoji
        self._marked.move_to_end(message)
        if len(self._marked) > REMEMBERED:
            self._marked.popitem(last=False)

    def _shown_on(self, message: tuple[str, str], status: MessageStatus) -> tuple[str, ...]:
        """The reactions that are, or may be, on the message. A message that was edited has two states; one is shown."""
        if message in self._marked:
            return tuple(filter(None, [self._marked[message]]))
        if status.before is not None:
            return tuple(filter(None, [REACTIONS.get(status.before)]))
        if status.state == "waiting" or message in self._askers:
            return ()
        # An earlier process may have shown one that nobody knows of any more.
        return tuple(
            emoji for state, emoji in REACTIONS.items() if state in ("waiting", "read") and state != status.state
        )

    async def _react(self, method: str, status: MessageStatus, emoji: str) -> None:
        with only_logged(f"{self.name}: marking message {status.message_id}"):
            try:
                await self._api.call(method, channel=status.address.chat, timestamp=status.message_id, name=emoji)
            except SlackApiError as error:
                if asks_for_patience(error):
                    raise RetryLater(patience(error)) from error
                raise

    def pace(self, address: Address) -> float:
        return STREAM_PACE if address.thread is not None and self._sessions.usable else PACE


def _too_large(file: FileRef) -> FileUnavailable:
    return FileUnavailable(f"{file.name} is larger than the {DOWNLOAD_LIMIT // 1024**2} MB that are fetched")


def _bot_of(address: Address) -> Bot:
    """Enough to change what was shown, before Slack has said who the app is."""
    return Bot(address.channel, address.account, "", "", "")


def _check_tokens(name: str, bot_token: str, app_token: str, signing_secret: str) -> None:
    if not bot_token:
        raise ChannelRejected(f"channel {name!r} has no bot_token: it is at OAuth & Permissions of your app")
    if not (app_token or signing_secret):
        raise ChannelRejected(
            f"channel {name!r} has neither an app_token (for Socket Mode) nor a signing_secret (for HTTP)"
        )
    if bot_token.startswith("xapp-") or (app_token and not app_token.startswith("xapp-")):
        raise ChannelRejected(
            f"channels.{name}.bot_token begins with xoxb-, and channels.{name}.app_token with xapp-: they are mixed up"
        )
