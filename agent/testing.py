"""Fakes that ship with the library, for tests of code that uses it."""

from __future__ import annotations

import hashlib
import io

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

    async def read(self, attachment: Attachment) -> bytes:
        try:
            return self._data[attachment.hash]
        except KeyError:
            raise MediaMissing(attachment) from None


def _size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        return None, None
