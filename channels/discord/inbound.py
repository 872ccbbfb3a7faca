"""What is heard on the gateway connection, and what was missed: parsed and delivered, each message once, in order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import discord
from discord.http import Route

from channels.address import Sender
from channels.channel import RetryLater, Undeliverable, Unreachable
from channels.discord.api import Backoff, Rest, discord_errors
from channels.discord.connection import Behind
from channels.discord.cursors import MessageCursors
from channels.discord.directory import Directory, Room, room
from channels.discord.interactions import Interactions
from channels.discord.parse import COMMAND, MALFORMED, Bot, Json, author, chat_of, parse, singly
from channels.message import Deliver, InboundMessage, Receipt

log = logging.getLogger(__name__)

MOST_MISSED = 1000
"""Messages of one channel that are read after an absence."""

LONGEST_ABSENCE = 24 * 3600
"""Seconds; what was said before is not read any more."""

_PAGE = 100
_SIDE_BY_SIDE = 8
"""Channels that are read at once."""

_MOST_WAITING = 1000
"""Messages that are being kept, or wait for others of their channel, at once."""
_AUTHORS = 5000
_EPOCH = 1_420_070_400_000
"""https://discord.com/developers/docs/reference#snowflakes: the milliseconds that ids count from."""

_MESSAGE, _THINKING, _UNCHANGED = 4, 5, 6
"""https://discord.com/developers/docs/interactions/receiving-and-responding: answers to interactions."""
_EPHEMERAL = 1 << 6


