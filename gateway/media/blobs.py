"""Where the bytes of media are stored: the protocol, and names that all its implementations share."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from gateway.media.incoming import IncomingFile

HASH = re.compile(r"[0-9a-f]{64}")


class BlobMissing(Exception):
    """No bytes with this hash are stored."""


class WrongBytes(OSError):
    """What is stored under this hash has another one."""

    def __init__(self, hash: str) -> None:
        super().__init__(f"the bytes stored for {hash} are others")


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """`changed` is when its bytes were written last."""

    hash: str
    size: int
    changed: datetime


class Blobs(Protocol):
    """Files by the SHA-256 of their bytes, in hex. A stored file is complete, and never changes.

    All methods raise `OSError` when the storage does not do its part; the same call may work later.
    """

    incoming: Path
    """A folder for files that are being written, before they are put. It may not exist yet."""

    async def put(self, hash: str, file: IncomingFile) -> None:
        """Stores a complete file of `incoming`, which it may move away. Durable when it returns; a second time changes
        nothing."""
        ...

    async def read(self, hash: str) -> bytes:
        """Raises `BlobMissing`."""
        ...

    def local_file(self, hash: str) -> AbstractAsyncContextManager[Path]:
        """A local file with the bytes, to be read only, and only inside the context. Raises `BlobMissing`."""
        ...

    async def delete(self, hashes: Collection[str]) -> None:
        """Deletes those of the files that there are. If it fails, some may be deleted."""
        ...

    def stored(self, first: str = "") -> AsyncIterator[StoredBlob]:
        """Every stored file, or those whose hash begins with these two digits, in no order. What is stored or deleted
        meanwhile may be among them or not."""
        ...

    async def delete_leftovers(self, before: datetime) -> int:
        """Deletes what crashes have left half written before then; returns how many."""
        ...


async def missing_of(blobs: Blobs, hashes: Collection[str]) -> frozenset[str]:
    """Those under which nothing is stored. Raises `OSError`."""
    stored = {each.hash for first in {hash[:2] for hash in hashes} async for each in blobs.stored(first)}
    return frozenset(hashes) - stored


def name_of(hash: str) -> str:
    """The path of the file within its folder or bucket: `ab/cdef…` for the hash `abcdef…`."""
    return f"{hash[:2]}/{hash[2:]}"


def hash_of(name: str) -> str | None:
    """The hash in such a path; None if the path is another's."""
    hash = name[:2] + name[3:]
    return hash if HASH.fullmatch(hash) and name == name_of(hash) else None
