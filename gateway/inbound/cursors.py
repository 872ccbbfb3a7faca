"""A channel's cursors, stored in the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from channels.channel import NotStored
from gateway.store.errors import StoreError


class CursorStore(Protocol):
    async def cursors(self, channel: str) -> dict[str, str]: ...
    async def keep_cursors(self, channel: str, positions: Mapping[str, str | None]) -> None: ...


class StoredCursors:
    """Implements `channels.channel.Cursors`."""

    def __init__(self, store: CursorStore, channel: str) -> None:
        self._store = store
        self._channel = channel

    async def load(self) -> dict[str, str]:
        return await self._store.cursors(self._channel)

    async def save(self, positions: Mapping[str, str | None]) -> None:
        try:
            await self._store.keep_cursors(self._channel, positions)
        except StoreError as error:
            raise NotStored(f"The read position cannot be stored: {error}") from error
