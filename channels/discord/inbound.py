"""Parses and delivers events of the gateway connection and missed messages, each once, in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
import discord
from discord.http import Route

from channels.address import Sender
from channels.backoff import Backoff
from channels.channel import RetryLater, Undeliverable, Unreachable
from channels.discord import limits
from channels.discord.api import NO_MENTIONS, Rest, discord_errors
from channels.discord.connection import Behind, Event
from channels.discord.cursors import MessageCursors
from channels.discord.directory import Directory, GuildChannel, guild_channel
from channels.discord.interactions import ANSWER_SECONDS, Interactions
from channels.discord.member_roles import MemberRoles
from channels.discord.parse import COMMAND, Bot, Json, author, chat_of, parse, split
from channels.discord.progress import Progress
from channels.discord.proxies import DELETION_DELAY, Proxies
from channels.discord.render import utf16
from channels.discord.snowflakes import first_id, made_at
from channels.message import Deliver, InboundMessage, Receipt
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

MAX_MISSED = 1000
"""Missed messages that are read in one channel."""

MAX_MISSED_AGE = 24 * 3600
"""Seconds; older missed messages are not read."""

_PAGE = 100
_CONCURRENCY = 8
"""Channels read at once."""

_MAX_BACKLOG = 1000
"""Messages that are being delivered, or queued behind others of their channel, at once."""
_MAX_AUTHORS = 5000
_MESSAGE, _THINKING, _UNCHANGED = 4, 5, 6
"""https://discord.com/developers/docs/interactions/receiving-and-responding: answers to interactions."""
_EPHEMERAL = 1 << 6


