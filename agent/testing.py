"""Fakes that ship with the library, for tests of what is built on it."""

from __future__ import annotations

import hashlib
import io

import filetype  # type: ignore[import-untyped]  # the package has no types
from PIL import Image

from agent.media import PICTURES, Attachment, FileTooLarge, MediaMissing


class MemoryMedia:
    """A media store in memory; `largest` is in bytes."""

    def __init__(self, largest: int = 50_000_000) -> None:
        self._largest = largest
        self._kept: dict[str, bytes] = {}

    async def put(self, data: bytes, name: str) -> Attachment:
        if len(data) > self._largest:
            raise FileTooLarge(name, len(data), self._largest)
        digest = hashlib.sha256(data).hexdigest()
        self._kept[digest] = data
        media_type = filetype.guess_mime(data) or "application/octet-stream"
        width, height = _size(data) if media_type in PICTURES else (None, None)
        return Attachment(digest, name, media_type, len(data), width, height)

    async def read(self, attachment: Attachment) -> bytes:
        try:
            return self._kept[attachment.hash]
        except KeyError:
            raise MediaMissing(attachment) from None


def _size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        return None, None
