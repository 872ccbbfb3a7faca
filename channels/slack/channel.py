"""A Slack app as a channel, with slack-bolt and slack_sdk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
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
    Cursors,
    FileUnavailable,
    Group,
    Ledger,
    RetryLater,
    Undeliverable,
    Unreachable,
)
from channels.message import Deliver, FileRef, InboundMessage, MessageState, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.slack import limits
from channels.slack.agent_sessions import AgentSessions
from channels.slack.api import (
    TOKEN_ERRORS,
    Api,
    SignInPage,
    error_code,
    is_rate_limit,
    is_refusal,
    only_logged,
    retry_seconds,
    slack_errors,
)
from channels.slack.content import CANVAS, Json, about, files_of, readable, whole
from channels.slack.inbound import Inbound
from channels.slack.missed import MissedMessages
from channels.slack.outbound import ChatTarget, Streams
from channels.slack.parse import SLACKBOT, Bot, Pane, Replies, is_authored, is_own, people_in, sender_of, user_sender
from channels.slack.render import render
from channels.slack.socket_mode import FIRST_PAUSE, AppTokenRejected, SocketMode
from channels.slack.user_groups import GroupsUnknown, UserGroups
from channels.slack.user_names import AuthorUnknown, UserNames
from channels.sync import rendered, sync_pieces
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

REACTIONS: dict[MessageState, str] = {
    "waiting": "hourglass_flowing_sand",
    "read": "eyes",
    "answered": "white_check_mark",
    "failed": "x",
    "stopped": "octagonal_sign",
    "refused": "no_entry_sign",
    "undelivered": "warning",
}

STREAM_PACE = 0.7
"""Seconds between two additions to a stream: chat.appendStream allows at least a hundred a minute."""

PACE = 1.0
"""https://docs.slack.dev/apis/web-api/rate-limits: about one message a second in a channel."""

BODY_LIMIT = 1_000_000
"""Bytes of a request; Slack's are far smaller, and the signature can only be checked once all of it is read."""

SIGNATURE_SECONDS = 300
"""How old a request may be: https://docs.slack.dev/authentication/verifying-requests-from-slack"""

DOWNLOAD_LIMIT = 50 * 1024 * 1024
"""Bytes of a person's file; Slack allows up to 1 GB."""

PROMPTS_TIMEOUT = 2.0

REPLIES_PAGE = 200
MAX_PAGES = 5
"""Of a thread, from its beginning: https://docs.slack.dev/reference/methods/conversations.replies"""

MEMBERS_PAGE = 1000
MAX_MEMBER_PAGES = 50
"""Of a channel with more people than that, who comes later does not count as a member."""

USERS_PAGE = 200
"""Users in an answer; Slack advises no more: https://docs.slack.dev/reference/methods/users.list"""

