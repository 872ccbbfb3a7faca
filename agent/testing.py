"""Fakes that ship with the library, for tests of code that uses it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import filetype  # type: ignore[import-untyped]  # the package has no types
from PIL import Image

from agent.media import PICTURES, Attachment, FileTooLarge, MediaMissing


class MemoryMedia:
    """A media store in memory; `max_bytes` limits one file."""

    def __init__(self, max_bytes: int = 50_000_000) -> None:
        self._max_bytes = max_bytes
        self._data: dict[str, bytes] = {}

    async def put(self, data: bytes, name: str) -> Attachment:
        if len(data) > self._max_bytes:
            raise FileTooLarge(name, len(data), self._max_bytes)
        digest = hashlib.sha256(data).hexdigest()
        self._data[digest] = data
        media_type = filetype.guess_mime(data) or "application/octet-stream"
        width, height = _size(data) if media_type in PICTURES else (None, None)
        return Attachment(digest, name, media_type, len(data), width, height)

    async def put_stream(self, chunks: AsyncIterable[bytes], name: str, limit: int | None = None) -> Attachment:
        limit = self._max_bytes if limit is None else min(limit, self._max_bytes)
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > limit:
                raise FileTooLarge(name, None, limit)
        return await self.put(bytes(data), name)

    async def read(self, attachment: Attachment) -> bytes:
        try:
            return self._data[attachment.hash]
        except KeyError:
            raise MediaMissing(attachment) from None

    @asynccontextmanager
    async def local_file(self, attachment: Attachment) -> AsyncIterator[Path]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / attachment.hash
            path.write_bytes(await self.read(attachment))
            yield path


def _size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        return None, None
