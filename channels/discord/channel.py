"""A Discord bot as a channel, with discord.py's clients for the gateway and the REST API."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import discord
from discord.http import Route

from agent.media import MediaStore
from channels.address import Address, Sender
from channels.backoff import Backoff
from channels.channel import (
    ChannelRejected,
    CommandHelp,
    Cursors,
    FileUnavailable,
    Group,
    Lease,
    Ledger,
    RetryLater,
    Shard,
    Shards,
    Undeliverable,
    Unreachable,
)
from channels.command_menu import CommandMenu
from channels.discord import limits
from channels.discord.api import Rest, discord_errors, only_logged, token_rejected
from channels.discord.connection import Connection, OtherShards, saved_session, wanted_intents
from channels.discord.content import readable
from channels.discord.cursors import MessageCursors
from channels.discord.directory import Directory, guild_channel
from channels.discord.inbound import Inbound
from channels.discord.interactions import Interactions, original
from channels.discord.member_roles import MemberRoles
from channels.discord.parse import ARGUMENTS, Bot, Json, author, is_said, member, quotable
from channels.discord.progress import Progress
from channels.discord.proxies import Proxies
from channels.discord.readers import can_read
from channels.discord.shards import AllShards
from channels.discord.starts import IDENTIFY_INTERVAL, SessionStarts, StartLimits, start_limits
from channels.message import Deliver, FileRef, MessageState, MessageStatus, ThreadRoot
from channels.reply import Reply
from channels.sync import rendered, sync_pieces
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

DOWNLOAD_LIMIT = 50 * 1024 * 1024
DOWNLOAD_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=10, sock_read=30)
SESSION_INTERVAL = 3.0
"""Minimum seconds between two writes of what the next holder of the connection needs."""

END_TIMEOUT = 2.0
"""Seconds that the end of a channel may take for what is shown of commands without an answer."""

MESSAGES_PAGE = 100
"""Messages that Discord gives at once."""

REACTIONS: dict[MessageState, str] = {
    "waiting": "⏳",
    "read": "👀",
    "answered": "✅",
    "failed": "❌",
    "stopped": "🛑",
    "refused": "🚫",
    "undelivered": "⚠️",
}
_POSSIBLE_BEFORE: dict[MessageState, tuple[MessageState, ...]] = {
    "waiting": (),
    "read": (),
    "answered": ("waiting", "read"),
    "failed": ("waiting", "read"),
    "stopped": ("waiting", "read"),
    "refused": ("waiting", "read"),
    "withdrawn": ("waiting", "read"),
    "undelivered": ("waiting", "read"),
}
"""Reactions that an earlier process may have added, where the state before is not known."""

MAX_FOUND = 100
"""Members in the result of a search, which also matches the beginnings of nicknames."""

ONLY = Shard(0, 1)
"""All events of an account."""

_MAX_ATTEMPTS = 4
_MAX_WAIT = 1.0
"""Seconds that a reaction may wait for the rate limit of one per quarter of a second."""


class DiscordChannel:
    """A bot account. `media` holds the files that replies show, `cursors` stores the read position of each channel.

    `reactions`: whether reactions show the status of people's messages. `earlier_messages`: how many messages the model
    is shown when it is called into a talk. `proxies` are ids of applications that post people's messages again under
    another name: such a copy is edited and deleted in the name of the person. `identify_interval` is in seconds, as
    Discord requires it. `reaction_answers`: whether Discord is asked for reactions, which may be answers.

    Raises `ChannelRejected` without a token. Close it with `aclose()` when nothing more is to be sent.
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
        earlier_messages: int = 30,
        proxies: Collection[str] = (),
        identify_interval: float = IDENTIFY_INTERVAL,
        reaction_answers: bool = False,
    ) -> None:
        if not token:
            raise ChannelRejected(
                f"channel {name!r} has no token: get one from the Discord Developer Portal (your application, Bot)"
            )
        self.name = name
        self.problem = ""
        self._media = media
        self._cursors = cursors
        self._gateway_url = gateway_url
        self._reactions = reactions
        self._earlier_messages = earlier_messages
        self._proxies = Proxies(proxies)
        self._identify_interval = identify_interval
        self._reaction_answers = reaction_answers
        self._rest = Rest(token, api_url)
        self._menu = CommandMenu(self._register)
        self._interactions = Interactions()
        self._roles = MemberRoles(self._ask)
        self._directory = Directory("")
        self._inbounds: dict[int, Inbound] = {}
        """By the number of the shard."""
        # Only who has the token can know it.
        self._connector = f"discord:{hashlib.sha256(token.encode()).hexdigest()[:16]}"
        self._shards: Shards = AllShards()
        self._troubles: dict[tuple[str, Shard], str] = {}

    async def aclose(self) -> None:
        """Nobody waits for an answer in vain: what has none yet is answered later, in a message of its own."""
        await self._end_thinking()
        await self._roles.aclose()
        await self._rest.close()

    async def _end_thinking(self) -> None:
        """https://discord.com/developers/docs/interactions/receiving-and-responding#delete-original-interaction-response"""
        calls = [self._rest.request(original("DELETE", pending)) for pending in self._interactions.unanswered()]
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                for failed in filter(None, await asyncio.gather(*calls, return_exceptions=True)):
                    log.info('%s: "thinking…" is not taken back: %s', self.name, failed)

    @property
    def skipped(self) -> int:
        """How many events could not be read."""
        return sum(inbound.skipped for inbound in self._inbounds.values())

    # --- inbound ---

    @property
    def connector(self) -> str:
        """Each connection of an account gets all events of its shard: https://discord.com/developers/docs/events/gateway"""
        return self._connector

    def use_shards(self, shards: Shards) -> None:
        self._shards = shards

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Survives everything but a rejected token or intent. Goes on with the sessions that the leases have, if
        Discord still knows them; otherwise reads in each channel what was missed."""
        self._menu.commands = commands
        me = await self._call_until_answered(Route("GET", "/users/@me"))
        bot = Bot(self.name, str(me["id"]))
        log.info("%s: this is @%s", self.name, me["username"])
        self._directory = Directory(bot.account)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen_on_all(bot, deliver, tasks))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._troubles.clear()
            self.problem = ""

    async def _listen_on_all(self, bot: Bot, deliver: Deliver, tasks: asyncio.TaskGroup) -> None:
        """With as many connections as Discord wants, or as this worker has of them."""
        trouble = partial(self._set_trouble, "starts")
        starts = SessionStarts(self.name, self._shards, self._start_limits, self._identify_interval, trouble, tasks)
        count, backoff = 0, Backoff()
        while True:
            limits = await starts.limits()
            if limits.shards != count:
                # The same number is refused again only if Discord is at odds with itself.
                count, backoff = limits.shards, Backoff(first=self._identify_interval)
            try:
                await self._shards.listen(count, partial(self._listen_on, bot, starts), deliver)
            except OtherShards as error:
                log.warning("%s: %s; asking how many connections it wants now", self.name, error)
                await backoff.pause()

    async def _start_limits(self) -> StartLimits:
        try:
            return start_limits(await self._call_until_answered(Route("GET", "/gateway/bot")))
        except Undeliverable as error:
            log.warning("%s: how many connections Discord wants is not known: %s", self.name, error)
        except MALFORMED:
            log.exception("%s: how many connections Discord wants cannot be read", self.name)
        return StartLimits()

    async def _listen_on(self, bot: Bot, starts: SessionStarts, shard: Shard, lease: Lease, deliver: Deliver) -> None:
        """One connection. That of the first shard also registers the commands."""
        self._directory.forget(shard)
        cursors = MessageCursors(self._cursors, shard)
        await cursors.load()
        intents = wanted_intents(reactions=self._reaction_answers)
        session = saved_session(lease.state, intents)
        progress = Progress((session and session.sequence) or 0)
        try:
            async with asyncio.TaskGroup() as tasks:
                inbound = self._inbounds[shard.number] = Inbound(
                    bot,
                    self._rest,
                    self._directory,
                    self._interactions,
                    self._roles,
                    self._proxies,
                    cursors,
                    progress,
                    deliver,
                    partial(self._set_trouble, "store", shard=shard),
                    tasks,
                )
                connection = Connection(
                    self.name,
                    self._rest,
                    self._gateway_url,
                    inbound.receive,
                    inbound.drained,
                    partial(self._set_trouble, "connection", shard=shard),
                    starts,
                    shard=shard,
                    intents=intents,
                    progress=progress,
                    session=session,
                    may_connect=lease.is_held,
                )
                tasks.create_task(self._receive(connection))
                tasks.create_task(cursors.run())
                tasks.create_task(_keep_saved(connection, progress, lease))
                if shard.number == 0:
                    tasks.create_task(self._menu.show())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            for part in ("store", "connection"):
                self._set_trouble(part, "", shard=shard)
            await cursors.save()

    async def _receive(self, connection: Connection) -> None:
        async with connection:
            await connection.listen()

    def _set_trouble(self, part: str, problem: str, *, shard: Shard = ONLY) -> None:
        """The current problem of one part, "" for none."""
        about = f"shard {shard}: " if problem and shard.count > 1 else ""
        self._troubles[part, shard] = f"{about}{problem}"
        self.problem = next(filter(None, self._troubles.values()), "")

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        self._menu.commands = commands
        await self._menu.show()

    async def _register(self, commands: tuple[CommandHelp, ...]) -> None:
        """Only if they changed: Discord accepts 200 new commands a day."""
        application = (await self._call_until_answered(Route("GET", "/oauth2/applications/@me")))["id"]
        path = "/applications/{application_id}/commands"
        named = [command for command in commands if len(command.name) <= limits.COMMAND_NAME]
        wanted = [_command(command) for command in named[: limits.COMMANDS]]
        try:
            known = await self._call_until_answered(Route("GET", path, application_id=application))
            if sorted(map(_comparable, known)) != sorted(map(_comparable, wanted)):
                await self._call_until_answered(Route("PUT", path, application_id=application), json=wanted)
        except Undeliverable as error:
            log.warning("%s: the commands could not be registered: %s", self.name, error)
        except MALFORMED:
            log.exception("%s: the registered commands cannot be read", self.name)

    async def _call_until_answered(self, route: Route, **options: Any) -> Any:
        """Retries until Discord accepts or rejects the call. Raises `Undeliverable` or `ChannelRejected`."""
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
                    raise token_rejected(self.name) from error
                self._set_trouble("rest", "Discord is not reachable")
                log.info("%s: %s failed, trying again: %s", self.name, route.path, error)
                await backoff.pause()
            else:
                self._set_trouble("rest", "")
                return answer

    async def _ask(self, route: Route) -> Any:
        """As `_call_until_answered`, but None if Discord rejects the call."""
        try:
            return await self._call_until_answered(route)
        except Undeliverable as error:
            log.info("%s: %s is rejected: %s", self.name, route.path, error)
            return None

    async def find_groups(self, names: Collection[str]) -> dict[str, Group]:
        return await self._roles.find(names)

    def watch_groups(self, ids: Collection[str]) -> None:
        self._roles.watch(ids)

    async def find_person(self, known: Sender) -> Sender:
        return await self._roles.person(known)

    async def is_member(self, address: Address, person: str) -> bool:
        with discord_errors():
            return await can_read(self._rest.request, address.chat, person)

    async def find_people(self, names: Collection[str]) -> dict[str, Sender]:
        """In the bot's servers. Others are known when they write: usernames are unique."""
        found: dict[str, Sender] = {}
        try:
            for guild in await self._call_until_answered(Route("GET", "/users/@me/guilds")):
                if len(found) == len(names):
                    break
                await self._find_in_guild(str(guild["id"]), [name for name in names if name not in found], found)
        except Undeliverable as error:
            log.warning("%s: Discord does not list the bot's servers: %s", self.name, error)
        except MALFORMED:
            log.exception("%s: the bot's servers cannot be read", self.name)
        return found

    async def _find_in_guild(self, guild: str, names: Collection[str], found: dict[str, Sender]) -> None:
        route = Route("GET", "/guilds/{guild_id}/members/search", guild_id=guild)
        for name in names:
            query = {"query": name.removeprefix("@"), "limit": str(MAX_FOUND)}
            for data in await self._call_until_answered(route, params=query):
                sender = member(data)
                if sender.is_person and f"@{(sender.handle or '').lower()}" == name:
                    found[name] = sender

    async def fetch(self, file: FileRef) -> bytes:
        """Discord's links need no token, and expire."""
        if file.size is not None and file.size > DOWNLOAD_LIMIT:
            raise _too_large()
        with discord_errors():
            async with self._rest.session.get(file.ref, timeout=DOWNLOAD_TIMEOUT) as response:
                if response.status in (403, 404, 410):
                    raise FileUnavailable("it is no longer on Discord: the link has expired")
                if response.status >= 400:
                    raise Unreachable(f"Discord answers with status {response.status} for {file.name}")
                data = bytearray()
                async for chunk in response.content.iter_chunked(64 * 1024):
                    data += chunk
                    if len(data) > DOWNLOAD_LIMIT:
                        raise _too_large()
                return bytes(data)

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        """It is in the thread's channel; in a forum, in the thread itself."""
        try:
            for chat in await self._root_channels(address.chat):
                if (found := await self._message(chat, message_id)) is not None:
                    return await self._earlier(found)
        except Undeliverable as error:
            raise FileUnavailable(str(error)) from error
        return None

    async def talk(self, address: Address, *, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        """https://discord.com/developers/docs/resources/message#get-channel-messages"""
        if not self._earlier_messages:
            return ()
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=address.chat)
        query = {"before": before, "limit": str(min(self._earlier_messages, MESSAGES_PAGE))}
        try:
            with discord_errors():
                page = await self._rest.request(route, params=query)
        except Undeliverable as error:
            raise FileUnavailable(str(error)) from error
        said = sorted(page, key=lambda message: int(message["id"]))
        wanted = [
            message
            for message in said
            if int(message["id"]) > int(after or 0) and is_said(message) and author(message).id != address.account
        ]
        return tuple([await self._earlier(message) for message in wanted])

    async def _earlier(self, message: Json) -> ThreadRoot:
        sender, text, files = quotable(message, self._directory)
        wrote = author(self._proxies.author_of(message))
        return ThreadRoot(sender, text, files, await self._roles.added_to(wrote))

    async def _root_channels(self, thread: str) -> list[str]:
        """The channels that may contain the message that started the thread."""
        known = self._directory.channels.get(thread)
        parent = known.parent if known else await self._parent(thread)
        parent_channel = self._directory.channels.get(parent)
        if parent_channel is None:
            return [*filter(None, [parent]), thread]
        return [parent] if parent_channel.has_messages else [thread]

    async def _parent(self, thread: str) -> str:
        with discord_errors():
            channel = await self._channel(thread)
        return str(channel.get("parent_id") or "")

    async def topic(self, address: Address) -> str:
        """https://discord.com/developers/docs/resources/channel#get-channel. A thread has its channel's or forum's."""
        with discord_errors():
            channel = await self._channel(address.chat)
            if (found := guild_channel(channel, "")).thread:
                channel = await self._channel(found.parent)
        return readable(channel.get("topic") or "", {}, self._directory)

    async def _channel(self, id: str) -> Json:
        channel: Json = await self._rest.request(Route("GET", "/channels/{channel_id}", channel_id=id))
        return channel

    async def _message(self, chat: str, id: str) -> Json | None:
        path = "/channels/{channel_id}/messages/{message_id}"
        with discord_errors():
            try:
                message: Json = await self._rest.request(Route("GET", path, channel_id=chat, message_id=id))
            except discord.NotFound:
                return None
        return message

    # --- outbound ---

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        # Imported with the first reply, so that connecting need not wait for the markdown parser.
        from channels.discord.outbound import ChatTarget
        from channels.discord.render import render

        reply_to = reply.reply_to and self._proxies.shown_as(reply.reply_to)
        target = ChatTarget(self._rest, self._media, self._interactions, reply.address, reply_to)
        await sync_pieces(await rendered(render, reply), ledger, target)

    async def typing(self, address: Address) -> None:
        with only_logged("typing"):
            await self._rest.request(Route("POST", "/channels/{channel_id}/typing", channel_id=address.chat))

    async def show_status(self, status: MessageStatus) -> None:
        if not self._reactions or status.message_id is None or self._is_own_or_command(status.message_id):
            return
        if emoji := REACTIONS.get(status.state):
            await self._react("PUT", status, emoji)
        for state in [status.before] if status.before else _POSSIBLE_BEFORE[status.state]:
            if state in REACTIONS and state != status.state:
                await self._react("DELETE", status, REACTIONS[state])

    def _is_own_or_command(self, id: str) -> bool:
        """A command has no message; a pressed button's message is the bot's own."""
        return id in self._interactions or any(inbound.is_own(id) for inbound in self._inbounds.values())

    async def _react(self, method: str, status: MessageStatus, emoji: str) -> None:
        """Raises `RetryLater`."""
        route = Route(
            method,
            "/channels/{channel_id}/messages/{message_id}/reactions/{emoji}/@me",
            channel_id=status.address.chat,
            message_id=self._proxies.shown_as(status.message_id or ""),
            emoji=emoji,
        )
        with only_logged("a reaction"):
            for _ in range(_MAX_ATTEMPTS):
                try:
                    await self._rest.request(route)
                except discord.RateLimited as error:
                    if error.retry_after > _MAX_WAIT:
                        raise RetryLater(error.retry_after) from error
                    # A new state takes two calls; without the wait, one of them would always be limited.
                    await asyncio.sleep(error.retry_after)
                else:
                    return
            raise RetryLater(_MAX_WAIT)

    async def direct_chat(self, person: str) -> str | None:
        """https://discord.com/developers/docs/resources/user#create-dm"""
        with discord_errors():
            channel = await self._rest.request(Route("POST", "/users/@me/channels"), json={"recipient_id": person})
        return str(channel["id"])

    def pace(self, address: Address) -> float:
        """Rate limit in the headers: five messages or edits in five seconds, per channel."""
        return 1.2


async def _keep_saved(connection: Connection, progress: Progress, lease: Lease) -> None:
    """Until cancelled, and once more then."""
    try:
        while True:
            await progress.changed.wait()
            progress.changed.clear()
            await lease.save(connection.saved())
            await asyncio.sleep(SESSION_INTERVAL)
    finally:
        await lease.save(connection.saved())


def _too_large() -> FileUnavailable:
    return FileUnavailable(f"it is larger than the {DOWNLOAD_LIMIT // 1024**2} MB download limit")


def _command(command: CommandHelp) -> Json:
    """https://discord.com/developers/docs/interactions/application-commands"""
    data: Json = {
        "name": command.name.lower(),
        "description": command.help[: limits.COMMAND_DESCRIPTION] or command.name,
        "type": 1,
    }
    if command.arguments:
        option = {
            "type": 3,
            "name": ARGUMENTS,
            "description": command.arguments[: limits.COMMAND_DESCRIPTION],
            "required": False,
        }
        data["options"] = [option]
    return data


def _comparable(command: Json) -> tuple[str, ...]:
    """The parts of a registered command that the gateway sets."""
    options = [part for option in command.get("options") or () for part in (option["name"], option["description"])]
    return (command["name"], command["description"], *options)