MAX_REMEMBERED = 2000
"""Messages whose author and reaction are remembered."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class SlackChannel:
    """An app in one workspace. With an `app_token` it uses Socket Mode, else HTTP (see `asgi`).

    `media` holds the files that replies show, `cursors` stores the read position of each place. `reactions`: whether
    reactions show the status of people's messages.
    `earlier_messages`: how many messages of a thread the model is shown when it is called into it. `replies`: whether
    messages in channels are answered in a thread of their own or in the channel. `reaction_answers`: whether reactions
    on the app's messages may be answers. `suggested_prompts` are offered to whoever opens the app to write to it.

    Raises `ChannelRejected` for missing or mixed up tokens. Close it with `aclose()` when nothing more is to be sent.
    """

    def __init__(
        self,
        name: str,
        bot_token: str,
        media: MediaStore,
        cursors: Cursors,
        *,
        app_token: str = "",
        signing_secret: str = "",
        api_url: str = "https://slack.com/api/",
        reactions: bool = True,
        earlier_messages: int = 30,
        replies: Replies = "thread",
        reaction_answers: bool = False,
        suggested_prompts: Sequence[str] = (),
    ) -> None:
        _check_tokens(name, bot_token, app_token, signing_secret)
        self.name = name
        self.problem = ""
        self._media = media
        self._reactions = reactions
        self._earlier_messages = earlier_messages
        self._replies = replies
        self._reaction_answers = reaction_answers
        self._prompts = [{"title": prompt, "message": prompt} for prompt in suggested_prompts[: limits.PROMPTS]]
        self._app_token = app_token
        self._api_host = urlsplit(api_url).netloc
        self._api = Api(bot_token, f"{api_url.rstrip('/')}/")
        self._names = UserNames(self._api)
        self._groups = UserGroups(self._api)
        self._sessions = AgentSessions(self._api)
        self._streams = Streams()
        self._bot: Bot | None = None
        self._identified = asyncio.Event()
        self._missed = MissedMessages(self._api, cursors)
        self._inbound = Inbound(
            self._api,
            self._names,
            self._groups,
            self._missed,
            signing_secret,
            self._delivered,
            self._suggest,
            self._set_trouble,
        )
        self._askers: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._reactions_shown: OrderedDict[tuple[str, str], str | None] = OrderedDict()

    @property
    def skipped(self) -> int:
        """How many events could not be read."""
        return self._inbound.skipped

    async def aclose(self) -> None:
        await self._names.aclose()
        await self._groups.aclose()
        await self._api.aclose()

    def _set_trouble(self, problem: str) -> None:
        self.problem = problem

    # --- inbound ---

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Acknowledges events to Slack only once they are committed. Survives everything but a rejected token.

        `commands` are not registered: Slack takes them from the app's manifest.
        """
        bot = await self._identify()
        await self._missed.load()
        self._inbound.begin(bot, deliver)
        saving = asyncio.create_task(self._missed.run())
        try:
            await self._inbound.catch_up()
            if not self._app_token:
                await asyncio.Event().wait()
            order = self._inbound.order
            socket_mode = SocketMode(
                self._api, self._app_token, self._inbound.bolt, order.connecting, self._set_trouble
            )
            await socket_mode.listen()
        except AppTokenRejected as error:
            raise ChannelRejected(
                f"Slack rejects the app token of channel {self.name!r} ({error}). Create an app-level token with "
                f"the scope connections:write and set channels.{self.name}.app_token"
            ) from error
        finally:
            self.problem = ""
            self._inbound.end()
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
            await self._missed.save()

    def asgi(self) -> AsgiApp:
        """The application behind Slack's request URL, for events, commands and buttons, on any path.

        Answers 200 once a message is committed, 401 to a wrong signature and 5xx if Slack is to send it again.
        """

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await self._answer(Request(scope, receive))
            await response(scope, receive, send)

        return app

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("Slack's request URL: POST only", 405, {"Allow": "POST"})
        if not _may_be_signed(request):
            return PlainTextResponse("not signed by Slack", 401)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_LIMIT:
                    return PlainTextResponse("too large", 413)
            bolt_request = to_async_bolt_request(request, bytes(body))
        except (ClientDisconnect, ValueError) as error:
            log.info("%s: a request that is not Slack's: %r", self.name, error)
            return PlainTextResponse("not readable", 400)
        return to_starlette_response(await self._inbound.bolt.async_dispatch(bolt_request))

    async def _identify(self) -> Bot:
        """Gets the app's ids and name, without which no event can be read. Raises `ChannelRejected`."""
        backoff = Backoff(FIRST_PAUSE)
        while True:
            try:
                me = await self._api.call("auth.test")
                ids = (me["user_id"], me.get("bot_id") or "", me["team_id"])
                self._bot = Bot(self.name, *ids, me.get("user") or "", self._replies, self._reaction_answers)
            except SlackApiError as error:
                if error_code(error) in TOKEN_ERRORS:
                    raise ChannelRejected(
                        f"Slack rejects the bot token of channel {self.name!r} ({error_code(error)}). Install the "
                        f"app in the workspace and set channels.{self.name}.bot_token"
                    ) from error
                self.problem = f"Slack does not identify the app: {error_code(error) or 'no answer'}"
                log.warning("%s: %s", self.name, self.problem)
                if is_rate_limit(error):
                    await asyncio.sleep(retry_seconds(error))
            except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.problem = "Slack is not reachable"
                log.warning("%s: Slack is not reachable, trying again: %r", self.name, error)
            else:
                self.problem = ""
                self._names.identify(
                    self._bot.team, Sender(self._bot.account, self._bot.name, self._bot.name, kind="bot")
                )
                self._identified.set()
                log.info("%s: this is @%s", self.name, self._bot.name)
                return self._bot
            await backoff.pause()

    async def find_people(self, names: Collection[str]) -> dict[str, Sender]:
        await self._identified.wait()
        found: dict[str, Sender] = {}
        cursor: str | None = None
        while cursor != "" and len(found) < len(names):
            page = await self._page_of_users(cursor)
            for user in page.get("members") or ():
                sender = self._member(user)
                if sender is not None and (name := f"@{(sender.handle or '').lower()}") in names:
                    found[name] = sender
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or ""
        return found

    async def find_groups(self, names: Collection[str]) -> dict[str, Group]:
        return await self._groups.find([name for name in names if name.startswith("@")])

    def watch_groups(self, ids: Collection[str]) -> None:
        self._groups.watch(ids)

    async def find_person(self, known: Sender) -> Sender | None:
        await self._identified.wait()
        try:
            await self._names.author(known.id)
            await self._groups.refresh()
        except (AuthorUnknown, GroupsUnknown) as error:
            raise Unreachable(str(error)) from error
        return self._groups.added_to(await self._names.get([known.id])).get(known.id)

    async def is_member(self, address: Address, person: str) -> bool:
        """https://docs.slack.dev/reference/methods/conversations.members: of a channel that the bot is not in any more,
        Slack tells nothing."""
        cursor: str | None = None
        for _ in range(MAX_MEMBER_PAGES):
            with slack_errors():
                page = await self._api.call(
                    "conversations.members", channel=address.chat, limit=MEMBERS_PAGE, cursor=cursor
                )
            if person in (page.get("members") or ()):
                return True
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return False
        return False

    def _member(self, user: Json) -> Sender | None:
        """Somebody who can be named in the settings."""
        try:
            sender = user_sender(user, self._bot.team if self._bot else "")
        except MALFORMED:
            return None
        is_named = sender.is_person and sender.membership != "outsider" and not user.get("deleted")
        return sender if is_named and sender.id != SLACKBOT else None

    async def _page_of_users(self, cursor: str | None) -> Json:
        """Retries until Slack answers; an empty page if it refuses."""
        backoff = Backoff(FIRST_PAUSE)
        while True:
            try:
                return await self._api.call("users.list", limit=USERS_PAGE, cursor=cursor)
            except SlackApiError as error:
                if is_refusal(error) or error_code(error) in TOKEN_ERRORS:
                    log.warning("%s: Slack does not list the people of the workspace: %s", self.name, error_code(error))
                    return {}
                if is_rate_limit(error):
                    await asyncio.sleep(retry_seconds(error))
            except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.info("%s: the people of the workspace are not available: %r", self.name, error)
            await backoff.pause()

    def _delivered(self, message: InboundMessage) -> None:
        if message.kind == "command" and message.command == "stop" and message.message_id is None:
            self._sessions.stop_pressed(message.address)
        if message.message_id is not None and message.kind == "new":
            self._askers[message.address.chat, message.message_id] = message.sender.id
            if len(self._askers) > MAX_REMEMBERED:
                self._askers.popitem(last=False)

    async def _suggest(self, pane: Pane) -> None:
        """https://docs.slack.dev/reference/methods/assistant.threads.setSuggestedPrompts. Slack waits three seconds for
        the event's acknowledgement."""
        if not self._prompts:
            return
        with only_logged(f"{self.name}: suggesting prompts"):
            async with asyncio.timeout(PROMPTS_TIMEOUT):
                await self._api.call(
                    "assistant.threads.setSuggestedPrompts",
                    channel_id=pane.chat,
                    thread_ts=pane.thread,
                    prompts=self._prompts,
                )

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """Slack's menu is in the app's manifest."""

    async def fetch(self, file: FileRef) -> bytes:
        id, _, url = file.ref.partition(" ")
        if file.size is not None and file.size > DOWNLOAD_LIMIT:
            raise _too_large()
        try:
            with slack_errors():
                if not url:
                    url = await self._url_of(id, file)
                media_type, data = await self._download(file, url)
        except Undeliverable as error:
            raise FileUnavailable(str(error)) from error
        if media_type == "text/html" and file.media_type not in ("text/html", CANVAS):
            raise FileUnavailable("Slack shows a web page in its place")
        if len(data) > DOWNLOAD_LIMIT:
            raise _too_large()
        return data

    async def _url_of(self, id: str, file: FileRef) -> str:
        """Events contain only the id of files from other workspaces."""
        info = (await self._api.call("files.info", file=id))["file"]
        _, _, url = next(files_of({"files": [info]})).ref.partition(" ")
        if not url:
            host = info.get("external_type") or "another service"
            raise FileUnavailable(f"it is not stored by Slack, but by {host}")
        return url

    async def _download(self, file: FileRef, url: str) -> tuple[str, bytes]:
        host = urlsplit(url).netloc
        if host != self._api_host and not host.endswith((".slack.com", ".slack-files.com", ".slack-edge.com")):
            # The request carries the token, which is for Slack only.
            raise FileUnavailable(f"it is not stored by Slack, but at {host}")
        try:
            return await self._api.download(url, DOWNLOAD_LIMIT)
        except SignInPage as error:
            raise FileUnavailable(
                "Slack does not let the app read it. The app needs the scope files:read, and has to be in the channel "
                "where it was shared"
            ) from error
        except aiohttp.ClientResponseError as error:
            if error.status == 429:
                raise RetryLater(float(error.headers["Retry-After"] if error.headers else 1)) from error
            if error.status >= 500:
                raise
            raise FileUnavailable("it is no longer on Slack") from error

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
        return None if root is None or not is_authored(root) else await self._earlier(root)

    async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        """Of the thread; of the channel where replies are in the channel."""
        if not self._earlier_messages:
            return ()
        bot = self._bot or _bot_of(address)

        def wanted(message: Json) -> bool:
            # The thread's first message is on each page.
            is_between = (after or "") < message["ts"] < before
            return is_between and is_authored(message) and not is_own(message, bot)

        said: deque[Json] = deque(maxlen=self._earlier_messages)
        cursor: str | None = None
        try:
            with slack_errors():
                for _ in range(MAX_PAGES):
                    between = {"channel": address.chat, "oldest": after, "latest": before}
                    if address.thread is None:
                        # The newest come first.
                        page = await self._api.call("conversations.history", **between, limit=REPLIES_PAGE)
                        said.extend(filter(wanted, reversed(page["messages"])))
                        break
                    page = await self._api.call(
                        "conversations.replies", **between, ts=address.thread, limit=REPLIES_PAGE, cursor=cursor
                    )
                    said.extend(filter(wanted, page["messages"]))
                    cursor = (page.get("response_metadata") or {}).get("next_cursor")
                    if not cursor:
                        break
        except Undeliverable as error:
            raise FileUnavailable(str(error)) from error
        return tuple([await self._earlier(message) for message in said])

    async def topic(self, address: Address) -> str:
        """https://docs.slack.dev/reference/methods/conversations.info"""
        with slack_errors():
            text = about((await self._api.call("conversations.info", channel=address.chat))["channel"])
        return readable(text, await self._names.get(people_in({"text": text})))

    async def _earlier(self, message: Json) -> ThreadRoot:
        names = self._groups.added_to(await self._names.get(people_in(message)))
        wrote = sender_of(message, names) if message.get("user") or message.get("bot_id") else None
        name = "somebody" if wrote is None else wrote.name
        return ThreadRoot(name, whole(message, names), tuple(files_of(message)), wrote)

    # --- outbound ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        asker = self._askers.get((reply.address.chat, reply.reply_to or ""))
        pieces = await rendered(render, reply)
        if not reply.done:
            await self._sessions.continued(reply, asker)
        was_begun = bool(ledger.pieces())
        target = ChatTarget(
            self._api,
            self._media,
            self._bot or _bot_of(reply.address),
            reply.address,
            self._streams,
            self._stream_recipient(reply),
        )
        try:
            await target.resolve_unknown(reply, pieces, ledger)
            await sync_pieces(pieces, ledger, target)
        except Undeliverable:
            await self._sessions.ended(reply, was_begun=was_begun)
            raise
        if reply.done:
            await self._sessions.ended(reply, was_begun=was_begun)

    def _stream_recipient(self, reply: Reply) -> str | None:
        """For whom a growing text may be streamed (see `ChatTarget`)."""
        if not self._sessions.usable:
            return None
        if reply.address.kind == "direct":
            return ""
        if self._bot is None:
            return None
        return self._askers.get((reply.address.chat, reply.reply_to or ""))

    def has_title(self, address: Address) -> bool:
        return self._sessions.has_title(address)

    async def show_title(self, address: Address, title: str) -> None:
        await self._sessions.show_title(address, title)

    async def typing(self, address: Address) -> None:
        await self._sessions.typing(address)

    async def show_status(self, status: MessageStatus) -> None:
        """Reactions accumulate, so the previous one is removed."""
        if not self._reactions or status.message_id is None:
            return
        message, emoji = (status.address.chat, status.message_id), REACTIONS.get(status.state)
        before = self._possible_reactions(message, status)
        for old in before:
            if old != emoji:
                await self._react("reactions.remove", status, old)
        if emoji and emoji not in before:
            await self._react("reactions.add", status, emoji)
        self._reactions_shown[message] = emoji
        self._reactions_shown.move_to_end(message)
        if len(self._reactions_shown) > MAX_REMEMBERED:
            self._reactions_shown.popitem(last=False)

    def _possible_reactions(self, message: tuple[str, str], status: MessageStatus) -> tuple[str, ...]:
        """The reactions that are, or may be, on the message. An edited message has two states; one is shown."""
        if message in self._reactions_shown:
            return tuple(filter(None, [self._reactions_shown[message]]))
        if status.before is not None:
            return tuple(filter(None, [REACTIONS.get(status.before)]))
        if status.state == "waiting" or message in self._askers:
            return ()
        # An earlier process may have added one.
        return tuple(
            emoji for state, emoji in REACTIONS.items() if state in ("waiting", "read") and state != status.state
        )

    async def _react(self, method: str, status: MessageStatus, emoji: str) -> None:
        with only_logged(f"{self.name}: the reaction on message {status.message_id}"):
            try:
                await self._api.call(method, channel=status.address.chat, timestamp=status.message_id, name=emoji)
            except SlackApiError as error:
                if is_rate_limit(error):
                    raise RetryLater(retry_seconds(error)) from error
                raise

    async def direct_chat(self, person: str) -> str | None:
        """https://docs.slack.dev/reference/methods/conversations.open"""
        with slack_errors():
            opened = await self._api.call("conversations.open", users=person)
        return str(opened["channel"]["id"])

    def pace(self, address: Address) -> float:
        return STREAM_PACE if address.thread is not None and self._sessions.usable else PACE


