"""Who can read in a channel of a Discord server, by roles and overwrites."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import discord
from discord.http import Route

Json = dict[str, Any]
Request = Callable[[Route], Awaitable[Any]]

PRIVATE_THREAD = 12
_THREADS = (10, 11, PRIVATE_THREAD)
_ROLE, _PERSON = 0, 1


async def can_read(request: Request, channel: str, person: str) -> bool:
    """Whether the person may view the channel or thread: https://discord.com/developers/docs/topics/permissions. Raises
    what the request raises."""
    place = await _found(request, Route("GET", "/channels/{channel_id}", channel_id=channel))
    if place is None or not place.get("guild_id"):
        return False
    guild_id = place["guild_id"]
    member = await _found(
        request, Route("GET", "/guilds/{guild_id}/members/{user_id}", guild_id=guild_id, user_id=person)
    )
    if member is None:
        return False
    guild = await request(Route("GET", "/guilds/{guild_id}", guild_id=guild_id))
    overwritten = place
    if place["type"] in _THREADS:
        # A thread has the permissions of its channel.
        overwritten = await request(Route("GET", "/channels/{channel_id}", channel_id=place["parent_id"]))
    permissions = permissions_of(person, member, guild, overwritten.get("permission_overwrites") or [])
    if not permissions.view_channel:
        return False
    if place["type"] != PRIVATE_THREAD or permissions.manage_threads:
        return True
    route = Route("GET", "/channels/{channel_id}/thread-members/{user_id}", channel_id=channel, user_id=person)
    return await _found(request, route) is not None


def permissions_of(person: str, member: Json, guild: Json, overwrites: list[Json]) -> discord.Permissions:
    """What the member may do in the channel with these overwrites. Those for @everyone, whose role has the id of the
    guild, come first, then those for the member's roles together, then that for the member. Pure."""
    if person == guild["owner_id"]:
        return discord.Permissions.all()
    everyone, roles = str(guild["id"]), {str(role) for role in member.get("roles") or ()}
    given = 0
    for role in guild.get("roles") or ():
        if str(role["id"]) in roles | {everyone}:
            given |= int(role["permissions"])
    permissions = discord.Permissions(given)
    if permissions.administrator:
        return discord.Permissions.all()
    own = [each for each in overwrites if int(each["type"]) == _PERSON and str(each["id"]) == person]
    by_role = [each for each in overwrites if int(each["type"]) == _ROLE]
    for applied in (
        [each for each in by_role if str(each["id"]) == everyone],
        [each for each in by_role if str(each["id"]) in roles - {everyone}],
        own,
    ):
        denied = allowed = 0
        for each in applied:
            denied |= int(each["deny"])
            allowed |= int(each["allow"])
        permissions = discord.Permissions((permissions.value & ~denied) | allowed)
    return permissions


async def _found(request: Request, route: Route) -> Any:
    """None for what is not there, or not for the bot."""
    try:
        return await request(route)
    except (discord.NotFound, discord.Forbidden):
        return None
