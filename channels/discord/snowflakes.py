"""Discord's ids, which have a time in them: https://discord.com/developers/docs/reference#snowflakes"""

from __future__ import annotations

_EPOCH = 1_420_070_400_000
"""In milliseconds since 1970."""


def first_id(at: float) -> int:
    """The smallest id of that time, in seconds since 1970."""
    return (int(at * 1000) - _EPOCH) << 22


def shard_number(guild: str, count: int) -> int:
    """Of the shard that gets the guild's events: https://discord.com/developers/docs/events/gateway#sharding-formula.
    Without a guild (""), as in direct messages, that is the first."""
    return (int(guild) >> 22) % count if guild.isdecimal() else 0


def made_at(id: str | int) -> float:
    """Seconds since 1970, on Discord's clock."""
    return ((int(id) >> 22) + _EPOCH) / 1000
