"""Media in a folder: of this machine, or one that several machines share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from gateway.media.blobs import UNFINISHED, BlobMissing, StoredBlob, hash_of, name_of


class FolderBlobs:
    """Implements `Blobs`. The file of hash `abcdef…` is `path/ab/cdef…`, written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Files are moved within the file system.
        self.incoming = path

    async def put(self, hash: str, file: Path) -> None:
        await asyncio.to_thread(_move, file, self.path / name_of(hash))

    async def read(self, hash: str) -> bytes:
        try:
            return await asyncio.to_thread((self.path / name_of(hash)).read_bytes)
        except FileNotFoundError as error:
            raise BlobMissing from error

    @asynccontextmanager
    async def local_file(self, hash: str) -> AsyncIterator[Path]:
        if not await self.exists(hash):
            raise BlobMissing
        yield self.path / name_of(hash)

    async def exists(self, hash: str) -> bool:
        return await asyncio.to_thread((self.path / name_of(hash)).is_file)

    async def delete(self, hashes: Collection[str]) -> None:
        await asyncio.to_thread(_unlink, [self.path / name_of(hash) for hash in hashes])

    async def stored(self) -> AsyncIterator[StoredBlob]:
        for folder in await asyncio.to_thread(_folders, self.path):
            for blob in await asyncio.to_thread(_blobs, folder):
                yield blob

    async def delete_leftovers(self, before: datetime) -> int:
        return await asyncio.to_thread(delete_unfinished, self.path, before)


def delete_unfinished(folder: Path, before: datetime) -> int:
    """Deletes files that were being written before then; returns how many."""
    old = [path for path in folder.glob(f"{UNFINISHED}*") if path.is_file() and _changed(path) < before]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _move(file: Path, target: Path) -> None:
    """The bytes are on the disk before anything has their name, and their name when this returns (fsync)."""
    _flush(file)
    target.parent.mkdir(exist_ok=True)
    file.rename(target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _folders(path: Path) -> Sequence[Path]:
    try:
        return [each for each in path.iterdir() if len(each.name) == 2 and each.is_dir()]
    except FileNotFoundError:
        return ()


def _blobs(folder: Path) -> Sequence[StoredBlob]:
    return [
        StoredBlob(hash, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
        for path in folder.iterdir()
        if (hash := hash_of(f"{folder.name}/{path.name}")) is not None
        for status in (path.stat(),)
    ]


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
