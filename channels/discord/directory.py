"""What Discord told of its channels, threads and roles. Pure; only names and kinds are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

_THREADS = frozenset({10, 11, 12})
_SPEECHLESS = frozenset({4, 14, 15, 16})
"""Categories, directories and forums hold channels and threads.

https://discord.com/developers/docs/resources/channel#channel-object-channel-types
"""


@dataclass(frozen=True, slots=True)
class Room:
    """A channel or thread of a guild. `parent` is a thread's channel; `last` the newest message's id, "0" if none.

    `speech`: messages stand in it.
    """

    id: str
    name: str
    guild: str
    thread: bool = False
    parent: str = ""
    last: str = "0"
    speech: bool = True


def room(card: Json, guild: str) -> Room:
    """From a channel object."""
    return Room(
        str(card["id"]),
        str(card.get("name") or card["id"]),
        guild,
        card["type"] in _THREADS,
        str(card.get("parent_id") or ""),
        str(card.get("last_message_id") or 0),
        card["type"] not in _SPEECHLESS,
    )


@dataclass(slots=True)
class Directory:
    """By id. `own_roles` are those that stand for the bot itself: to mention them is to mention it."""

    account: str
    known: dict[str, Room] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    own_roles: set[str] = field(default_factory=set)

    def learn(self, event: str, data: Json) -> tuple[Room, ...]:
        """The rooms that the event tells of. Archived threads are forgotten: there may be no end of them."""
        match event:
            case "GUILD_CREATE":
                for role in data.get("roles") or ():
                    self._role(role)
                return self._enter(data, str(data["id"]))
            case "THREAD_LIST_SYNC":
                return self._enter(data, str(data["guild_id"]))
            case "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" if data.get("guild_id"):
                return tuple(self._add(data, str(data["guild_id"])))
            case "CHANNEL_DELETE" | "THREAD_DELETE":
                self.known.pop(str(data["id"]), None)
            case "GUILD_DELETE" if not data.get("unavailable"):
                left = str(data["id"])
                self.known = {id: room for id, room in self.known.items() if room.guild != left}
            case "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE":
                self._role(data["role"])
        return ()

    def _enter(self, data: Json, guild: str) -> tuple[Room, ...]:
        cards = [*(data.get("channels") or ()), *(data.get("threads") or ())] if "id" in data else data["threads"]
        return tuple(room for card in cards for room in self._add(card, guild))

    def _add(self, card: Json, guild: str) -> Iterator[Room]:
        found = room(card, guild)
        if (card.get("thread_metadata") or {}).get("archived"):
            self.known.pop(found.id, None)
            return
        self.known[found.id] = found
        yield found

    def _role(self, role: Json) -> None:
        self.roles[str(role["id"])] = str(role["name"])
        if str((role.get("tags") or {}).get("bot_id")) == self.account:
            self.own_roles.add(str(role["id"]))
