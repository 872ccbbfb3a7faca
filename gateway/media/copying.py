"""Moves media from one place to another: all files, each checked by its hash. What is there already is left alone, so
that a copy which was interrupted goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.media import FileTooLarge
from gateway.media.blobs import BlobMissing, Blobs, StoredBlob, WrongBytes
from gateway.media.incoming import incoming_file

AT_ONCE = 8
"""Files that are copied at the same time."""

CHUNK = 1 << 20
FIRST_DIGITS = tuple(f"{number:02x}" for number in range(256))


@dataclass(slots=True)
class Copied:
    """`files` and `size` (bytes) are what was copied, `present` what was there already. `damaged` are the hashes of
    files whose bytes are others, which were not copied."""

    files: int = 0
    size: int = 0
    present: int = 0
    damaged: list[str] = field(default_factory=list)


async def copy_media(source: Blobs, target: Blobs, progress: Callable[[Copied], None]) -> Copied:
    """Copies all files; `progress` is told after each few. Raises `OSError` and `MediaUnavailable`: what was copied
    until then stays."""
    copied = Copied()
    for first in FIRST_DIGITS:
        there = {blob.hash: blob.size async for blob in target.stored(first)}
        wanted = [blob async for blob in source.stored(first)]
        missing = [blob for blob in wanted if there.get(blob.hash) != blob.size]
        copied.present += len(wanted) - len(missing)
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            for blob, is_whole in zip(some, await _copy_some(source, target, some), strict=True):
                _count(copied, blob, is_whole)
            progress(copied)
    return copied


def _count(copied: Copied, blob: StoredBlob, is_whole: bool | None) -> None:
    if is_whole:
        copied.files += 1
        copied.size += blob.size
    elif is_whole is False:
        copied.damaged.append(blob.hash)


async def _copy_some(source: Blobs, target: Blobs, blobs: list[StoredBlob]) -> list[bool | None]:
    ended = await asyncio.gather(*(_copy(source, target, blob) for blob in blobs), return_exceptions=True)
    for error in ended:
        if isinstance(error, BaseException):
            raise error
    return [each for each in ended if not isinstance(each, BaseException)]


async def _copy(source: Blobs, target: Blobs, blob: StoredBlob) -> bool | None:
    """False: its bytes are others. None: it was deleted meanwhile."""
    try:
        async with source.local_file(blob.hash) as path, incoming_file(target.incoming, blob.hash) as file:
            await file.receive(_chunks(path), blob.size)
            if file.hash != blob.hash:
                return False
            await target.put(blob.hash, file)
    except BlobMissing:
        return None
    except (FileTooLarge, WrongBytes):
        return False
    return True


async def put_files(folder: Path, target: Blobs) -> None:
    """Stores the files of a folder, each of which has the hash of its bytes as its name. Raises as `copy_media`."""
    for path in await asyncio.to_thread(lambda: list(folder.iterdir())):
        async with incoming_file(target.incoming, path.name) as file:
            await file.receive(_chunks(path), sys.maxsize)
            await target.put(file.hash, file)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as stream:
        while data := await asyncio.to_thread(stream.read, CHUNK):
            yield data
