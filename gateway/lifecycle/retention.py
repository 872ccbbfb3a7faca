"""Retention: data is deleted at the age that the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

PAUSE = 3600.0
"""Seconds between two looks for data that is old enough."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Ages at which data is deleted; None: never. `channels` have their own age, `conversations` is for all others."""

    conversations: timedelta | None = None
    media: timedelta | None = None
    logs: timedelta | None = None
    channels: Mapping[str, timedelta] = field(default_factory=dict)


class OldData(Protocol):
    """Deletes what is older than an age."""

    async def delete_older(self, age: timedelta, channel: str | None, *, besides: frozenset[str]) -> None:
        """In the conversations of the channel; None: of all channels besides some."""

    async def expire_media(self, age: timedelta) -> None: ...

    async def expire_audit_log(self, age: timedelta) -> None: ...


async def keep_retention(data: OldData, retention: Callable[[], Retention]) -> None:
    """Deletes what is old enough, now and every hour; never returns. `retention` gives the ages as they are then."""
    while True:
        await delete_old(data, retention())
        await asyncio.sleep(PAUSE)


async def delete_old(data: OldData, retention: Retention) -> None:
    """Deletes what is old enough now."""
    for channel, age in retention.channels.items():
        await data.delete_older(age, channel, besides=frozenset())
    if retention.conversations is not None:
        await data.delete_older(retention.conversations, None, besides=frozenset(retention.channels))
    if retention.media is not None:
        await data.expire_media(retention.media)
    if retention.logs is not None:
        await data.expire_audit_log(retention.logs)