def _may_be_signed(request: Request) -> bool:
    """Whether it has a signature of now; the signature itself can be checked only once all of the body is read."""
    try:
        sent_at = int(request.headers.get("X-Slack-Request-Timestamp", ""))
    except ValueError:
        return False
    return bool(request.headers.get("X-Slack-Signature")) and abs(time.time() - sent_at) <= SIGNATURE_SECONDS


def _too_large() -> FileUnavailable:
    return FileUnavailable(f"it is larger than the {DOWNLOAD_LIMIT // 1024**2} MB download limit")


def _bot_of(address: Address) -> Bot:
    """Enough to edit messages before the app is identified."""
    return Bot(address.channel, address.account, "", "", "")


def _check_tokens(name: str, bot_token: str, app_token: str, signing_secret: str) -> None:
    if not bot_token:
        raise ChannelRejected(f"channel {name!r} has no bot_token: find it at OAuth & Permissions of your app")
    if not (app_token or signing_secret):
        raise ChannelRejected(
            f"channel {name!r} has neither an app_token (for Socket Mode) nor a signing_secret (for HTTP)"
        )
    if bot_token.startswith("xapp-") or (app_token and not app_token.startswith("xapp-")):
        raise ChannelRejected(
            f"channels.{name}.bot_token begins with xoxb-, and channels.{name}.app_token with xapp-: they are mixed up"
        )
