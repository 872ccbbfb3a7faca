"""The media store: bytes stored once, read again, typed by content, and deleted when unused."""

from __future__ import annotations

import asyncio
import os
import struct
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from agent.log import CallEnded
from agent.media import Attachment, FileTooLarge, MediaError, MediaMissing
from gateway.media import FolderBlobs, Media
from gateway.store import Store
from tests.gateway.notes import PHOTO, SESSION, begin, message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def media(folder: Path, store: Store) -> Media:
    return Media(FolderBlobs(folder), store)


def picture(format: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, "red").save(file, format)
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A small file whose header declares a very large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def make_old(folder: Path, store: Store) -> None:
    """Backdates every stored file."""
    for path in files_in(folder):
        os.utime(path, (0, 0))
    await store.write(lambda connection: connection.exec_driver_sql("UPDATE media SET created_at = 0").rowcount)


async def test_stored_bytes_can_be_read(media: Media, folder: Path) -> None:
    attachment = await media.put(b"hello", "note.txt")
    digest = sha256(b"hello").hexdigest()
    assert attachment == Attachment(digest, "note.txt", "text/plain", 5)
    assert await media.read(attachment) == b"hello"
    assert files_in(folder) == [folder / digest[:2] / digest[2:]]


async def test_the_same_bytes_are_stored_once_under_different_names(media: Media, folder: Path) -> None:
    one, two = await asyncio.gather(media.put(b"hello", "one.txt"), media.put(b"hello", "two.txt"))
    assert (one.hash, one.name, two.name) == (two.hash, "one.txt", "two.txt")
    assert len(files_in(folder)) == 1


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
async def test_a_picture_is_known_by_its_bytes_and_has_a_size(media: Media, format: str, media_type: str) -> None:
    attachment = await media.put(picture(format), "not what it says.pdf")
    assert attachment.is_picture
    assert (attachment.media_type, attachment.width, attachment.height) == (media_type, 30, 20)


@pytest.mark.parametrize(
    ("data", "name", "media_type"),
    [
        (b"%PDF-1.7\n...", "x", "application/pdf"),
        (b"a,b\n1,2\n", "table.CSV", "text/csv"),
        (b'{"a": 1}', "data.json", "application/json"),
        ("grüße".encode(), "notes", "text/plain"),
        (b"# Title", "readme.md", "text/markdown"),
        (b"print(1)", "script.py", "text/plain"),
        (b"\xff\xfe\x00\x01\x02", "notes.txt", "application/octet-stream"),
        (b"text with \0 in it", "notes.txt", "application/octet-stream"),
        (b"just text", "cat.png", "text/plain"),
        (b"", "empty.csv", "text/csv"),
        (b"", "empty", "application/octet-stream"),
        (b"", "cat.png", "application/octet-stream"),
        (b"\x89PNG\r\n\x1a\n broken", "cat.png", "application/octet-stream"),
    ],
)
async def test_a_type_is_found_from_the_bytes(media: Media, data: bytes, name: str, media_type: str) -> None:
    attachment = await media.put(data, name)
    assert attachment.media_type == media_type
    assert not attachment.is_picture
    assert await media.read(attachment) == data


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(folder: Path, store: Store) -> None:
    media = Media(FolderBlobs(folder), store, max_bytes=10)
    await media.put(b"x" * 10, "fits")
    with pytest.raises(FileTooLarge, match="big has 11 bytes, more than the 10"):
        await media.put(b"x" * 11, "big")
    assert len(files_in(folder)) == 1


