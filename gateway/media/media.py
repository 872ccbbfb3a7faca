"""The media store: takes files in, finds out what they are, gives them out, and deletes those that nobody uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from agent.media import Attachment, FileTooLarge, MediaMissing
from gateway.media.blobs import HASH, BlobMissing, Blobs
from gateway.media.errors import storage_errors
from gateway.media.incoming import IncomingFile, incoming_file
from gateway.media.kinds import clean_name, examine

MAX_BYTES = 50 * 1024 * 1024


class MediaTable(Protocol):
    """Metadata of the stored bytes (the store)."""

    async def record_media(self, attachment: Attachment) -> None: ...
    async def forget_unused_media(self, before: datetime) -> frozenset[str]: ...
    async def forget_media(self, hashes: Collection[str]) -> frozenset[str]: ...


class Media:
    """Implements `agent.media.MediaStore`. Every method raises `MediaUnavailable` when the storage or the database
    does not do its part; nothing is stored then."""

    def __init__(self, blobs: Blobs, table: MediaTable, max_bytes: int = MAX_BYTES) -> None:
        self._blobs = blobs
        self._table = table
        self._max_bytes = max_bytes
        self._read = read_from(blobs)
        self._lock = asyncio.Lock()

    async def put(self, data: bytes, name: str) -> Attachment:
        """Stores the bytes and finds their type. Raises `FileTooLarge`, or `MediaError` for a picture with too many
        pixels."""
        name = clean_name(name)
        if len(data) > self._max_bytes:
            raise FileTooLarge(name, len(data), self._max_bytes)
        with incoming_file(self._blobs.incoming, name) as file:
            await file.write(data)
            return await self._take(file)

    async def put_stream(self, chunks: AsyncIterable[bytes], name: str, limit: int | None = None) -> Attachment:
        """As `put`, for bytes that are still arriving: they are never in memory together.

        `limit` is in bytes, where less is allowed than the media store takes; `FileTooLarge` is raised as soon as more
        have come. What the chunks raise passes through, and nothing is stored then.
        """
        name = clean_name(name)
        limit = self._max_bytes if limit is None else min(limit, self._max_bytes)
        with incoming_file(self._blobs.incoming, name) as file:
            await file.receive(chunks, limit)
            return await self._take(file)

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
        """Deletes files that are older and that no message and no turn uses; returns how many.

        Also deletes files that a crash left half written.
        """
        before = datetime.now(UTC) - older_than
        with storage_errors("unused media"):
            async with self._lock:
                used = await self._table.forget_unused_media(before)
                old = [blob.hash async for blob in self._blobs.stored() if blob.changed < before]
                unused = [hash for hash in old if hash not in used]
                for hash in unused:
                    await self._blobs.delete(hash)
                return len(unused) + await self._blobs.delete_leftovers(before)

    async def remove(self, hashes: Collection[str]) -> int:
        """Deletes those of the files that no message and no turn uses; returns how many."""
        with storage_errors("unused media"):
            async with self._lock:
                unused = await self._table.forget_media(hashes)
                for hash in unused:
                    await self._blobs.delete(hash)
        return len(unused)

    async def _take(self, file: IncomingFile) -> Attachment:
        with storage_errors(file.name):
            attachment = await asyncio.to_thread(examine, file.path, file.hash, file.size, file.name)
            async with self._lock:
                await self._table.record_media(attachment)
                await self._blobs.put(attachment.hash, file.path)
        return attachment


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
