"""Fetching: what a message brings along from its platform (files, the message that its thread began with)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from agent.media import Attachment, MediaError, MediaStore
from channels.address import Address
from channels.channel import Channel, FileUnavailable, RetryLater, Unreachable
from channels.message import FileRef
from gateway.lifecycle.retry import retry_until_stored
from gateway.store import records

log = logging.getLogger(__name__)

T = TypeVar("T")

ALBUM_SETTLES = 0.5
"""Seconds after which an album's files, which come one by one, are taken to be complete."""

ATTEMPTS = 5
WITHIN = 120.0
"""Seconds for one attempt at one file."""

LONGEST_PAUSE = 60.0
MOST_SIDE_BY_SIDE = 8

OPENING_LENGTH = 4000
"""Characters of the message that a thread began with that the model is shown."""

ReadFile = Callable[[Attachment], Awaitable[str]]
"""What a file says, in words for the model; "" when there is nothing to say of it. Never raises."""


class FetchStore(Protocol):
    async def unfetched(self, row_id: int) -> records.Unfetched | None: ...
    async def mark_ready(
        self, row_id: int, fetched: Sequence[FileRef], attachments: Sequence[Attachment], note: str
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class Completed:
    """A message that turns may read now. `missing` says of each file of its own that could not be had why not."""

    row: records.Unfetched
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Got:
    """What came of a file: its bytes are stored, or why not (`note`); or what it says (`note`)."""

    attachment: Attachment | None
    note: str


class _NotHad(Exception):
    """The message says why."""


class Fetching:
    def __init__(
        self, store: FetchStore, channels: Mapping[str, Channel], media: MediaStore, read_file: ReadFile
    ) -> None:
        self._store = store
        self._channels = channels
        self._media = media
        self._read_file = read_file
        self._places = asyncio.Semaphore(MOST_SIDE_BY_SIDE)

    async def complete(self, row_id: int) -> Completed | None:
        """Fetches what the message brings along and lets turns read it; what cannot be had is named in it.

        None if it waits no longer.
        """
        row = await self._unfetched(row_id)
        if row is not None and row.album is not None:
            await asyncio.sleep(ALBUM_SETTLES)
        before = () if row is None or row.thread_root is None else await self._begun_with(row.address, row.thread_root)
        fetched: dict[FileRef, _Got] = {}
        while (row := await self._unfetched(row_id)) is not None:
            for file in row.files:
                if file not in fetched:
                    fetched[file] = await self._file(row.address, file)
            own = [fetched[file] for file in row.files]
            if await retry_until_stored(partial(self._ready, row, [*before, *own]), "fetched files cannot be kept"):
                return Completed(row, tuple(got.note for got in own if got.attachment is None))
        return None

    async def _unfetched(self, row_id: int) -> records.Unfetched | None:
        return await retry_until_stored(lambda: self._store.unfetched(row_id), "the inbox cannot be read")

    async def _ready(self, row: records.Unfetched, got: Sequence[_Got]) -> bool:
        attachments = tuple(each.attachment for each in got if each.attachment is not None)
        note = "\n".join(each.note for each in got if each.note)
        return await self._store.ready(row.id, row.files, attachments, note)

    async def _begun_with(self, address: Address, message_id: str) -> tuple[_Got, ...]:
        """What the thread began with: its words, then its files."""
        try:
            opening = await self._patiently(address, lambda channel: channel.thread_root(address, message_id))
        except _NotHad as error:
            return (_Got(None, f"The message that this thread began with could not be had: {error}."),)
        if opening is None:
            return ()
        text = opening.text if len(opening.text) <= OPENING_LENGTH else f"{opening.text[:OPENING_LENGTH]}…"
        words = f'This thread began with a message of {opening.sender}: "{text}"'
        return (_Got(None, words), *[await self._file(address, file) for file in opening.files])

    async def _file(self, address: Address, file: FileRef) -> _Got:
        try:
            async with self._places:
                data = await self._patiently(address, lambda channel: channel.fetch(file))
                attachment = await self._media.put(data, file.name)
        except (_NotHad, MediaError) as error:
            return _Got(None, f"The file {file.name} could not be had: {error}.")
        except Exception as error:
            log.exception("a file could not be kept")
            return _Got(None, f"The file {file.name} could not be had: {type(error).__name__}.")
        return _Got(attachment, await self._read_file(attachment))

    async def _patiently(self, address: Address, get: Callable[[Channel], Awaitable[T]]) -> T:
        """Raises `_NotHad`: whatever breaks here must not hold the conversation up."""
        channel = self._channels.get(address.channel)
        if channel is None:
            raise _NotHad(f"{address.channel} is not connected any more")
        pause = 1.0
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(WITHIN):
                    return await get(channel)
            except FileUnavailable as error:
                raise _NotHad(str(error)) from error
            except (RetryLater, Unreachable, TimeoutError) as error:
                trouble = str(error) or "it took too long"
                await asyncio.sleep(min(LONGEST_PAUSE, error.after if isinstance(error, RetryLater) else pause))
                pause *= 2
            except Exception as error:
                log.exception("%s: fetching broke", channel.name)
                raise _NotHad(type(error).__name__) from error
        raise _NotHad(trouble)
