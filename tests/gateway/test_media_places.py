"""A folder and a bucket as the place of media: alike in all that others see."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from agent.media import Attachment, MediaMissing, MediaUnavailable
from gateway.media import Blobs, FolderBlobs, Media
from gateway.media.blobs import BlobMissing, name_of
from gateway.media.bucket import Bucket, BucketError, S3Blobs, explained
from gateway.media.incoming import incoming_file
from gateway.media.local_copies import LocalCopies
from gateway.store import Store
from tests.gateway.notes import PHOTO, SESSION, begin, message
from tests.servers.s3 import S3, options

BUCKET = "media"
PREFIX = "interject/files"
DAY = timedelta(days=1)


def hash_of(data: bytes) -> str:
    return sha256(data).hexdigest()


class FolderPlace:
    def __init__(self, folder: Path) -> None:
        self._folder = folder / "stored"
        self.blobs: Blobs = FolderBlobs(self._folder)
        self.other: Blobs = FolderBlobs(self._folder)
        """Of another process."""

    def stored(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self._folder)): path.read_bytes()
            for path in self._folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }

    def put(self, name: str, data: bytes) -> None:
        """As another program does."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def make_old(self) -> None:
        for path in self._folder.rglob("*"):
            os.utime(path, (0, 0))


class BucketPlace:
    def __init__(self, folder: Path, service: S3) -> None:
        self.service = service
        service.add_bucket(BUCKET)
        bucket = Bucket(BUCKET, PREFIX, **options(service))
        self.blobs: Blobs = S3Blobs(bucket, LocalCopies(folder / "copies", 1000))
        self.other: Blobs = S3Blobs(bucket, LocalCopies(folder / "other copies", 1000))
        self._folder = folder

    def stored(self) -> dict[str, bytes]:
        objects = self.service.objects(BUCKET)
        return {key.removeprefix(f"{PREFIX}/"): data for key, data in objects.items()}

    def put(self, name: str, data: bytes) -> None:
        self.service.put(BUCKET, f"{PREFIX}/{name}", data)

    def make_old(self) -> None:
        self.service.make_old(timedelta(days=9))
        for path in self._folder.rglob("*"):
            os.utime(path, (0, 0))


Place = FolderPlace | BucketPlace


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    async with S3() as service:
        yield service


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, s3: S3) -> Place:
    return FolderPlace(tmp_path) if request.param == "folder" else BucketPlace(tmp_path, s3)


async def put(blobs: Blobs, data: bytes) -> str:
    async with incoming_file(blobs.incoming, "x") as file:
        await file.write(data)
        await blobs.put(file.hash, file)
    return hash_of(data)


async def make_old(store: Store) -> None:
    await store.write(lambda connection: connection.exec_driver_sql("UPDATE media SET created_at = 0").rowcount)


# What is stored


@pytest.mark.parametrize("data", [b"", b"hello", os.urandom(900)], ids=["empty", "small", "binary"])
async def test_what_one_process_stores_another_one_reads(place: Place, data: bytes) -> None:
    hash = await put(place.blobs, data)
    assert place.stored() == {name_of(hash): data}
    assert await place.other.read(hash) == data
    async with place.other.local_file(hash) as path:
        assert path.read_bytes() == data


async def test_what_is_not_stored_is_missing(place: Place) -> None:
    with pytest.raises(BlobMissing):
        await place.blobs.read("0" * 64)
    with pytest.raises(BlobMissing):
        await place.blobs.local_file("0" * 64).__aenter__()


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: Place) -> None:
    one, two = await put(place.blobs, b"one"), await put(place.blobs, b"two")
    await place.blobs.delete([one, "0" * 64])
    await place.blobs.delete([one])
    assert place.stored() == {name_of(two): b"two"}
    with pytest.raises(BlobMissing):
        await place.blobs.read(one)


async def test_files_are_listed_and_foreign_ones_are_not(place: Place, s3: S3) -> None:
    s3.page = 2
    hashes = {await put(place.blobs, str(number).encode()) for number in range(5)}
    for foreign in ("README", "ab/README", f"ab/cd/{'0' * 62}", f"AB/{'0' * 62}"):
        place.put(foreign, b"not ours")
    listed = [blob async for blob in place.blobs.stored()]
    assert {blob.hash for blob in listed} == hashes
    assert len(listed) == 5
    assert all(blob.size == 1 and datetime.now(UTC) - blob.changed < DAY for blob in listed)


async def test_nothing_is_stored_in_a_place_that_is_not_there_yet(place: Place) -> None:
    assert [blob async for blob in place.blobs.stored()] == []
    assert await place.blobs.delete_leftovers(datetime.now(UTC)) == 0


async def test_what_a_crash_left_half_written_is_deleted_when_it_is_old(place: Place) -> None:
    await put(place.blobs, b"whole")
    for name in (".unfinished-1", ".unfinished-2"):
        (place.blobs.incoming / name).write_bytes(b"hal")
    os.utime(place.blobs.incoming / ".unfinished-1", (0, 0))
    assert await place.blobs.delete_leftovers(datetime.now(UTC) - DAY) == 1
    assert (place.blobs.incoming / ".unfinished-2").exists()
    assert await place.blobs.read(hash_of(b"whole")) == b"whole"


