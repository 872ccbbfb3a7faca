"""Names and kinds of a guild's channels, threads and roles, as learnt from events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from channels.channel import Shard
from channels.discord.snowflakes import shard_number

Json = dict[str, Any]

_THREADS = frozenset({10, 11, 12})
_CONTAINERS = frozenset({4, 14, 15, 16})
"""Categories, directories and forums hold channels and threads instead of messages.

https://discord.com/developers/docs/resources/channel#channel-object-channel-types
"""


@dataclass(frozen=True, slots=True)
class GuildChannel:
    """A channel or thread of a guild. `parent` is a thread's channel; `last` the newest message's id, "0" if none.

    `has_messages`: it contains messages itself.
    """

    id: str
    name: str
    guild: str
    thread: bool = False
    parent: str = ""
    last: str = "0"
    has_messages: bool = True


def guild_channel(data: Json, guild: str) -> GuildChannel:
    """From a channel object."""
    return GuildChannel(
        str(data["id"]),
        str(data.get("name") or data["id"]),
        guild,
        data["type"] in _THREADS,
        str(data.get("parent_id") or ""),
        str(data.get("last_message_id") or 0),
        data["type"] not in _CONTAINERS,
    )


@dataclass(slots=True)
class Directory:
    """By id. `guilds` are those whose channels and roles are known, `own_roles` the bot's own roles: to mention one is
    to mention the bot."""

    account: str
    channels: dict[str, GuildChannel] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    own_roles: set[str] = field(default_factory=set)
    guilds: set[str] = field(default_factory=set)

    def forget(self, shard: Shard) -> None:
        """What was learnt of the servers of this shard may have changed since."""
        self.guilds = {id for id in self.guilds if shard_number(id, shard.count) != shard.number}
        self.channels = {
            id: channel
            for id, channel in self.channels.items()
            if shard_number(channel.guild, shard.count) != shard.number
        }

    def knows(self, channel: str, guild: str) -> bool:
        return channel in self.channels and guild in self.guilds

    def learn(self, event: str, data: Json) -> tuple[GuildChannel, ...]:
        """The channels in the event. Archived threads are removed: their number is unbounded."""
        match event:
            case "GUILD_CREATE":
                self.guilds.add(str(data["id"]))
                for role in data.get("roles") or ():
                    self._add_role(role)
                return self._add_all(data, str(data["id"]))
            case "THREAD_LIST_SYNC":
                return self._add_all(data, str(data["guild_id"]))
            case "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" if data.get("guild_id"):
                return tuple(self._add(data, str(data["guild_id"])))
            case "CHANNEL_DELETE" | "THREAD_DELETE":
                self.channels.pop(str(data["id"]), None)
            case "GUILD_DELETE" if not data.get("unavailable"):
                left = str(data["id"])
                self.guilds.discard(left)
                self.channels = {id: channel for id, channel in self.channels.items() if channel.guild != left}
            case "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE":
                self._add_role(data["role"])
        return ()

    def _add_all(self, data: Json, guild: str) -> tuple[GuildChannel, ...]:
        listed = [*(data.get("channels") or ()), *(data.get("threads") or ())] if "id" in data else data["threads"]
        return tuple(channel for each in listed for channel in self._add(each, guild))

    def _add(self, data: Json, guild: str) -> Iterator[GuildChannel]:
        found = guild_channel(data, guild)
        if (data.get("thread_metadata") or {}).get("archived"):
            self.channels.pop(found.id, None)
            return
        self.channels[found.id] = found
        yield found

    def _add_role(self, role: Json) -> None:
        self.roles[str(role["id"])] = str(role["name"])
        if str((role.get("tags") or {}).get("bot_id")) == self.account:
            self.own_roles.add(str(role["id"]))
