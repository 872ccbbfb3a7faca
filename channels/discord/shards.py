"""All connections of an account in one place, for a channel that shares them with nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from channels.channel import Lease, ListenOn, Shard
from channels.message import Deliver


class AllShards:
    """`channels.channel.Shards` without other workers."""

    def __init__(self) -> None:
        self._turns: dict[str, asyncio.Lock] = {}

    async def listen(self, count: int, listen: ListenOn, deliver: Deliver) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(listen(Shard(number, count), _Unshared(), deliver))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Lease]:
        async with self._turns.setdefault(name, asyncio.Lock()):
            yield _Unshared()


class _Unshared:
    """A lease that nobody else can have."""

    state: Mapping[str, Any] = {}

    def is_held(self) -> bool:
        return True

    async def save(self, state: Mapping[str, Any]) -> None:
        """There is no next holder."""