# Cleaning up


@pytest.mark.engines
async def test_a_sweep_deletes_what_nobody_uses_and_what_the_database_does_not_know(place: Place, store: Store) -> None:
    media = Media(place.blobs, store)
    used = await media.put(b"used", "a")
    unused = await media.put(b"unused", "b")
    look = await store.accept(message(files=(PHOTO,)), SESSION)
    await store.mark_ready(look.id, (PHOTO,), (used,))
    place.put(name_of("1" * 64), b"unknown")
    place.make_old()
    await make_old(store)
    recent = await media.put(b"recent", "c")
    place.put(name_of("2" * 64), b"unknown and recent")
    assert await media.sweep(DAY) == 2
    assert set(place.stored()) == {*map(name_of, (used.hash, recent.hash, "2" * 64))}
    with pytest.raises(MediaMissing):
        await media.read(unused)
    assert await media.sweep(DAY) == 0


@pytest.mark.engines
async def test_files_of_a_deleted_conversation_are_deleted_at_once(place: Place, store: Store) -> None:
    media = Media(place.blobs, store)
    files = [await media.put(str(number).encode(), "x") for number in range(250)]
    assert await media.remove([file.hash for file in files]) == 250
    assert place.stored() == {}


@pytest.mark.engines
async def test_a_file_that_was_stored_again_for_somebody_else_outlives_the_conversation(
    place: Place, store: Store
) -> None:
    """That of the other one is on its way into a message."""
    media, other = Media(place.blobs, store), Media(place.other, store)
    file = await media.put(b"shared", "mine")
    await other.put(b"shared", "theirs")
    assert await media.remove([file.hash]) == 0
    assert await other.read(file) == b"shared"
    await make_old(store)
    place.make_old()
    assert await media.sweep(DAY) == 1
    assert place.stored() == {}


@pytest.mark.engines
async def test_a_file_stored_after_a_conversation_was_deleted_outlives_it(place: Place, store: Store) -> None:
    media = Media(place.blobs, store)
    deleted_at = datetime.now(UTC)
    file = await media.put(b"new", "new")
    assert await media.remove([file.hash], deleted_at) == 0
    assert await media.read(file) == b"new"


