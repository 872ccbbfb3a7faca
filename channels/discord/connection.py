"""The gateway connection, with discord.py's client: hands on events in order and reconnects after every failure."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket, ReconnectWebSocket

from channels.backoff import Backoff
from channels.channel import ChannelRejected, Shard
from channels.discord.api import Rest, token_rejected
from channels.discord.parse import Json
from channels.discord.progress import Progress
from channels.discord.starts import SessionStarts, Turn

log = logging.getLogger(__name__)


EVENTS = (
    *("READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE", "GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE"),
    *("CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE"),
    *("THREAD_CREATE", "THREAD_UPDATE", "THREAD_DELETE", "THREAD_LIST_SYNC"),
    *("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK", "INTERACTION_CREATE"),
)

REACTIONS = "MESSAGE_REACTION_ADD"
"""Only comes where it was asked for."""

_OPEN_TIMEOUT = 60.0
_MAX_EMPTY = 2
"""Connections in a row that end without any event, after which the session is dropped."""
_MAX_RESUMES = 6
"""Attempts to resume a session."""

_SHORT_LIFE, _MAX_SHORT = 10.0, 3
"""A connection that ends within so many seconds is short; after so many in a row there are pauses between them."""

# Voice is not used, and the library would warn about it at each start.
discord.VoiceClient.warn_nacl = False
discord.VoiceClient.warn_dave = False


@dataclass(frozen=True, slots=True)
class Event:
    """`sequence` is its number in the session. `replayed`: it happened while nobody was connected."""

    name: str
    data: Json
    sequence: int
    replayed: bool = False


Receive = Callable[[Event], None]
"""Called with each event, in the order of arrival, before anything else happens."""


class Behind(Exception):
    """Events arrive faster than they can be stored: the session is dropped, and missed messages are read later."""


class OtherShards(Exception):
    """Discord wants another number of connections than there are: the code 4010 or 4011 of
    https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes"""

    def __init__(self, code: int) -> None:
        super().__init__(f"Discord closed the connection with the code {code}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session at Discord and the number of the last event of it; `url` is where to resume it."""

    id: str
    sequence: int | None
    url: yarl.URL


def wanted_intents(*, reactions: bool) -> discord.Intents:
    """`reactions`: whether people's reactions are received."""
    return discord.Intents(
        guilds=True,
        guild_messages=True,
        dm_messages=True,
        message_content=True,
        guild_reactions=reactions,
        dm_reactions=reactions,
    )


def saved_session(state: Mapping[str, Any], intents: discord.Intents) -> Session | None:
    """The session that another process has left (see `Connection.saved`), if it gets the same kinds of events."""
    match state:
        case {"session": str(id), "sequence": int(sequence), "url": str(url), "intents": intents.value}:
            return Session(id, sequence, yarl.URL(url))
    return None


