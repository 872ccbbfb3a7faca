"""Bytes that arrive, written into a temporary file and hashed on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from agent.media import FileTooLarge
from gateway.media.errors import storage_errors

UNFINISHED = ".unfinished-"
"""Begins the names of files that are being written; a crash leaves them behind."""

BATCH = 1 << 20
"""Bytes that are collected before they are written: a thread for each small chunk costs more than the writing."""


class IncomingFile:
    """Made by `incoming_file`. `hash` and `size` are of what was written so far."""

    def __init__(self, path: Path, stream: IO[bytes], name: str) -> None:
        self.path = path
        self.name = name
        self.size = 0
        self._stream = stream
        self._hashed = sha256()

    @property
    def hash(self) -> str:
        return self._hashed.hexdigest()

    async def write(self, data: bytes) -> None:
        with storage_errors(self.name):
            await asyncio.to_thread(self._write, data)

    async def receive(self, chunks: AsyncIterable[bytes], limit: int) -> None:
        """Writes the chunks as they come. Raises `FileTooLarge` as soon as there are more than `limit` bytes, and what
        the chunks raise."""
        batch = bytearray()
        async for chunk in chunks:
            batch += chunk
            if self.size + len(batch) > limit:
                raise FileTooLarge(self.name, None, limit)
            if len(batch) >= BATCH:
                await self.write(bytes(batch))
                batch.clear()
        await self.write(bytes(batch))

    def _write(self, data: bytes) -> None:
        self._hashed.update(data)
        self._stream.write(data)
        self.size += len(data)


@asynccontextmanager
async def incoming_file(folder: Path, name: str) -> AsyncIterator[IncomingFile]:
    """A new file in this folder, which is deleted at the end if it is still there. `name` is what people call it."""
    with storage_errors(name):
        stream = await asyncio.to_thread(_open, folder)
    path = Path(stream.name)
    try:
        yield IncomingFile(path, stream, name)
    finally:
        # Also for whoever is cancelled.
        await asyncio.shield(asyncio.to_thread(_discard, stream, path))


def _open(folder: Path) -> IO[bytes]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Unbuffered: what was written can be read by its path.
    return NamedTemporaryFile(dir=folder, prefix=UNFINISHED, delete=False, buffering=0)


def _discard(stream: IO[bytes], path: Path) -> None:
    stream.close()
    path.unlink(missing_ok=True)