@pytest.mark.engines
async def test_a_file_whose_deletion_fails_is_stored_again_and_stays(
    place: Place, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = Media(place.blobs, store)
    file = await media.put(b"again", "x")

    class Failing:
        """The place, which deletes nothing at the moment."""

        def __getattr__(self, name: str) -> object:
            return getattr(place.blobs, name)

        async def delete(self, hashes: Iterable[str]) -> None:
            raise OSError("it does not work")

    with pytest.raises(MediaUnavailable, match="does not work"):
        await Media(Failing(), store).remove([file.hash])  # type: ignore[arg-type]

    async def expire(seconds: float) -> None:
        """Whoever deletes does not answer any more."""
        await store.write(lambda connection: connection.exec_driver_sql("UPDATE media SET claimed_at = 0").rowcount)

    assert await Media(place.blobs, store, pause=expire).put(b"again", "x") == file
    assert await media.read(file) == b"again"
    await store.accept(message(), SESSION)
    turn = await begin(store)
    assert turn is not None
    assert await media.sweep(DAY) == 0


# The bucket


@pytest.fixture
def bucket_place(tmp_path: Path, s3: S3) -> BucketPlace:
    return BucketPlace(tmp_path, s3)


async def test_a_large_file_is_sent_in_parts(bucket_place: BucketPlace, s3: S3) -> None:
    data = os.urandom(9_000_000)
    hash = await put(bucket_place.blobs, data)
    assert bucket_place.stored() == {name_of(hash): data}
    assert s3.count("PUT") == 2
    assert not s3.uploads
    assert await bucket_place.other.read(hash) == data


async def test_a_file_is_downloaded_once_however_many_read_it(bucket_place: BucketPlace, s3: S3) -> None:
    hash = await put(bucket_place.blobs, b"hello")
    assert await asyncio.gather(*(bucket_place.other.read(hash) for _ in range(9))) == [b"hello"] * 9
    assert await bucket_place.blobs.read(hash) == b"hello", "what was stored here need not be downloaded"
    assert s3.count("GET") == 1


async def test_copies_are_bounded_and_those_used_last_stay(bucket_place: BucketPlace) -> None:
    blobs = bucket_place.blobs
    first, second, third = [await put(blobs, bytes([number]) * 300) for number in range(3)]
    for age, hash in enumerate((first, second, third)):
        os.utime(blobs.incoming / hash, (age, age))
    await blobs.read(first)
    async with blobs.local_file(second) as held:
        os.utime(held, (1, 1))
        fourth = await put(blobs, b"x" * 300)
        assert {path.name for path in blobs.incoming.iterdir()} == {first, third, fourth, held.name}
        assert held.read_bytes() == b"\1" * 300, "a copy that is read stays until it is read"
    assert {path.name for path in blobs.incoming.iterdir()} == {first, third, fourth}
    assert await blobs.read(second) == b"\1" * 300


async def test_a_file_larger_than_all_copies_may_be_is_read(bucket_place: BucketPlace) -> None:
    data = os.urandom(5000)
    hash = await put(bucket_place.blobs, data)
    assert await bucket_place.blobs.read(hash) == data
    assert await bucket_place.other.read(hash) == data
    assert list(bucket_place.blobs.incoming.iterdir()) == []


async def test_copies_that_nobody_uses_go_with_the_daily_cleanup(bucket_place: BucketPlace, store: Store) -> None:
    """What another process has deleted does not stay here."""
    hash = await put(bucket_place.blobs, b"private")
    await bucket_place.other.read(hash)
    await bucket_place.blobs.delete([hash])
    bucket_place.make_old()
    await Media(bucket_place.other, store).sweep(DAY)
    assert list(bucket_place.other.incoming.iterdir()) == []


async def test_a_file_that_was_changed_in_the_bucket_is_not_given_out(
    bucket_place: BucketPlace, s3: S3, store: Store
) -> None:
    media = Media(bucket_place.other, store)
    file = await Media(bucket_place.blobs, store).put(b"true", "note.txt")
    s3.put(BUCKET, f"{PREFIX}/{name_of(file.hash)}", b"fake")
    with pytest.raises(MediaUnavailable, match="are others"):
        await media.read(file)
    assert list(bucket_place.other.incoming.iterdir()) == []


async def test_the_service_may_be_busy_for_a_moment(bucket_place: BucketPlace, s3: S3) -> None:
    s3.fail(503, times=2)
    hash = await put(bucket_place.blobs, b"hello")
    s3.fail(500, times=2)
    assert await bucket_place.other.read(hash) == b"hello"


def bucket(service: S3, **changed: str) -> Bucket:
    return Bucket(**{"name": BUCKET, **options(service), **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "none"}, r"http://127.* has no bucket none: create it, or correct \[media\] url"),
        ({"region": "us-west-2"}, r"the bucket media is in the region eu-central-1: set region in \[media\.s3\]"),
        ({"access_key_id": "AKIAOTHER"}, r"does not accept the access key \(InvalidAccessKeyId\)"),
        ({"secret_access_key": "other"}, r"does not accept the access key \(SignatureDoesNotMatch\)"),
        ({"endpoint": "http://127.0.0.1:9"}, r"http://127\.0\.0\.1:9 cannot be reached"),
        ({"endpoint": "http://nowhere.invalid"}, r"the name of http://nowhere\.invalid is not known"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
async def test_a_wrong_setting_is_explained(
    tmp_path: Path, s3: S3, store: Store, changed: dict[str, str], said: str
) -> None:
    s3.add_bucket(BUCKET)
    media = Media(S3Blobs(bucket(s3, **changed), LocalCopies(tmp_path / "copies", 1000)), store)
    with pytest.raises(MediaUnavailable, match=said) as raised:
        await media.put(b"hello", "note.txt")
    assert s3.secret not in repr(bucket(s3, **changed)) + str(raised.value)
    stored = Attachment(hash_of(b"hello"), "note.txt", "text/plain", 5)
    with pytest.raises(MediaUnavailable, match=said):
        await media.read(stored)


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("PUT", lambda media, file: media.put(b"more", "note.txt")),
        ("GET", lambda media, file: media.read(file)),
        ("GET", lambda media, file: media.sweep(DAY)),
        ("DELETE", lambda media, file: media.remove([file.hash])),
    ],
    ids=["put", "read", "sweep", "remove"],
)
async def test_a_denied_operation_is_explained(
    bucket_place: BucketPlace, s3: S3, method: str, call: Callable[[Media, Attachment], Awaitable[object]], store: Store
) -> None:
    file = await Media(bucket_place.blobs, store).put(b"hello", "note.txt")
    s3.deny(method)
    with pytest.raises(MediaUnavailable, match=r"denies access to the bucket media .*s3:PutObject"):
        await call(Media(bucket_place.other, store), file)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "status code: 301: <Error><Code>PermanentRedirect</Code><Endpoint>m.s3-us-west-2.amazonaws.com</Endpoint>",
            "the bucket m is in the region us-west-2: set region",
        ),
        ("status code: 301 Moved Permanently", "the bucket m is not in the region us-east-1: set region"),
        ("status code: 403: <Error><Code>RequestTimeTooSkewed</Code>", "the clock of this machine differs"),
        ("PUT http://169.254.169.254/latest/api/token - status code: 403", "no access key was found"),
        (
            "status code: 409 Conflict: <Error><Code>Odd</Code>\n\nDebug source: x",
            "answered: status code: 409 Conflict",
        ),
    ],
)
def test_other_answers_are_explained(answer: str, said: str) -> None:
    assert said in explained(answer, Bucket("m"))


async def test_an_upload_that_fails_leaves_nothing_here(bucket_place: BucketPlace, s3: S3) -> None:
    s3.deny("PUT")
    with pytest.raises(BucketError):
        await put(bucket_place.blobs, b"hello")
    assert list(bucket_place.blobs.incoming.iterdir()) == []
