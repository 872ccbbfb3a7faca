"""Discord's roles: which there are, and who has those that the settings name. From events, else requested."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any

from discord.http import Route

from channels.address import Sender
from channels.channel import Group
from channels.discord.parse import Json, member

PREFIX = "role:"
"""How a role is written in the settings, before its name or id."""

FRESH_SECONDS = 30.0
"""How long a member's roles are used without asking again."""

GUILDS_SECONDS = 600.0
"""The same for which roles there are."""

MAX_CACHED = 5000

Call = Callable[[Route], Awaitable[Any]]
"""Calls until Discord answers; None if it rejects the call."""


class MemberRoles:
    """Close it with `aclose()`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._watched: frozenset[str] = frozenset()
        self._guilds: dict[str, dict[str, str]] = {}
        """The names of roles by id, by guild."""
        self._guilds_at = 0.0
        self._members: OrderedDict[tuple[str, str], tuple[float, frozenset[str]]] = OrderedDict()
        """A member's roles with the time in monotonic seconds, by guild and user."""
        self._lookups: dict[str, asyncio.Task[None]] = {}

    async def aclose(self) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    def watch(self, ids: Collection[str]) -> None:
        self._watched = frozenset(id.removeprefix(PREFIX) for id in ids if id.startswith(PREFIX))

    async def find(self, names: Collection[str]) -> dict[str, Group]:
        """By "role:NAME". Only if the bot is in one server: whoever has the bot in a server of their own may give roles
        any name there."""
        wanted = {name for name in names if name.startswith(PREFIX)}
        if not wanted:
            return {}
        await self._load_guilds()
        if len(self._guilds) != 1:
            return {}
        [roles] = self._guilds.values()
        found: dict[str, list[str]] = {}
        for id, name in roles.items():
            found.setdefault(f"{PREFIX}{name.lower()}", []).append(id)
        return {
            name: Group(f"{PREFIX}{ids[0]}", roles[ids[0]])
            for name, ids in found.items()
            if name in wanted and len(ids) == 1
        }

    def learn(self, data: Json, guild: str) -> None:
        """From an event or message, if it says which roles its author has in the guild."""
        given = data.get("member") or {}
        user = data.get("author") or given.get("user") or {}
        if self._watched and guild and "roles" in given and "id" in user:
            self._keep(guild, str(user["id"]), given)

    async def of(self, user: str) -> frozenset[str]:
        """The watched roles that the user has, in all servers of the bot. Does not wait for what is known, and those
        who wait for the same user go on in their order."""
        if self._watched and not self._is_known(user):
            if user not in self._lookups:
                lookup = self._lookups[user] = asyncio.create_task(self._look_up(user))
                lookup.add_done_callback(lambda _: self._lookups.pop(user, None))
            await asyncio.shield(self._lookups[user])
        roles = (self._members[guild, user][1] for guild in self._relevant() if (guild, user) in self._members)
        return frozenset(f"{PREFIX}{role}" for each in roles for role in each & self._watched)

    async def added_to(self, sender: Sender) -> Sender:
        """The person with their watched roles."""
        if not self._watched or not sender.is_person or not sender.id:
            return sender
        return replace(sender, groups=await self.of(sender.id))

    async def person(self, known: Sender) -> Sender:
        """The person with their roles now: none, if they are in no server of the bot any more, like somebody who writes
        to it directly. Without watched roles nobody is asked for."""
        if not self._watched:
            return replace(known, groups=frozenset())
        found, user = known, known.id
        await self._load_guilds()
        for guild in self._guilds:
            data = await self._call(_member_route(guild, user))
            self._keep(guild, user, data or {})
            found = found if data is None else member(data)
        return replace(found, groups=await self.of(user))

    def _relevant(self) -> list[str]:
        """The servers that have watched roles."""
        return [guild for guild, roles in self._guilds.items() if self._watched & roles.keys()]

    def _is_known(self, user: str) -> bool:
        now = time.monotonic()
        if not self._guilds_at or now - self._guilds_at > GUILDS_SECONDS:
            return False
        times = [self._members.get((guild, user), (-math.inf,))[0] for guild in self._relevant()]
        return all(now - at < FRESH_SECONDS for at in times)

    async def _look_up(self, user: str) -> None:
        await self._load_guilds()
        for guild in self._relevant():
            self._keep(guild, user, await self._call(_member_route(guild, user)) or {})

    def _keep(self, guild: str, user: str, data: Json) -> None:
        self._members[guild, user] = time.monotonic(), frozenset(map(str, data.get("roles") or ()))
        self._members.move_to_end((guild, user))
        if len(self._members) > MAX_CACHED:
            self._members.popitem(last=False)

    async def _load_guilds(self) -> None:
        guilds = {}
        for guild in await self._call(Route("GET", "/users/@me/guilds")) or ():
            id = str(guild["id"])
            roles = await self._call(Route("GET", "/guilds/{guild_id}/roles", guild_id=id)) or ()
            guilds[id] = {str(role["id"]): str(role["name"]) for role in roles}
        self._guilds, self._guilds_at = guilds, time.monotonic()


def _member_route(guild: str, user: str) -> Route:
    return Route("GET", "/guilds/{guild_id}/members/{user_id}", guild_id=guild, user_id=user)
