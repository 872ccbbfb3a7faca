"""Moves messages between Discord and the gateway, with discord.py's client for both of Discord's ends."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import aiohttp
import discord
from discord.http import Route

from agent.media import MediaStore
from channels.address import Address
from channels.channel import (
    ChannelRejected,
    CommandHelp,
    Cursors,
    FileUnavailable,
    Ledger,
    RetryLater,
    Undeliverable,
    Unreachable,
)
from channels.discord.api import Backoff, Rest, discord_errors, only_logged
from channels.discord.connection import IDENTIFY_EVERY, Connection, bad_token
from channels.discord.cursors import MessageCursors
from channels.discord.directory import Directory
from channels.discord.inbound import Inbound
from channels.discord.interactions import Interactions
from channels.discord.parse import ARGUMENTS, MALFORMED, Bot, Json, quotable
from channels.message import Deliver, FileRef, MessageState, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.sync import show_pieces

log = logging.getLogger(__name__)

DOWNLOAD_LIMIT = 50 * 1024 * 1024
DOWNLOAD_TIMES = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=30)
_SIGNS: dict[MessageState, str] = {"waiting": "⏳", "read": "👀", "answered": "✅", "refused": "🚫"}
_BEFORE: dict[MessageState, tuple[MessageState, ...]] = {
    "waiting": (),
    "read": (),
    "answered": ("waiting", "read"),
    "refused": ("waiting", "read"),
    "withdrawn": ("waiting", "read"),
}
"""What an earlier process may have put there, where that is not known."""

_ATTEMPTS = 4
_PATIENCE = 1.0
"""Seconds that a reaction may wait for its turn; Discord takes one in a quarter of a second."""


class DiscordChannel:
    """A bot account. `media` holds the files that replies show, `cursors` how far each channel was read.

    `skipped` counts events that could not be read. `identify_every` is in seconds, as Discord asks for it.

    Raises `ChannelRejected` when there is no token. `aclose()` it when nothing is to be sent any more.
    """

    def __init__(
        self,
        name: str,
        token: str,
        media: MediaStore,
        cursors: Cursors,
        *,
        api_url: str = "https://discord.com/api/v10",
        gateway_url: str = "wss://gateway.discord.gg",
        reactions: bool = True,
        identify_every: float = IDENTIFY_EVERY,
    ) -> None:
        if not token:
            raise ChannelRejected(
                f"channel {name!r} has no token: get one from the Discord Developer Portal (your application, Bot)"
            )
        self.name = name
        self.trouble = ""
        self._media = media
        self._cursors = cursors
        self._gateway_url = gateway_url
        self._reactions = reactions
        self._identify_every = identify_every
        self._rest = Rest(token, api_url)
        self._interactions = Interactions()
        self._rooms = Directory("")
        self._hearing: Inbound | None = None
        self._troubles: dict[str, str] = {}

    async def aclose(self) -> None:
        await self._rest.close()

    @property
    def skipped(self) -> int:
        return self._hearing.skipped if self._hearing else 0

    # --- hearing ---

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Survives everything but a rejected token or intent."""
        me = await self._insist(Route("GET", "/users/@me"))
        bot = Bot(self.name, str(me["id"]))
        log.info("%s: this is @%s", self.name, me["username"])
        self._rooms = Directory(bot.account)
        progress = MessageCursors(self._cursors)
        await progress.load()
        try:
            async with asyncio.TaskGroup() as tasks:
                self._hearing = Inbound(
                    bot,
                    self._rest,
                    self._rooms,
                    self._interactions,
                    progress,
                    deliver,
                    partial(self._tell_trouble, "keep"),
                    tasks,
                )
                link = Connection(
                    self.name,
                    self._rest,
                    self._gateway_url,
                    self._hearing.hear,
                    self._hearing.calm,
                    partial(self._tell_trouble, "link"),
                    self._identify_every,
                )
                tasks.create_task(self._hear(link))
                tasks.create_task(progress.keep_for_ever())
                tasks.create_task(self._register(commands))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await progress.keep()

    async def _hear(self, link: Connection) -> None:
        async with link:
            await link.listen()

    def _tell_trouble(self, part: str, words: str) -> None:
        """What keeps one part from working; "" when nothing does any more."""
        self._troubles[part] = words
        self.trouble = next(filter(None, self._troubles.values()), "")

    async def _register(self, commands: tuple[CommandHelp, ...]) -> None:
        """Only what has changed: Discord takes 200 new commands a day."""
        application = (await self._insist(Route("GET", "/oauth2/applications/@me")))["id"]
        path = "/applications/{application_id}/commands"
        wanted = [_command(command) for command in commands]
        try:
            known = await self._insist(Route("GET", path, application_id=application))
            if sorted(map(_known, known)) != sorted(map(_known, wanted)):
                await self._insist(Route("PUT", path, application_id=application), json=wanted)
        except Undeliverable as error:
            log.warning("%s: the commands could not be registered: %s", self.name, error)
        except MALFORMED:
            log.exception("%s: the registered commands cannot be read", self.name)

    async def _insist(self, route: Route, **options: Any) -> Any:
        backoff = Backoff()
        while True:
            try:
                with discord_errors():
                    answer = await self._rest.request(route, **options)
            except RetryLater as error:
                await asyncio.sleep(error.after)
            except Unreachable as error:
                cause = error.__cause__
                if isinstance(cause, discord.HTTPException) and cause.status == 401:
                    raise bad_token(self.name) from error
                self._tell_trouble("rest", "Discord cannot be reached")
                log.info("%s: %s did not work yet: %s", self.name, route.path, error)
                await backoff.pause()
            else:
                self._tell_trouble("rest", "")
                return answer

    async def fetch(self, file: FileRef) -> bytes:
        """Discord's links need no token, and expire."""
        if file.size is not None and file.size > DOWNLOAD_LIMIT:
            raise _too_large(file)
        with discord_errors():
            async with self._rest.session.get(file.ref, timeout=DOWNLOAD_TIMES) as response:
                if response.status in (403, 404, 410):
                    raise FileUnavailable(f"{file.name} cannot be had: the link has expired")
                if response.status >= 400:
                    raise Unreachable(f"Discord answers {response.status} when asked for {file.name}")
                data = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    data += chunk
                    if len(data) > DOWNLOAD_LIMIT:
                        raise _too_large(file)
                return bytes(data)

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """It stands in the thread's channel, and in a forum in the thread itself."""
        try:
            for chat in await self._homes(address.chat):
                if (found := await self._message(chat, message_id)) is not None:
                    sender, text, files = quotable(found, self._rooms)
                    return ThreadRoot(sender, text, files)
        except Undeliverable as error:
            raise FileUnavailable(f"the message that the thread was begun from cannot be had: {error}") from error
        return None

    async def _homes(self, thread: str) -> list[str]:
        """The channels in which the message may stand that the thread was begun from."""
        room = self._rooms.known.get(thread)
        parent = room.parent if room else await self._parent(thread)
        above = self._rooms.known.get(parent)
        if above is None:
            return [*filter(None, [parent]), thread]
        return [parent] if above.speech else [thread]

    async def _parent(self, thread: str) -> str:
        with discord_errors():
            card = await self._rest.request(Route("GET", "/channels/{channel_id}", channel_id=thread))
        return str(card.get("parent_id") or "")

    async def _message(self, chat: str, id: str) -> Json | None:
        path = "/channels/{channel_id}/messages/{message_id}"
        with discord_errors():
            try:
                message: Json = await self._rest.request(Route("GET", path, channel_id=chat, message_id=id))
            except discord.NotFound:
                return None
        return message

    # --- speaking ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        # Loaded with the first reply, so that hearing need not wait for the markdown parser.
        from channels.discord.outbound import ChatTarget
        from channels.discord.render import render

        place = ChatTarget(self._rest, self._media, self._interactions, reply.address, reply.reply_to)
        await show_pieces(render(reply), ledger, place)

    async def typing(self, address: Address) -> None:
        with only_logged("typing"):
            await self._rest.request(Route("POST", "/channels/{channel_id}/typing", channel_id=address.chat))

    async def show_status(self, status: MessageStatus) -> None:
        if not self._reactions or status.message_id is None or self._is_no_persons(status.message_id):
            return
        if sign := _SIGNS.get(status.state):
            await self._react("PUT", status, sign)
        for state in [status.before] if status.before else _BEFORE[status.state]:
            if state in _SIGNS and state != status.state:
                await self._react("DELETE", status, _SIGNS[state])

    def _is_no_persons(self, id: str) -> bool:
        """A command, or the message of ours whose button was pressed."""
        return id in self._interactions or (self._hearing is not None and self._hearing.is_own(id))

    async def _react(self, method: str, status: MessageStatus, sign: str) -> None:
        """Raises `RetryLater`."""
        route = Route(
            method,
            "/channels/{channel_id}/messages/{message_id}/reactions/{emoji}/@me",
            channel_id=status.address.chat,
            message_id=status.message_id,
            emoji=sign,
        )
        with only_logged("a reaction"):
            for _ in range(_ATTEMPTS):
                try:
                    await self._rest.request(route)
                except discord.RateLimited as error:
                    if error.retry_after > _PATIENCE:
                        raise RetryLater(error.retry_after) from error
                    # A state takes two calls, which would otherwise never both have their turn.
                    await asyncio.sleep(error.retry_after)
                else:
                    return
            raise RetryLater(_PATIENCE)

    def pace(self, address: Address) -> float:
        """As bots see it in the headers: five messages or edits in five seconds, in each channel."""
        return 1.2


def _too_large(file: FileRef) -> FileUnavailable:
    return FileUnavailable(f"{file.name} is larger than the {DOWNLOAD_LIMIT // 1024**2} MB that are fetched")


def _command(command: CommandHelp) -> Json:
    """https://discord.com/developers/docs/interactions/application-commands"""
    card: Json = {"name": command.name.lower(), "description": command.help[:100] or command.name, "type": 1}
    if command.arguments:
        option = {"type": 3, "name": ARGUMENTS, "description": command.arguments[:100], "required": False}
        card["options"] = [option]
    return card


def _known(card: Json) -> tuple[str, ...]:
    """What makes a command another one."""
    options = [part for option in card.get("options") or () for part in (option["name"], option["description"])]
    return (card["name"], card["description"], *options)