class Inbound:
    """`receive` is called with each event; it starts its work in `tasks`, and `progress` says what of it is done.
    `problem` is called with the current problem, "" for none.

    `skipped` counts events that could not be read.
    """

    def __init__(
        self,
        bot: Bot,
        rest: Rest,
        directory: Directory,
        interactions: Interactions,
        roles: MemberRoles,
        proxies: Proxies,
        cursors: MessageCursors,
        progress: Progress,
        deliver: Deliver,
        problem: Callable[[str], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.skipped = 0
        self._bot = bot
        self._rest = rest
        self._directory = directory
        self._interactions = interactions
        self._roles = roles
        self._proxies = proxies
        self._cursors = cursors
        self._progress = progress
        self._deliver = deliver
        self._problems = problem
        self._tasks = tasks
        self._authors: OrderedDict[str, Sender] = OrderedDict()
        self._queued: dict[str, list[tuple[Event, Callable[[], None]]]] = {}
        """Events of channels whose missed messages are being read, to be handled after those; with what to call then.
        """
        self._catch_ups: dict[str, asyncio.Task[None]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._queued_count = 0
        """Events in `_queued`."""
        self._newest_before = cursors.newest()
        self._page_slots = asyncio.Semaphore(_CONCURRENCY)
        self._orders = WeakValueDictionary[tuple[str, str | None], asyncio.Lock]()
        """Held while a message of the place is stored."""
        self._retry_lock = asyncio.Lock()
        self._retrying = 0
        """Messages that could not be stored at the first attempt, and those after them."""

    def receive(self, event: Event) -> None:
        """Raises `Behind` only."""
        if event.name == "READY":
            self._progress.restart()
        received = self._progress.begin(event.sequence)
        try:
            if event.name == "READY":
                self._start_session(event.sequence)
            self._learn(event)
            for single, part in split(event.name, event.data):
                self._dispatch(replace(event, name=single, data=part))
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event %s cannot be read and is skipped", self._bot.channel, event.name)
        finally:
            received()

    async def drained(self) -> None:
        """Returns when all received messages are stored."""
        while self._deliveries:
            await asyncio.wait(self._deliveries)

    def is_own(self, message_id: str) -> bool:
        """Whether the bot wrote it, as far as this process knows."""
        author = self._authors.get(message_id)
        return author is not None and author.id == self._bot.account

    # --- channels ---

    def _start_session(self, sequence: int) -> None:
        """A new session: Discord sends no events from before it."""
        for task in self._catch_ups.values():
            task.cancel()
        self._catch_ups.clear()
        self._queued.clear()
        self._queued_count = 0
        self._cursors.reset()
        self._newest_before = self._cursors.newest()
        for chat in self._cursors.direct_chats():
            self._catch_up(chat, "", self._cursors.position(chat) or 0, sequence)

    def _learn(self, event: Event) -> None:
        learnt = self._directory.learn(event.name, event.data)
        match event.name:
            case "GUILD_CREATE" | "THREAD_LIST_SYNC":
                for channel in learnt:
                    self._check_missed(channel, event.sequence)
            case "CHANNEL_CREATE" | "THREAD_CREATE":
                for channel in learnt:
                    if channel.has_messages and self._cursors.position(channel.id) is None:
                        self._cursors.note_guild(channel.id, channel.guild)
                        self._cursors.advance(channel.id, int(channel.id) - 1)

    def _check_missed(self, channel: GuildChannel, sequence: int) -> None:
        """Reads what was missed in a channel that the new session lists."""
        if not channel.has_messages or channel.id in self._queued:
            return
        self._cursors.note_guild(channel.id, channel.guild)
        read = self._cursors.position(channel.id)
        if read is None:
            # A channel created while the bot was offline is read from its beginning; in others no old messages.
            is_new = self._newest_before is not None and int(channel.id) > self._newest_before
            read = int(channel.id) - 1 if is_new else max(int(channel.last), int(channel.id) - 1)
            self._cursors.advance(channel.id, read)
        if int(channel.last) > read:
            self._catch_up(channel.id, channel.guild, read, sequence)

    def _dispatch(self, event: Event) -> None:
        chat, guild = chat_of(event.name, event.data), str(event.data.get("guild_id") or "")
        if not chat:
            return
        if event.name == "INTERACTION_CREATE":
            # It must be answered within three seconds, so it is not queued.
            if event.replayed and self._rest.now() - made_at(event.data["id"]) > ANSWER_SECONDS:
                log.info("%s: %s of a person had no answer in time, and failed", self._bot.channel, event.name)
            else:
                self._handle(event)
            return
        self._open(chat, event)
        if chat in self._queued:
            self._queue(chat, event)
        elif guild and not self._directory.knows(chat, guild):
            self._queued[chat] = []
            self._queue(chat, event)
            self._catch_ups[chat] = self._tasks.create_task(self._look_up(chat, guild))
        else:
            self._handle(event)

    def _queue(self, chat: str, event: Event) -> None:
        self._queued[chat].append((event, self._progress.begin(event.sequence)))
        self._queued_count += 1

    def _open(self, chat: str, event: Event) -> None:
        """The message is open from now on. Raises `Behind`."""
        if event.name == "MESSAGE_CREATE":
            self._cursors.begin(chat, int(event.data["id"]), str(event.data.get("guild_id") or ""))
        if len(self._deliveries) + self._queued_count >= _MAX_BACKLOG:
            raise Behind

    async def _look_up(self, chat: str, guild: str) -> None:
        """Discord announces no archived threads, and nothing at all in a session that another process began."""
        if guild not in self._directory.guilds:
            await self._load_guild(guild)
        if chat not in self._directory.channels:
            data = await self._call_until_answered(Route("GET", "/channels/{channel_id}", channel_id=chat))
            try:
                self._directory.channels[chat] = guild_channel(data, guild)
            except MALFORMED:
                # Discord rejects the call, or the answer cannot be read.
                self._directory.channels[chat] = GuildChannel(chat, chat, guild)
        self._handle_queued(chat, 0)

    async def _load_guild(self, guild: str) -> None:
        roles, channels = [
            await self._call_until_answered(Route("GET", f"/guilds/{{guild_id}}/{part}", guild_id=guild))
            for part in ("roles", "channels")
        ]
        try:
            self._directory.learn("GUILD_CREATE", {"id": guild, "roles": roles, "channels": channels})
        except MALFORMED:
            log.exception("%s: what is in the server %s cannot be read", self._bot.channel, guild)

    # --- missed messages ---

    def _catch_up(self, chat: str, guild: str, after: int, sequence: int) -> None:
        self._queued[chat] = []
        self._cursors.hold(chat, after)
        read = self._progress.begin(sequence)
        self._catch_ups[chat] = self._tasks.create_task(self._read_missed(chat, guild, after, read))

    async def _read_missed(self, chat: str, guild: str, after: int, read: Callable[[], None]) -> None:
        after = max(after, first_id(time.time() - MAX_MISSED_AGE))
        for _ in range(MAX_MISSED // _PAGE):
            page = await self._page(chat, after)
            if page is None and not guild:
                self._cursors.forget(chat)
            if not page:
                break
            await self._deliver_missed(page, guild)
            after = int(page[-1]["id"])
            self._cursors.advance(chat, after)
            self._cursors.hold(chat, after)
            if len(page) < _PAGE:
                break
        else:
            log.warning("%s: more than %d messages were missed in one channel", self._bot.channel, MAX_MISSED)
        self._cursors.release(chat)
        self._handle_queued(chat, after)
        read()

    async def _page(self, chat: str, after: int) -> list[Json] | None:
        """The oldest messages after that one, in order; None when the channel cannot be read."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=chat)
        async with self._page_slots:
            page = await self._call_until_answered(route, params={"after": str(after), "limit": str(_PAGE)})
        try:
            return None if page is None else sorted(page, key=lambda message: int(message["id"]))
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: a page of messages cannot be read and is skipped", self._bot.channel)
            return []

    async def _deliver_missed(self, page: Iterable[Json], guild: str) -> None:
        deliveries = []
        for message in page:
            data = {**message, "guild_id": guild} if guild else message
            if (read := self._read("MESSAGE_CREATE", data)) is not None:
                deliveries.append(self._store(read))
        # Concurrent, started in order.
        await asyncio.gather(*deliveries)

    def _handle_queued(self, chat: str, after: int) -> None:
        self._catch_ups.pop(chat, None)
        for event, handled in self._queued.pop(chat, ()):
            self._queued_count -= 1
            if event.name == "MESSAGE_CREATE" and int(event.data["id"]) <= after:
                self._cursors.done(chat, int(event.data["id"]))
            else:
                self._handle(event)
            handled()

    async def _call_until_answered(self, route: Route, **options: Any) -> Any:
        """Retries until Discord answers. None when it rejects the call."""
        backoff = Backoff()
        while True:
            try:
                with discord_errors():
                    return await self._rest.request(route, **options)
            except RetryLater as error:
                await asyncio.sleep(error.after)
            except Unreachable as error:
                log.info("%s: %s failed, trying again: %s", self._bot.channel, route.path, error)
                await backoff.pause()
            except Undeliverable as error:
                log.info("%s: %s is rejected: %s", self._bot.channel, route.path, error)
                return None

    # --- delivery ---

    def _handle(self, event: Event) -> None:
        """Starts to deliver it, before any later event."""
        data, message = event.data, self._read(event.name, event.data)
        if message is not None and message.kind == "withdrawn" and self._proxies.may_be_copied(str(data["id"])):
            self._spawn(self._deliver_withdrawal(data, message), event)
        elif message is not None and event.name == "INTERACTION_CREATE":
            id, application, token = (str(data[part]) for part in ("id", "application_id", "token"))
            if data["type"] == COMMAND:
                self._interactions.expect(id, application, token)
            self._spawn(self._answer(message, id, token, is_command=data["type"] == COMMAND), event)
        elif message is not None:
            self._spawn(self._deliver_live(event, message), event)
        elif event.name == "MESSAGE_CREATE":
            self._cursors.done(str(data["channel_id"]), int(data["id"]))

    def _spawn(self, work: Coroutine[Any, Any, None], event: Event) -> None:
        task, done = self._tasks.create_task(work), self._progress.begin(event.sequence)
        self._deliveries.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._deliveries.discard(task)
            if not task.cancelled() and task.exception() is None:
                done()

        task.add_done_callback(ended)

    def _read(self, event: str, data: Json) -> InboundMessage | None:
        try:
            if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE") and "author" in data:
                self._authors[str(data["id"])] = author(data)
                if len(self._authors) > _MAX_AUTHORS:
                    self._authors.popitem(last=False)
            self._roles.learn(data, str(data.get("guild_id") or ""))
            has_no_message = event in ("INTERACTION_CREATE", "MESSAGE_REACTION_ADD")
            resolved = data if has_no_message else self._proxies.resolved(event, data)
            return (
                None
                if resolved is None
                else parse(event, resolved, self._bot, self._directory, self._authors, datetime.now(UTC))
            )
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event %s cannot be read and is skipped", self._bot.channel, event)
            return None

    async def _deliver_live(self, event: Event, message: InboundMessage) -> None:
        await self._store(message)
        if event.name == "MESSAGE_CREATE":
            self._cursors.done(message.address.chat, int(event.data["id"]))

    async def _deliver_withdrawal(self, data: Json, message: InboundMessage) -> None:
        """Unless a proxy has deleted it, whose copy may come later."""
        await asyncio.sleep(DELETION_DELAY)
        if not self._proxies.is_copied(str(data["id"])):
            await self._store(message)

    async def _store(self, message: InboundMessage) -> Receipt | None:
        """Retries until it is stored: Discord does not send it again. In each place one after another, in the order of
        the calls: none overtakes one that cannot be stored yet."""
        order = self._orders.setdefault((message.address.chat, message.address.thread), asyncio.Lock())
        async with order:
            return await self._store_next(message)

    async def _store_next(self, message: InboundMessage) -> Receipt | None:
        message = await self._with_roles(message)
        if not self._retrying:
            try:
                return await self._deliver(message)
            except Exception:
                # Whatever went wrong in the gateway, the message must not be lost.
                log.exception("%s: a message could not be stored, trying again", self._bot.channel)
        self._retrying += 1
        try:
            # One after another, in order of arrival.
            async with self._retry_lock:
                return await self._retry_store(message)
        finally:
            self._retrying -= 1

    async def _with_roles(self, message: InboundMessage) -> InboundMessage:
        """With the roles of its author and of those whom it quotes."""
        sender, *quoted = [await self._roles.added_to(each) for each in (message.sender, *message.quoted)]
        return replace(message, sender=sender, quoted=tuple(quoted))

    async def _retry_store(self, message: InboundMessage) -> Receipt | None:
        backoff = Backoff()
        while True:
            try:
                receipt = await self._deliver(message)
            except Exception:
                log.exception("%s: a message still cannot be stored", self._bot.channel)
                self._problems("messages cannot be stored; they are queued")
                await backoff.pause()
            else:
                self._problems("")
                return receipt

    async def _answer(self, message: InboundMessage, id: str, token: str, *, is_command: bool) -> None:
        """Stores it, then acknowledges it to the person's Discord client."""
        answer = _answer(await self._store(message), is_command=is_command)
        route = Route("POST", "/interactions/{id}/{token}/callback", id=id, token=token)
        try:
            await self._rest.request(route, json=answer)
        except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("%s: an interaction could not be answered: %s", self._bot.channel, error)
            self._interactions.deferred(id, usable=False)
        else:
            self._interactions.deferred(id, usable=answer["type"] == _THINKING)


def _answer(receipt: Receipt | None, *, is_command: bool) -> Json:
    """What Discord shows of an interaction at once."""
    if not is_command:
        return {"type": _UNCHANGED}
    if receipt is None or receipt.refused is not None:
        return {"type": _MESSAGE, "data": {"content": "You are not allowed to do that here.", "flags": _EPHEMERAL}}
    if receipt.words:
        # It shows the command without them.
        return {"type": _MESSAGE, "data": {"content": _quoted(receipt.words), "allowed_mentions": NO_MENTIONS}}
    return {"type": _THINKING}


def _quoted(text: str) -> str:
    quoted = "\n".join(f"> {line}" for line in text.splitlines())
    return quoted if utf16(quoted) <= limits.CONTENT else f"{quoted[: limits.CONTENT // 2 - 1]}…"
