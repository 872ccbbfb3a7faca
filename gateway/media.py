"""The media store: bytes on disk under their content hash, their metadata in the database."""

from __future__ import annotations

import asyncio
import os
import re
import unicodedata
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

import filetype  # type: ignore[import-untyped]  # the library has no types

from agent.media import PICTURES, Attachment, FileTooLarge, MediaError, MediaMissing
from gateway.store.errors import StoreError

MAX_BYTES = 50 * 1024 * 1024

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: decoded, they would take 320 MB of memory."""

MAX_NAME_BYTES = 200
BINARY = "application/octet-stream"
TEMPORARY_PREFIX = ".unfinished-"
HASH = re.compile(r"[0-9a-f]{64}")

TEXT_TYPES = {
    "css": "text/css",
    "csv": "text/csv",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "js": "text/javascript",
    "json": "application/json",
    "md": "text/markdown",
    "svg": "image/svg+xml",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
"""The media type of a text by its suffix; any other is plain text."""


class MediaTable(Protocol):
    """Metadata of the stored bytes (the store)."""

    async def record_media(self, attachment: Attachment) -> None: ...
    async def forget_unused_media(self, before: datetime) -> frozenset[str]: ...
    async def forget_media(self, hashes: Collection[str]) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """Read from the bytes themselves."""

    media_type: str
    width: int | None = None
    height: int | None = None


class DiskMedia:
    """Implements `agent.media.MediaStore`. The file of hash `abcdef…` is `path/ab/cdef…`, written atomically."""

    def __init__(self, path: Path, table: MediaTable, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._table = table
        self._max_bytes = max_bytes
        self._read = reader(path)
        self._lock = asyncio.Lock()

    async def put(self, data: bytes, name: str) -> Attachment:
        """Stores the bytes and finds their type. Raises `FileTooLarge`, or `MediaError` when they cannot be stored."""
        name = clean_name(name)
        if len(data) > self._max_bytes:
            raise FileTooLarge(name, len(data), self._max_bytes)
        attachment = await asyncio.to_thread(examine, data, name)
        with _errors(name):
            temporary = await asyncio.to_thread(_write, data, self._path)
            async with self._lock:
                await asyncio.to_thread(_move, temporary, self._file(attachment.hash))
                await self._table.record_media(attachment)
        return attachment

    async def read(self, attachment: Attachment) -> bytes:
        """The bytes. Raises `MediaMissing`, or `MediaError` when they cannot be read."""
        return await self._read(attachment)

    async def sweep(self, older_than: timedelta) -> int:
        """Deletes files that are older and that no message and no turn uses; returns how many.

        Also deletes files that a crash left half written. Raises `MediaError` when a file cannot be deleted.
        """
        before = datetime.now(UTC) - older_than
        with _errors("the media directory"):
            async with self._lock:
                used = await self._table.forget_unused_media(before)
                return await asyncio.to_thread(_delete_old, self._path, before.timestamp(), used)

    async def remove(self, hashes: Collection[str]) -> int:
        """Deletes those of the files that no message and no turn uses; returns how many. Raises `MediaError`."""
        with _errors("the media directory"):
            async with self._lock:
                unused = await self._table.forget_media(hashes)
                await asyncio.to_thread(_delete, [self._file(hash) for hash in unused])
        return len(unused)

    def _file(self, hash: str) -> Path:
        return self._path / hash[:2] / hash[2:]


def reader(path: Path) -> Callable[[Attachment], Awaitable[bytes]]:
    """Reads files of the store in this directory. Its result raises as `DiskMedia.read` does."""

    async def read(attachment: Attachment) -> bytes:
        if not HASH.fullmatch(attachment.hash):
            raise MediaMissing(attachment)
        with _errors(attachment.name):
            try:
                return await asyncio.to_thread((path / attachment.hash[:2] / attachment.hash[2:]).read_bytes)
            except FileNotFoundError as error:
                raise MediaMissing(attachment) from error

    return read


def examine(data: bytes, name: str) -> Attachment:
    """Hash, type and size of the bytes as an attachment. Raises `MediaError` for a picture with too many pixels."""
    kind = _kind(data, name)
    return Attachment(sha256(data).hexdigest(), name, kind.media_type, len(data), kind.width, kind.height)


def clean_name(name: str) -> str:
    """A file name that is safe everywhere: no directories, no invisible characters, never empty."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn"))
    return _shorten(visible.strip(" .")) or "file"


def _shorten(name: str) -> str:
    """At most `MAX_NAME_BYTES`: file systems count bytes, of which an emoji has four."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = f".{suffix}".encode() if dot and len(suffix) <= 10 else b""
    start = (stem if end else name).encode()[: MAX_NAME_BYTES - len(end)]
    return start.decode(errors="ignore") + end.decode()


def _kind(data: bytes, name: str) -> _Kind:
    guess = filetype.guess(data)
    if guess is None:
        return _Kind(_text_type(data, name))
    media_type = str(guess.mime)
    if media_type not in PICTURES:
        return _Kind(media_type)
    size = _picture_size(data, name)
    return _Kind(BINARY) if size is None else _Kind(media_type, *size)


def _text_type(data: bytes, name: str) -> str:
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    try:
        data.decode()
    except UnicodeDecodeError:
        return BINARY
    if b"\0" in data:
        return BINARY
    return TEXT_TYPES.get(suffix, "text/plain" if data else BINARY)


def _picture_size(data: bytes, name: str) -> tuple[int, int] | None:
    """Width and height in pixels, None if it is not a valid picture; its pixels are not decoded."""
    # Imported with the first picture: it takes 50 ms.
    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{name} has more than the allowed {MAX_PIXELS:,} pixels") from error
    except (OSError, SyntaxError, ValueError):
        return None
    if width * height > MAX_PIXELS:
        raise MediaError(f"{name} has {width:,} by {height:,} pixels, more than the allowed {MAX_PIXELS:,}")
    return width, height


def _write(data: bytes, directory: Path) -> Path:
    """Writes a new file that is flushed to the disk (fsync) before anything refers to it."""
    directory.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=directory, prefix=TEMPORARY_PREFIX, delete=False) as file:
        path = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
    return path


def _move(temporary: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _delete(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _delete_old(directory: Path, before: float, used: frozenset[str]) -> int:
    deleted = 0
    for path in _files(directory):
        hash = path.parent.name + path.name
        if hash not in used and path.stat().st_mtime < before:
            path.unlink()
            deleted += 1
    return deleted


def _files(directory: Path) -> Iterator[Path]:
    """Stored files, and files that a crash left half written."""
    for path in directory.glob("*/*"):
        if HASH.fullmatch(path.parent.name + path.name):
            yield path
    for path in directory.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_file():
            yield path


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MediaError(f"{name} cannot be stored or read: {error.strerror or error}") from error
    except StoreError as error:
        raise MediaError(str(error)) from error
