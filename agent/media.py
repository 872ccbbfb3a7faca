"""Attachments: references to stored bytes. The only module of the agent that channels import."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Attachment:
    """A reference to stored bytes. The bytes themselves stay in the media store.

    `hash` is the SHA-256 of the bytes in hex, `media_type` was detected from the bytes, `size` is in bytes.
    `width` and `height` are in pixels, for images only. `taken_from` is the hash of the person's file out of which the
    gateway took this one: the text of a document, the smaller form of a picture that models accept.
    """

    hash: str
    name: str
    media_type: str
    size: int
    width: int | None = None
    height: int | None = None
    taken_from: str | None = None

    @property
    def is_picture(self) -> bool:
        return self.media_type in PICTURES


@dataclass(frozen=True, slots=True)
class NewFile:
    """Bytes that are not in the media store yet, with the name of their file."""

    name: str
    data: bytes


PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def for_model(attachments: Sequence[Attachment]) -> Sequence[Attachment]:
    """The attachments that a model is shown: the smaller form of a picture stands for the picture."""
    replaced = {attachment.taken_from for attachment in attachments if attachment.is_picture and attachment.taken_from}
    if not replaced:
        return attachments
    return [each for each in attachments if not (each.is_picture and each.hash in replaced)]


class MediaError(Exception):
    """The bytes cannot be stored or read; the message tells a person why."""


class MediaUnavailable(MediaError):
    """The storage does not work at the moment. The same call may work later."""


class FileTooLarge(MediaError):
    def __init__(self, name: str, size: int | None, limit: int) -> None:
        """`size` is None if only a part of the file was read."""
        has = "more bytes than" if size is None else f"{size:,} bytes, more than"
        super().__init__(f"{name} has {has} the {limit:,} that are allowed")


class UnusableFile(MediaError):
    """The file is not what it is supplied as."""


class MediaMissing(MediaError):
    def __init__(self, attachment: Attachment) -> None:
        super().__init__(f"the bytes of {attachment.name} are no longer in the media store")


class MediaStore(Protocol):
    """Stores bytes by their content hash. All methods raise `MediaUnavailable`."""

    async def put(self, data: bytes, name: str) -> Attachment:
        """Stores the bytes (once per content) and detects their type. Raises `FileTooLarge`."""

    async def put_stream(self, chunks: AsyncIterable[bytes], name: str, limit: int | None = None) -> Attachment:
        """As `put`, for bytes that are still arriving, of which `limit` are allowed at most. Raises `FileTooLarge` as
        soon as there are more, and what the chunks raise; nothing is stored then."""

    async def read(self, attachment: Attachment) -> bytes:
        """The bytes of the attachment. Raises `MediaMissing`."""

    def local_file(self, attachment: Attachment) -> AbstractAsyncContextManager[Path]:
        """A file with the bytes, to be read only, and only inside the context. Raises `MediaMissing`."""