async def arriving(*chunks: bytes, ends: BaseException | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if ends is not None:
        raise ends


@pytest.mark.parametrize(
    "data",
    [picture(size=(700, 500)), b"", b"a,b\n" * 900_000, "grüße".encode()],
    ids=["picture", "empty", "large", "text"],
)
async def test_a_stream_is_stored_as_the_same_bytes_are(media: Media, folder: Path, data: bytes) -> None:
    cut = [data[at : at + 65_537] for at in range(0, len(data), 65_537)]
    streamed = await media.put_stream(arriving(*cut), "../table.csv")
    assert streamed == await media.put(data, "table.csv")
    assert await media.read(streamed) == data
    assert len(files_in(folder)) == 1


class Fell(Exception):
    pass


@pytest.mark.parametrize(
    ("chunks", "limit", "error"),
    [
        (arriving(b"x" * 6, b"x" * 6, ends=AssertionError("read beyond the limit")), None, FileTooLarge),
        (arriving(b"x" * 6, ends=AssertionError("read beyond the limit")), 5, FileTooLarge),
        (arriving(b"x" * 6, b"x" * 6, ends=AssertionError("read beyond the limit")), 100, FileTooLarge),
        (arriving(b"x" * 6, ends=Fell()), None, Fell),
        (arriving(b"x" * 6, ends=ConnectionResetError()), None, ConnectionResetError),
    ],
    ids=["over the limit", "over the caller's limit", "a larger limit changes nothing", "broken off", "reset"],
)
async def test_a_stream_that_is_too_long_or_breaks_off_leaves_nothing(
    folder: Path, store: Store, chunks: AsyncIterator[bytes], limit: int | None, error: type[Exception]
) -> None:
    media = Media(FolderBlobs(folder), store, max_bytes=10)
    with pytest.raises(error):
        await media.put_stream(chunks, "big", limit)
    assert files_in(folder) == []


async def test_a_stored_file_can_be_opened_by_its_path(media: Media) -> None:
    async with media.local_file(await media.put(b"hello", "note.txt")) as path:
        assert path.read_bytes() == b"hello"


@pytest.mark.parametrize("size", [(10_000, 9_000), (12_000, 12_000), (60_000, 60_000)])
async def test_a_decompression_bomb_is_refused(media: Media, folder: Path, size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match=r"bomb\.png has .*pixels"):
        await media.put(huge_png(*size), "bomb.png")
    assert files_in(folder) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\cat.png", "cat.png"),
        ("a\0b\r\nc.txt", "abc.txt"),
        ("photo\u202egnp.exe", "photognp.exe"),
        ("broken\udcff.txt", "broken.txt"),
        ("", "file"),
        ("..", "file"),
        ("/", "file"),
        (" . ", "file"),
        ("grüße 👋.txt", "grüße 👋.txt"),
        ("x" * 300 + ".png", "x" * 196 + ".png"),
        ("x" * 300, "x" * 200),
        ("🎈" * 90 + ".png", "🎈" * 49 + ".png"),
    ],
)
async def test_names_are_sanitized(media: Media, given: str, kept: str) -> None:
    assert (await media.put(b"hello", given)).name == kept


@pytest.mark.parametrize("hash", ["0" * 64, "../../../etc/passwd", ""])
async def test_missing_bytes_raise_an_error(media: Media, hash: str) -> None:
    lost = Attachment(hash, "lost.txt", "text/plain", 1)
    with pytest.raises(MediaMissing, match=r"lost\.txt are no longer"):
        await media.read(lost)
    with pytest.raises(MediaMissing, match=r"lost\.txt are no longer"):
        await media.local_file(lost).__aenter__()


@pytest.fixture
def no_folder(folder: Path) -> Path:
    folder.write_text("a file where the directory should be")
    return folder


async def test_a_disk_error_is_explained(no_folder: Path, store: Store) -> None:
    media = Media(FolderBlobs(no_folder), store)
    with pytest.raises(MediaError, match=r"note\.txt cannot be stored"):
        await media.put(b"hello", "note.txt")


async def test_a_sweep_deletes_unused_files_only(media: Media, folder: Path, store: Store) -> None:
    from_person = await media.put(b"from a person", "a")
    from_tool = await media.put(b"from a tool", "b")
    from_nobody = await media.put(b"from nobody", "c")
    look = await store.accept(message(files=(PHOTO,)), SESSION)
    await store.mark_ready(look.id, (PHOTO,), (from_person,))
    turn = await begin(store)
    await store.append(turn.id, turn.epoch, (CallEnded("c", "done", "", (from_tool,)),))
    await make_old(folder, store)
    assert await media.sweep(timedelta(hours=1)) == 1
    assert await media.read(from_person) == b"from a person"
    assert await media.read(from_tool) == b"from a tool"
    with pytest.raises(MediaMissing):
        await media.read(from_nobody)


async def test_a_sweep_leaves_recent_files(media: Media) -> None:
    attachment = await media.put(b"new", "new")
    assert await media.sweep(timedelta(hours=1)) == 0
    assert await media.read(attachment) == b"new"


async def test_storing_bytes_again_makes_them_recent(media: Media, folder: Path, store: Store) -> None:
    await media.put(b"again", "old")
    await make_old(folder, store)
    attachment = await media.put(b"again", "new")
    assert await media.sweep(timedelta(hours=1)) == 0
    assert await media.read(attachment) == b"again"


async def test_a_sweep_deletes_half_written_files_and_nothing_foreign(media: Media, folder: Path) -> None:
    attachment = await media.put(b"kept", "kept")
    half = folder / ".unfinished-123"
    half.write_bytes(b"half a fi")
    foreign = folder / "README"
    foreign.write_text("not ours")
    os.utime(half, (0, 0))
    os.utime(foreign, (0, 0))
    assert await media.sweep(timedelta(hours=1)) == 1
    assert foreign.exists()
    assert await media.read(attachment) == b"kept"


async def test_a_put_during_a_sweep_is_not_lost(media: Media, folder: Path, store: Store) -> None:
    for number in range(30):
        await media.put(str(number).encode(), "x")
    await make_old(folder, store)
    results = await asyncio.gather(
        *(media.put(str(number).encode(), "x") for number in range(15)), media.sweep(timedelta(hours=1))
    )
    again = [attachment for attachment in results if isinstance(attachment, Attachment)]
    assert [await media.read(attachment) for attachment in again] == [str(number).encode() for number in range(15)]
