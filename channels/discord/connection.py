"""The gateway connection, with discord.py's client: tells what it hears, in order, and comes back whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket, ReconnectWebSocket

from channels.channel import ChannelRejected
from channels.discord.api import Backoff, Rest
from channels.discord.parse import Json

log = logging.getLogger(__name__)

Hear = Callable[[str, Json], None]
"""Called with each event's name and raw data, in the order of arrival, before anything else happens."""

HEARD = (
    *("READY", "RESUMED", "GUILD_CREATE", "GUILD_DELETE", "GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE"),
    *("CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE"),
    *("THREAD_CREATE", "THREAD_UPDATE", "THREAD_DELETE", "THREAD_LIST_SYNC"),
    *("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK", "INTERACTION_CREATE"),
)

IDENTIFY_EVERY = 5.0
"""https://discord.com/developers/docs/events/gateway#rate-limiting: seconds between two new sessions."""

_OPENING = 60.0
_HOPELESS = 2
"""Connections that end before they tell anything, after which a session is not resumed again."""
_RESUMES = 6
"""Attempts to come back to a session."""

_HASTY, _MOST_HASTY = 10.0, 3
"""Connections that end within so many seconds; after so many in a row there are pauses between them."""

# Voice is not for us, and the library would say so at each start.
discord.VoiceClient.warn_nacl = False
discord.VoiceClient.warn_dave = False


class Behind(Exception):
    """More is heard than can be kept: the session is given up, and what was missed is read later."""


@dataclass(frozen=True, slots=True)
class _Session:
    id: str
    sequence: int | None
    url: yarl.URL


class Connection(discord.Client):
    """Use as `async with`. `trouble` is told in words, and taken back with "".

    Of the library's client only the connection is used: events go to `hear` instead of its own cache.
    """

    def __init__(
        self,
        name: str,
        rest: Rest,
        url: str,
        hear: Hear,
        calm: Callable[[], Awaitable[None]],
        trouble: Callable[[str], None],
        identify_every: float,
    ) -> None:
        """`calm` returns when `hear` would not raise `Behind`; `identify_every` is in seconds."""
        intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=True, message_content=True)
        flags = discord.MemberCacheFlags.none()
        super().__init__(intents=intents, max_messages=None, member_cache_flags=flags, chunk_guilds_at_startup=False)
        self.http = self._connection.http = rest
        self._connection.parsers = {event: partial(self._hear, event) for event in HEARD}
        self._name = name
        self._tell = hear
        self._calm = calm
        self._trouble = trouble
        self._url = yarl.URL(url)
        self._socket_class = _socket_class(self._url, self._opened)
        self._socket: DiscordWebSocket | None = None
        self._session: _Session | None = None
        self._settled = False
        self._identify_every = identify_every
        self._identified = -identify_every

    async def close(self) -> None:
        """The session lives on at Discord, as it would not with the code 1000."""
        if self._socket is not None:
            await self._socket.close(4000)
            self._socket = None

    async def listen(self) -> None:
        """Hears until cancelled. Raises `ChannelRejected`."""
        backoff, fruitless, failures, hasty = Backoff(), 0, 0, 0
        while True:
            self._settled = False
            began = time.monotonic()
            try:
                opened = await self._stay()
            except discord.ConnectionClosed as error:
                raise self._rejected(error) from error
            failures, fruitless = (0, 0) if self._settled else (failures + 1, fruitless + opened)
            if fruitless >= _HOPELESS or failures >= _RESUMES:
                self._session, fruitless, failures = None, 0, 0
            hasty = hasty + 1 if time.monotonic() - began < _HASTY else 0
            if not self._settled:
                self._trouble("Discord cannot be reached")
                await backoff.pause()
            elif hasty > _MOST_HASTY:
                await backoff.pause()
            else:
                backoff = Backoff()

    async def _stay(self) -> bool:
        """One connection, until it ends. Whether it was opened. Raises `discord.ConnectionClosed`."""
        session, opened = self._session, False
        if session is None:
            await asyncio.sleep(self._identified + self._identify_every - time.monotonic())
        try:
            async with asyncio.timeout(_OPENING):
                socket = await self._open(session)
            opened = True
            if session is None:
                self._identified = time.monotonic()
            while True:
                await socket.poll_event()
        except ReconnectWebSocket as error:
            log.info("%s: the gateway asks to connect again", self._name)
            self._remember(keep=error.resume)
        except Behind:
            log.warning("%s: more is said than can be kept; it will be read later", self._name)
            self._remember(keep=False)
            await self.close()
            await self._calm()
        except discord.ConnectionClosed:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("%s: the gateway connection is lost: %r", self._name, error)
            self._remember(keep=True)
        except Exception:
            # Whatever the library makes of what it cannot read: it may be better the next time.
            log.exception("%s: the gateway sent something that cannot be read", self._name)
            self._remember(keep=True)
        finally:
            await self.close()
        return opened

    async def _open(self, session: _Session | None) -> DiscordWebSocket:
        if session is None:
            return await self._socket_class.from_client(self, initial=True, gateway=self._url)
        return await self._socket_class.from_client(
            self, gateway=session.url, session=session.id, sequence=session.sequence, resume=True
        )

    def _opened(self, socket: DiscordWebSocket) -> None:
        # Known before the greeting, so that it is closed whenever we are stopped.
        self._socket = socket

    def _remember(self, *, keep: bool) -> None:
        socket = self._socket
        if not keep:
            self._session = None
        elif socket is not None and socket.session_id is not None:
            self._session = _Session(socket.session_id, socket.sequence, socket.gateway)

    def _hear(self, event: str, data: Any) -> None:
        if event in ("READY", "RESUMED"):
            self._settled = True
            self._trouble("")
        self._tell(event, data)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """The library would wait for five seconds; `_stay` has waited as long as need be."""

    def _rejected(self, error: discord.ConnectionClosed) -> ChannelRejected:
        match error.code:
            case 4004:
                return bad_token(self._name)
            case 4013 | 4014:
                return ChannelRejected(
                    f"Discord does not let the bot of channel {self._name!r} read messages: enable the Message Content "
                    "intent of its application (Discord Developer Portal, Bot, Privileged Gateway Intents)"
                )
        return ChannelRejected(
            f"Discord closed the connection of channel {self._name!r} for good, with the code {error.code}; see "
            "https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes"
        )


def bad_token(name: str) -> ChannelRejected:
    return ChannelRejected(
        f"Discord does not accept the token of channel {name!r}. Get the bot's token from the Discord Developer Portal "
        f"(your application, Bot, Reset Token) and put it into channels.{name}.token"
    )


def _socket_class(url: yarl.URL, opened: Callable[[DiscordWebSocket], None]) -> type[DiscordWebSocket]:
    """One for each account: the library keeps the gateway's address in the class."""

    class Socket(DiscordWebSocket):
        DEFAULT_GATEWAY = url

        def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(socket, loop=loop)
            opened(self)

    return Socket