class Inbound:
    """`hear` is called with each event; what it begins runs in `tasks`.

    `skipped` counts events that could not be read.
    """

    def __init__(
        self,
        bot: Bot,
        rest: Rest,
        rooms: Directory,
        interactions: Interactions,
        progress: MessageCursors,
        deliver: Deliver,
        trouble: Callable[[str], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.skipped = 0
        self._bot = bot
        self._rest = rest
        self._rooms = rooms
        self._interactions = interactions
        self._progress = progress
        self._deliver = deliver
        self._trouble = trouble
        self._tasks = tasks
        self._authors: OrderedDict[str, Sender] = OrderedDict()
        self._late: dict[str, list[tuple[str, Json]]] = {}
        """Events of channels that are being caught up with, which come after what was missed."""
        self._catching: dict[str, asyncio.Task[None]] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._waiting = 0
        """Events in `_late`."""
        self._newest: int | None = None
        self._reading = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._mending = asyncio.Lock()
        self._stuck = 0
        """Messages that could not be kept at once, and those after them."""

    def hear(self, event: str, data: Json) -> None:
        """Never raises but `Behind`."""
        try:
            if event == "READY":
                self._start_anew()
            self._learn(event, data)
            for one, meant in singly(event, data):
                self._sort(one, meant)
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event %s cannot be read and is skipped", self._bot.channel, event)

    async def calm(self) -> None:
        """Returns when all that was heard is kept."""
        while self._keeping:
            await asyncio.wait(self._keeping)

    def is_own(self, message_id: str) -> bool:
        """Whether the bot wrote it, as far as is remembered."""
        author = self._authors.get(message_id)
        return author is not None and author.id == self._bot.account

    # --- where things are said ---

    def _start_anew(self) -> None:
        """A new session: nothing of the time before it will come by itself."""
        for task in self._catching.values():
            task.cancel()
        self._catching.clear()
        self._late.clear()
        self._waiting = 0
        self._progress.start_anew()
        self._newest = self._progress.newest()
        for chat in self._progress.directs():
            self._catch_up(chat, "", self._progress.read(chat) or 0)

    def _learn(self, event: str, data: Json) -> None:
        told = self._rooms.learn(event, data)
        match event:
            case "GUILD_CREATE" | "THREAD_LIST_SYNC":
                for room in told:
                    self._visit(room)
            case "CHANNEL_CREATE" | "THREAD_CREATE":
                for room in told:
                    if room.speech and self._progress.read(room.id) is None:
                        self._progress.reach(room.id, int(room.id) - 1)

    def _visit(self, room: Room) -> None:
        """A room as it is when a session begins: perhaps something was said there."""
        if not room.speech or room.id in self._late:
            return
        read = self._progress.read(room.id)
        if read is None:
            # One that was made while we were away is read from its beginning; of others nothing old is read.
            made_since = self._newest is not None and int(room.id) > self._newest
            read = int(room.id) - 1 if made_since else max(int(room.last), int(room.id) - 1)
            self._progress.reach(room.id, read)
        if int(room.last) > read:
            self._catch_up(room.id, room.guild, read)

    def _sort(self, event: str, data: Json) -> None:
        chat = chat_of(event, data)
        if not chat:
            return
        if event == "INTERACTION_CREATE":
            # It has to be answered within three seconds, and waits for nothing.
            self._take(event, data)
            return
        self._open(chat, event, data)
        if chat in self._late:
            self._late[chat].append((event, data))
            self._waiting += 1
        elif data.get("guild_id") and chat not in self._rooms.known:
            self._late[chat] = [(event, data)]
            self._waiting += 1
            self._catching[chat] = self._tasks.create_task(self._get_to_know(chat, str(data["guild_id"])))
        else:
            self._take(event, data)

    def _open(self, chat: str, event: str, data: Json) -> None:
        """A message is open from now on. Raises `Behind`."""
        if event == "MESSAGE_CREATE":
            self._progress.begin(chat, int(data["id"]), direct=not data.get("guild_id"))
        if len(self._keeping) + self._waiting >= _MOST_WAITING:
            raise Behind

    async def _get_to_know(self, chat: str, guild: str) -> None:
        """Threads that were archived are told to nobody."""
        card = await self._ask(Route("GET", "/channels/{channel_id}", channel_id=chat))
        try:
            self._rooms.known[chat] = room(card, guild)
        except MALFORMED:
            # It is refused, or cannot be read.
            self._rooms.known[chat] = Room(chat, chat, guild)
        self._take_late(chat, 0)

    # --- what was missed ---

    def _catch_up(self, chat: str, guild: str, after: int) -> None:
        self._late[chat] = []
        self._progress.hold(chat, after)
        self._catching[chat] = self._tasks.create_task(self._read_missed(chat, guild, after))

    async def _read_missed(self, chat: str, guild: str, after: int) -> None:
        oldest = (int((time.time() - LONGEST_ABSENCE) * 1000) - _EPOCH) << 22
        after = max(after, oldest)
        for _ in range(MOST_MISSED // _PAGE):
            page = await self._page(chat, after)
            if page is None and not guild:
                self._progress.forget(chat)
            if not page:
                break
            await self._deliver_missed(page, guild)
            after = int(page[-1]["id"])
            self._progress.reach(chat, after)
            self._progress.hold(chat, after)
            if len(page) < _PAGE:
                break
        else:
            log.warning("%s: more than %d messages were missed in one channel", self._bot.channel, MOST_MISSED)
        self._progress.release(chat)
        self._take_late(chat, after)

    async def _page(self, chat: str, after: int) -> list[Json] | None:
        """The oldest messages after that one, in order; None when the channel cannot be read."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=chat)
        async with self._reading:
            page = await self._ask(route, params={"after": str(after), "limit": str(_PAGE)})
        try:
            return None if page is None else sorted(page, key=lambda message: int(message["id"]))
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: a page of messages cannot be read and is skipped", self._bot.channel)
            return []

    async def _deliver_missed(self, page: Iterable[Json], guild: str) -> None:
        begun = []
        for message in page:
            data = {**message, "guild_id": guild} if guild else message
            if (read := self._read("MESSAGE_CREATE", data)) is not None:
                begun.append(self._keep(read))
        # Begun in order, side by side.
        await asyncio.gather(*begun)

    def _take_late(self, chat: str, after: int) -> None:
        self._catching.pop(chat, None)
        for event, data in self._late.pop(chat, ()):
            self._waiting -= 1
            if event == "MESSAGE_CREATE" and int(data["id"]) <= after:
                self._progress.done(chat, int(data["id"]))
            else:
                self._take(event, data)

    async def _ask(self, route: Route, **options: Any) -> Any:
        """Insists. None when it is refused."""
        backoff = Backoff()
        while True:
            try:
                with discord_errors():
                    return await self._rest.request(route, **options)
            except RetryLater as error:
                await asyncio.sleep(error.after)
            except Unreachable as error:
                log.info("%s: %s does not work yet: %s", self._bot.channel, route.path, error)
                await backoff.pause()
            except Undeliverable as error:
                log.info("%s: %s is refused: %s", self._bot.channel, route.path, error)
                return None

    # --- what is said ---

    def _take(self, event: str, data: Json) -> None:
        """Begins to keep it, before anything that is heard later."""
        message = self._read(event, data)
        if message is not None and event == "INTERACTION_CREATE":
            id, application, token = (str(data[part]) for part in ("id", "application_id", "token"))
            if data["type"] == COMMAND:
                self._interactions.expect(id, application, token)
            self._spawn(self._answer(message, id, token, is_command=data["type"] == COMMAND))
        elif message is not None:
            self._spawn(self._keep_live(event, data, message))
        elif event == "MESSAGE_CREATE":
            self._progress.done(str(data["channel_id"]), int(data["id"]))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    def _read(self, event: str, data: Json) -> InboundMessage | None:
        try:
            if event in ("MESSAGE_CREATE", "MESSAGE_UPDATE") and "author" in data:
                self._authors[str(data["id"])] = author(data)
                if len(self._authors) > _AUTHORS:
                    self._authors.popitem(last=False)
            return parse(event, data, self._bot, self._rooms, self._authors, datetime.now(UTC))
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event %s cannot be read and is skipped", self._bot.channel, event)
            return None

    async def _keep_live(self, event: str, data: Json, message: InboundMessage) -> None:
        await self._keep(message)
        if event == "MESSAGE_CREATE":
            self._progress.done(message.address.chat, int(data["id"]))

    async def _keep(self, message: InboundMessage) -> Receipt | None:
        """Insists: Discord would not deliver it again."""
        if not self._stuck:
            try:
                return await self._deliver(message)
            except Exception:
                # Whatever went wrong in the house, the message must not be lost.
                log.exception("%s: a message could not be kept and is tried again", self._bot.channel)
        self._stuck += 1
        try:
            # One after another, as they came.
            async with self._mending:
                return await self._keep_at_last(message)
        finally:
            self._stuck -= 1

    async def _keep_at_last(self, message: InboundMessage) -> Receipt | None:
        backoff = Backoff()
        while True:
            try:
                accepted = await self._deliver(message)
            except Exception:
                log.exception("%s: a message can still not be kept", self._bot.channel)
                self._trouble("messages cannot be kept, and wait")
                await backoff.pause()
            else:
                self._trouble("")
                return accepted

    async def _answer(self, message: InboundMessage, id: str, token: str, *, is_command: bool) -> None:
        """Keeps it, and then tells the person's client that it has arrived."""
        accepted = await self._keep(message)
        heeded = accepted is not None and accepted.refused is None
        answer: Json = {"type": _THINKING if is_command else _UNCHANGED}
        if is_command and not heeded:
            answer = {"type": _MESSAGE, "data": {"content": "I may not do that for you here.", "flags": _EPHEMERAL}}
        route = Route("POST", "/interactions/{id}/{token}/callback", id=id, token=token)
        try:
            await self._rest.request(route, json=answer)
        except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("%s: an interaction could not be answered: %s", self._bot.channel, error)
            self._interactions.deferred(id, usable=False)
        else:
            self._interactions.deferred(id, usable=heeded)
