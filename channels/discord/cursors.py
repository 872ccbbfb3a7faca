"""The read position in each channel, so that messages sent while the bot is offline can be read later."""

from __future__ import annotations

from channels.channel import Cursors, Shard
from channels.discord.snowflakes import shard_number
from channels.position_saver import PositionSaver

SAVE_INTERVAL = 1.0
"""Minimum seconds between two writes."""

_DIRECT = "direct"
_GUILD = "guild="
"""Marks after a stored position, with spaces between. Only an account with several shards needs the guild."""


class MessageCursors:
    """By channel id: the newest message before which none is open. A message is open from `begin` until `done`. Of the
    channels of one shard: the others change where that listens."""

    def __init__(self, cursors: Cursors, shard: Shard) -> None:
        self._cursors = cursors
        self._shard = shard
        self._guilds: dict[str, str] = {}
        self._newest: dict[str, int] = {}
        self._open: dict[str, set[int]] = {}
        self._held: dict[str, int] = {}
        self._direct: set[str] = set()
        self._saver = PositionSaver(cursors, self._stored, SAVE_INTERVAL)

    async def load(self) -> None:
        for chat, stored in (await self._cursors.load()).items():
            position, *marks = stored.split()
            guild = next((mark.removeprefix(_GUILD) for mark in marks if mark.startswith(_GUILD)), "")
            if (guild or _DIRECT in marks) and shard_number(guild, self._shard.count) != self._shard.number:
                continue
            if _DIRECT in marks:
                self._direct.add(chat)
            self.note_guild(chat, guild)
            self._newest[chat] = max(self._newest.get(chat, 0), int(position))

    def position(self, chat: str) -> int | None:
        """The id of the message up to which all are stored; None for an unknown channel."""
        if (newest := self._newest.get(chat)) is None:
            return None
        return min([newest, *(id - 1 for id in self._open.get(chat, ())), self._held.get(chat, newest)])

    def newest(self) -> int | None:
        """The newest message id of all its channels; None when nothing was ever read."""
        return max(self._newest.values(), default=None)

    def direct_chats(self) -> tuple[str, ...]:
        return tuple(self._direct)

    def begin(self, chat: str, id: int, guild: str) -> None:
        """`guild`: "" in a direct chat."""
        if chat not in self._newest:
            # Earlier messages are not for us.
            self._newest[chat] = id - 1
        if not guild:
            self._direct.add(chat)
        self.note_guild(chat, guild)
        self._open.setdefault(chat, set()).add(id)

    def note_guild(self, chat: str, guild: str) -> None:
        if guild.isdecimal() and self._shard.count > 1:
            self._guilds[chat] = guild

    def done(self, chat: str, id: int) -> None:
        still_open = self._open.get(chat, set())
        still_open.discard(id)
        if not still_open:
            self._open.pop(chat, None)
        self.advance(chat, id)

    def advance(self, chat: str, id: int) -> None:
        self._newest[chat] = max(self._newest.get(chat, 0), id)
        self._saver.changed(chat)

    def hold(self, chat: str, id: int) -> None:
        """Keeps the channel's position at most there, whatever is received, until `release`."""
        self._held[chat] = id

    def release(self, chat: str) -> None:
        self._held.pop(chat, None)
        self._saver.changed(chat)

    def reset(self) -> None:
        """Messages that were open will be read again."""
        for chat in {*self._open, *self._held}:
            self._newest[chat] = self.position(chat) or 0
        self._open.clear()
        self._held.clear()

    def forget(self, chat: str) -> None:
        self._direct.discard(chat)

    async def run(self) -> None:
        """Saves changed positions until cancelled."""
        await self._saver.run()

    async def save(self) -> None:
        await self._saver.save()

    def _stored(self, chat: str) -> str | None:
        id = self.position(chat)
        if not id:
            return None
        direct = [_DIRECT] if chat in self._direct else []
        guild = [_GUILD + self._guilds[chat]] if chat in self._guilds else []
        return " ".join([str(id), *direct, *guild])
