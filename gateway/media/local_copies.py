"""Copies of files that are stored elsewhere, in a folder of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4
from weakref import WeakValueDictionary

from gateway.media.blobs import HASH, WrongBytes
from gateway.media.folder import delete_files
from gateway.media.incoming import IncomingFile, incoming_file

HELD = ".held-"
"""Begins the names of links that keep a copy while it is read."""

KEPT = 0.9
"""The part of the allowed bytes that is kept when copies are deleted, so that not every file has some deleted."""

Download = Callable[[IncomingFile], Awaitable[None]]
"""Writes the bytes into a new file."""


class LocalCopies:
    """The files used last, up to `max_bytes`. Any number of processes may share the folder: a copy is complete when it
    gets its name, and one that is being read has a link of its reader's own, so that anybody may delete it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._bytes = max_bytes
        """At least what the folder has; to begin with, it may be full."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, hash: str, download: Download) -> AsyncIterator[Path]:
        """A copy that stays until the context is left. It is downloaded if it is not there; only once, however many
        ask. Raises what the download raises, and `OSError`, also if it has brought other bytes."""
        path = await self._link(hash, download)
        try:
            yield path
        finally:
            _unlink(path)

    async def add(self, hash: str, file: IncomingFile) -> None:
        """Takes over a complete file of this folder."""
        await asyncio.to_thread(_rename, file.path, self.folder / hash)
        await self._make_room(file.size)

    async def delete(self, hash: str) -> None:
        await asyncio.to_thread(_unlink, self.folder / hash)

    async def delete_unused(self, before: datetime) -> int:
        """Deletes copies that nobody has used since then, and what crashes have left; returns how many of these."""
        await asyncio.to_thread(delete_files, self.folder, "?" * 64, before)
        return await asyncio.to_thread(delete_files, self.folder, f"{HELD}*", before)

    async def _link(self, hash: str, download: Download) -> Path:
        held = self.folder / f"{HELD}{uuid4().hex}"
        async with self._locks.setdefault(hash, asyncio.Lock()):
            if await asyncio.to_thread(_try_link, self.folder / hash, held):
                return held
            async with incoming_file(self.folder, "a file of the bucket") as file:
                await download(file)
                if file.hash != hash:
                    raise WrongBytes(hash)
                await asyncio.to_thread(os.link, file.path, held)
                await self.add(hash, file)
        return held

    async def _make_room(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            self._bytes = await asyncio.to_thread(_evict, self.folder, self._max_bytes)


def _evict(folder: Path, max_bytes: int) -> int:
    """Deletes the copies whose use is the longest ago, if there are too many; the bytes that remain."""
    copies = sorted((status.st_mtime, status.st_size, path) for path, status in _copies(folder))
    total = sum(size for _, size, _ in copies)
    if total <= max_bytes:
        return total
    for _, size, path in copies:
        if total <= max_bytes * KEPT:
            break
        _unlink(path)
        total -= size
    return total


def _copies(folder: Path) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if HASH.fullmatch(entry.name):
                try:
                    found.append((entry.path, entry.stat()))
                except FileNotFoundError:
                    # Another process has deleted it meanwhile.
                    continue
    return found


def _try_link(path: Path, held: Path) -> bool:
    """False: there is no such file. Else it counts as used now."""
    try:
        os.link(path, held)
    except FileNotFoundError:
        return False
    os.utime(held)
    return True


def _rename(path: Path, target: Path) -> None:
    path.rename(target)


def _unlink(path: str | Path) -> None:
    Path(path).unlink(missing_ok=True)
