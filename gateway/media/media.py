"""The media store: takes files in, finds out what they are, gives them out, and deletes those that nobody uses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Protocol

from agent.media import Attachment, FileTooLarge, MediaMissing
from gateway.media.blobs import HASH, BlobMissing, Blobs
from gateway.media.errors import storage_errors
from gateway.media.incoming import IncomingFile, incoming_file
from gateway.media.kinds import clean_name, examine
from gateway.store.media_cleanup import MAX_CLAIMED, MediaClaim

MAX_BYTES = 50 * 1024 * 1024


FIRST_PAUSE = 0.02
MAX_PAUSE = 1.0
"""Seconds until it is looked again whether another process has deleted the same bytes: twice as long each time."""

DELETION_TIMEOUT = 60.0
"""Seconds for deleting what was claimed together: much less than the claim holds (`gateway.store.media_cleanup`)."""

AT_ONCE = 20
"""Files that are deleted at once."""


class MediaTable(Protocol):
    """Metadata of the stored bytes (the store). See `gateway.store.media_cleanup`."""

    async def record_media(self, attachment: Attachment) -> bool: ...
    async def claim_unused_media(self, before: datetime) -> MediaClaim: ...
    async def claim_unused_media_of(self, hashes: Collection[str], since: datetime) -> MediaClaim: ...
    async def claim_unknown_media(self, hashes: Collection[str]) -> MediaClaim: ...
    async def end_media_claim(self, claim: MediaClaim, deleted: Collection[str], kept: Collection[str]) -> None: ...


class Media:
    """Implements `agent.media.MediaStore`. Every method raises `MediaUnavailable` when the storage or the database
    does not do its part; nothing is stored then."""

    def __init__(
        self,
        blobs: Blobs,
        table: MediaTable,
        max_bytes: int = MAX_BYTES,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`pause` waits for so many seconds, before it is looked again whether bytes can be stored."""
        self._blobs = blobs
        self._table = table
        self._max_bytes = max_bytes
        self._pause = pause
        self._read = read_from(blobs)

    async def put(self, data: bytes, name: str) -> Attachment:
        """Stores the bytes and finds their type. Raises `FileTooLarge`, or `MediaError` for a picture with too many
        pixels."""
        name = clean_name(name)
        if len(data) > self._max_bytes:
            raise FileTooLarge(name, len(data), self._max_bytes)
        async with incoming_file(self._blobs.incoming, name) as file:
            await file.write(data)
            return await self._take(file)

    async def put_stream(self, chunks: AsyncIterable[bytes], name: str, limit: int | None = None) -> Attachment:
        """As `put`, for bytes that are still arriving: they are never in memory together.

        `limit` is in bytes, where less is allowed than the media store takes; `FileTooLarge` is raised as soon as more
        have come. What the chunks raise passes through, and nothing is stored then.
        """
        name = clean_name(name)
        limit = self._max_bytes if limit is None else min(limit, self._max_bytes)
        async with incoming_file(self._blobs.incoming, name) as file:
            await file.receive(chunks, limit)
            return await self._take(file)

    async def put_unexamined(self, chunks: AsyncIterable[bytes], name: str) -> Attachment:
        """As `put_stream`, for a file of a workspace: its type is not found out, and it may have any size."""
        async with incoming_file(self._blobs.incoming, name) as file:
            await file.receive(chunks, sys.maxsize)
            attachment = Attachment(file.hash, name, "", file.size)
            with storage_errors(name):
                await self._store(attachment, file)
        return attachment

    async def read(self, attachment: Attachment) -> bytes:
        """The bytes. Raises `MediaMissing`."""
        return await self._read(attachment)

    @asynccontextmanager
    async def local_file(self, attachment: Attachment) -> AsyncIterator[Path]:
        """A file of this machine with the bytes, to be read only, and only inside the context. Raises
        `MediaMissing`."""
        async with AsyncExitStack() as stack:
            with storage_errors(attachment.name), _missing(attachment):
                path = await stack.enter_async_context(self._blobs.local_file(_hash(attachment)))
            yield path

    async def sweep(self, older_than: timedelta) -> int:
        """Deletes files that are older and that no message, no turn and no workspace uses; returns how many.

        Also deletes files that a crash left half written, and old ones that the database knows nothing of.
        """
        before = datetime.now(UTC) - older_than
        with storage_errors("unused media"):
            deleted = 0
            while (claim := await self._table.claim_unused_media(before)).hashes:
                deleted += await self._delete(claim)
            async for hashes in _batches(blob.hash async for blob in self._blobs.stored() if blob.changed < before):
                deleted += await self._delete(await self._table.claim_unknown_media(hashes))
            return deleted + await self._blobs.delete_leftovers(before)

    async def remove(self, hashes: Collection[str], since: datetime | None = None) -> int:
        """Deletes those of the files that no message, no turn and no workspace uses since then (None: now); how many.

        What may have been stored again for a message that is not there yet is left to `sweep`.
        """
        since = since or datetime.now(UTC)
        deleted, each = 0, iter(hashes)
        with storage_errors("unused media"):
            while batch := list(islice(each, MAX_CLAIMED)):
                deleted += await self._delete(await self._table.claim_unused_media_of(batch, since))
        return deleted

    async def _take(self, file: IncomingFile) -> Attachment:
        with storage_errors(file.name):
            attachment = await asyncio.to_thread(examine, file.path, file.hash, file.size, file.name)
            await self._store(attachment, file)
        return attachment

    async def _store(self, attachment: Attachment, file: IncomingFile) -> None:
        # In this order: once recorded, the bytes are claimed by nobody, so nobody deletes them any more.
        await self._record(attachment)
        await self._blobs.put(attachment.hash, file)

    async def _record(self, attachment: Attachment) -> None:
        pause = FIRST_PAUSE
        while not await self._table.record_media(attachment):
            await self._pause(pause)
            pause = min(MAX_PAUSE, 2 * pause)

    async def _delete(self, claim: MediaClaim) -> int:
        """Deletes what was claimed, and says how much of it when it fails, too."""
        deleted, kept, each = set[str](), set(claim.hashes), iter(claim.hashes)
        try:
            async with asyncio.timeout(DELETION_TIMEOUT):
                while batch := list(islice(each, AT_ONCE)):
                    kept.difference_update(batch)
                    await self._blobs.delete(batch)
                    deleted.update(batch)
        finally:
            if claim.hashes:
                await self._table.end_media_claim(claim, deleted, kept)
        return len(deleted)


def read_from(blobs: Blobs) -> Callable[[Attachment], Awaitable[bytes]]:
    """Reads what is stored there. Its result raises as `Media.read` does."""

    async def read(attachment: Attachment) -> bytes:
        with storage_errors(attachment.name), _missing(attachment):
            return await blobs.read(_hash(attachment))

    return read


def _hash(attachment: Attachment) -> str:
    """Safe as a part of a path."""
    if not HASH.fullmatch(attachment.hash):
        raise BlobMissing
    return attachment.hash


@contextmanager
def _missing(attachment: Attachment) -> Iterator[None]:
    try:
        yield
    except BlobMissing as error:
        raise MediaMissing(attachment) from error


async def _batches(hashes: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for hash in hashes:
        batch.append(hash)
        if len(batch) == MAX_CLAIMED:
            yield batch
            batch = []
    if batch:
        yield batch
