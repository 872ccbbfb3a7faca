"""Media in a folder: of this machine, or one that several machines share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from gateway.media.blobs import BlobMissing, StoredBlob, hash_of, name_of
from gateway.media.incoming import UNFINISHED, IncomingFile


class FolderBlobs:
    """Implements `Blobs`. The file of hash `abcdef…` is `path/ab/cdef…`, written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Files are moved within the file system.
        self.incoming = path

    async def put(self, hash: str, file: IncomingFile) -> None:
        await asyncio.to_thread(_move, file.path, self.path / name_of(hash))

    async def read(self, hash: str) -> bytes:
        try:
            return await asyncio.to_thread((self.path / name_of(hash)).read_bytes)
        except FileNotFoundError as error:
            raise BlobMissing from error

    @asynccontextmanager
    async def local_file(self, hash: str) -> AsyncIterator[Path]:
        path = self.path / name_of(hash)
        if not await asyncio.to_thread(path.is_file):
            raise BlobMissing
        yield path

    async def delete(self, hashes: Collection[str]) -> None:
        await asyncio.to_thread(_unlink, [self.path / name_of(hash) for hash in hashes])

    async def stored(self, first: str = "") -> AsyncIterator[StoredBlob]:
        for folder in await asyncio.to_thread(_folders, self.path, first):
            for blob in await asyncio.to_thread(_blobs, folder):
                yield blob

    async def delete_leftovers(self, before: datetime) -> int:
        return await asyncio.to_thread(delete_unfinished, self.path, before)


def delete_unfinished(folder: Path, before: datetime) -> int:
    """Deletes files that were being written before then; returns how many."""
    return delete_files(folder, f"{UNFINISHED}*", before)


def delete_files(folder: Path, pattern: str, before: datetime) -> int:
    """Deletes the files with such names that were changed before then; returns how many."""
    deleted = 0
    for path in folder.glob(pattern):
        # Another process may delete it meanwhile.
        with suppress(FileNotFoundError):
            if path.is_file() and _changed(path) < before:
                path.unlink()
                deleted += 1
    return deleted


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


def _folders(path: Path, first: str) -> Sequence[Path]:
    try:
        return [each for each in path.glob(first or "??") if each.is_dir()]
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