class Connection(discord.Client):
    """Use as `async with`. `problem` is called with the current problem, "" for none.

    Of the library's client only the connection is used: events go to `receive` instead of its own cache.
    """

    def __init__(
        self,
        name: str,
        rest: Rest,
        url: str,
        receive: Receive,
        drained: Callable[[], Awaitable[None]],
        problem: Callable[[str], None],
        starts: SessionStarts,
        *,
        shard: Shard,
        intents: discord.Intents,
        progress: Progress,
        session: Session | None = None,
        may_connect: Callable[[], bool] = lambda: True,
    ) -> None:
        """`drained` returns when `receive` would not raise `Behind`; `starts` says when a session may begin. `session`
        is one that another process has left, `progress` that of `receive`. No connection is opened unless
        `may_connect`."""
        super().__init__(
            intents=intents,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            shard_count=shard.count,
        )
        self.http = self._connection.http = rest
        self._connection.parsers = {event: partial(self._received, event) for event in (*EVENTS, REACTIONS)}
        self._name = name
        self._receive = receive
        self._drained = drained
        self._problems = problem
        self._url = yarl.URL(url)
        self._socket_class = _socket_class(self._url, self._opened)
        self._socket: DiscordWebSocket | None = None
        self._session = session
        self._progress = progress
        self._may_connect = may_connect
        self._established = False
        self._replaying = False
        self._starts = starts
        self._turn: Turn | None = None
        self._shard = shard

    async def close(self) -> None:
        """Discord keeps the session; with the code 1000 it would end it."""
        if self._socket is not None:
            await self._socket.close(4000)
            self._socket = None

    def saved(self) -> Json:
        """What another process needs to go on with the session (see `saved_session`): it gets all events from the first
        one on that is not stored yet. Empty if there is no session."""
        session, sequence = self._session, self._progress.sequence
        if session is None or not sequence:
            return {}
        url, intents = str(session.url), self._connection.intents.value
        return {"session": session.id, "sequence": sequence, "url": url, "intents": intents}

    async def listen(self) -> None:
        """Receives events until cancelled. Raises `ChannelRejected` or `OtherShards`."""
        backoff, empty, failures, short = Backoff(), 0, 0, 0
        while True:
            if not self._may_connect():
                await Backoff().pause()
                continue
            if self._session is None:
                self._turn = await self._starts.begin(self._shard.number)
                if not self._may_connect():
                    self._end_turn()
                    continue
            self._established, self._replaying = False, self._session is not None
            began = time.monotonic()
            try:
                opened = await self._connect_once()
            except discord.ConnectionClosed as error:
                if error.code in (4010, 4011):
                    raise OtherShards(error.code) from error
                raise self._rejection(error) from error
            failures, empty = (0, 0) if self._established else (failures + 1, empty + opened)
            if empty >= _MAX_EMPTY or failures >= _MAX_RESUMES:
                self._session, empty, failures = None, 0, 0
            short = short + 1 if time.monotonic() - began < _SHORT_LIFE else 0
            if not self._established:
                self._problems("Discord is not reachable")
                await backoff.pause()
            elif short > _MAX_SHORT:
                await backoff.pause()
            else:
                backoff = Backoff()

    async def _connect_once(self) -> bool:
        """One connection, until it ends. Returns whether it was opened. Raises `discord.ConnectionClosed`."""
        session, opened = self._session, False
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT):
                socket = await self._open(session)
            opened = True
            while True:
                await socket.poll_event()
        except ReconnectWebSocket as error:
            log.info("%s: the gateway asks to reconnect", self._name)
            self._save_session(keep=error.resume)
        except Behind:
            log.warning("%s: messages arrive faster than they can be stored; they will be read later", self._name)
            self._save_session(keep=False)
            await self.close()
            await self._drained()
        except discord.ConnectionClosed:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("%s: the gateway connection is lost: %r", self._name, error)
            self._save_session(keep=True)
        except Exception:
            # Any error of the library about data that it cannot read: reconnecting may help.
            log.exception("%s: the gateway sent data that cannot be read", self._name)
            self._save_session(keep=True)
        finally:
            self._end_turn()
            await self.close()
        return opened

    async def _open(self, session: Session | None) -> DiscordWebSocket:
        if session is None:
            return await self._socket_class.from_client(self, initial=True, gateway=self._url, shard_id=self._shard_id)
        return await self._socket_class.from_client(
            self,
            gateway=session.url,
            shard_id=self._shard_id,
            session=session.id,
            sequence=session.sequence,
            resume=True,
        )

    @property
    def _shard_id(self) -> int | None:
        """https://discord.com/developers/docs/events/gateway#sharding. A bot with one connection names none."""
        return None if self._shard.count == 1 else self._shard.number

    def _end_turn(self) -> None:
        if self._turn is not None:
            # A socket may have asked for a session, whatever became of it.
            self._turn.end(used=self._socket is not None)
            self._turn = None

    def _opened(self, socket: DiscordWebSocket) -> None:
        # Set before the handshake, so that it is closed whenever the channel is stopped.
        self._socket = socket

    def _save_session(self, *, keep: bool) -> None:
        socket = self._socket
        if not keep:
            self._session = None
        elif socket is not None and socket.session_id is not None:
            self._session = Session(socket.session_id, socket.sequence, socket.gateway)

    def _received(self, event: str, data: Any) -> None:
        if event in ("READY", "RESUMED"):
            self._established, self._replaying = True, False
            self._save_session(keep=True)
            self._end_turn()
            self._problems("")
        sequence = self._socket.sequence if self._socket is not None else None
        self._receive(Event(event, data, sequence or 0, self._replaying))

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """The library would wait for five seconds; `listen` has waited already."""

    def _rejection(self, error: discord.ConnectionClosed) -> ChannelRejected:
        match error.code:
            case 4004:
                return token_rejected(self._name)
            case 4013 | 4014:
                return ChannelRejected(
                    f"the bot of channel {self._name!r} may not read messages: enable the Message Content "
                    "intent of its application (Discord Developer Portal, Bot, Privileged Gateway Intents)"
                )
        return ChannelRejected(
            f"Discord closed the connection of channel {self._name!r} with the code {error.code}; see "
            "https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes"
        )


def _socket_class(url: yarl.URL, opened: Callable[[DiscordWebSocket], None]) -> type[DiscordWebSocket]:
    """One per account: the library stores the gateway's URL in the class."""

    class Socket(DiscordWebSocket):
        DEFAULT_GATEWAY = url

        def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(socket, loop=loop)
            opened(self)

    return Socket
