"""The command line with media in a bucket: files are copied between places, checked, backed up and restored."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from agent.media import Attachment
from gateway.cli.main import main
from gateway.media import FolderBlobs, Media
from gateway.media.blobs import name_of
from gateway.store import open_store
from tests.gateway.notes import PHOTO, SESSION, message
from tests.servers.s3 import S3

BUCKET = "media"
SECRET = "the secret of the access key"


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    async with S3() as service:
        service.secret = SECRET
        service.add_bucket(BUCKET)
        yield service


class Desk:
    """A data directory with settings, and the commands that an operator gives."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = folder
        self._capsys = capsys
        folder.mkdir(exist_ok=True)

    def write(self, s3: S3 | None, url: str = f"s3://{BUCKET}/files", **changed: str) -> None:
        """Settings with a bucket, or without one."""
        access = {
            "endpoint": s3.url if s3 else "",
            "region": "eu-central-1",
            "access_key_id": S3.key_id,
            "secret_access_key": SECRET,
        }
        given = "".join(f'{name} = "{value}"\n' for name, value in {**access, **changed}.items())
        media = f'[media]\nurl = "{url}"\n[media.s3]\n{given}' if s3 else '[media]\npath = "media"\n'
        store = f'[store]\nurl = "sqlite:///{self.home}/interject.db"\n'
        (self.home / "interject.toml").write_text(f"{media}{store}[web]\nport = 0\n[tools]\nenabled = []\n")

    async def call(self, *words: str) -> tuple[int, str]:
        """The exit code, and everything that is printed."""
        code = await asyncio.to_thread(main, [*words, "--config", str(self.home / "interject.toml")])
        printed = self._capsys.readouterr()
        assert SECRET not in printed.out + printed.err
        return code, printed.out + printed.err

    async def checked(self) -> dict[str, Any]:
        code, printed = await self.call("check", "--online", "--json")
        (media,) = [each for each in map(json.loads, printed.splitlines()) if each["part"] == "media"]
        assert code == (0 if media["ok"] else 1)
        return dict(media)


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    return Desk(tmp_path / "home", capsys)


def stored(folder: Path, *files: bytes) -> dict[str, bytes]:
    """Files in a media folder; by their names there."""
    named = {name_of(sha256(data).hexdigest()): data for data in files}
    for name, data in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return named


def in_folder(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_bucket(s3: S3, prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): data for key, data in s3.objects(BUCKET).items()}


async def test_files_are_copied_into_a_bucket_and_back_and_only_what_is_missing(
    desk: Desk, s3: S3, tmp_path: Path
) -> None:
    desk.write(s3)
    files = stored(tmp_path / "old", b"", b"one", os.urandom(3_000_000), *(str(n).encode() for n in range(30)))
    code, printed = await desk.call("media", "copy", str(tmp_path / "old"), f"s3://{BUCKET}/new/place")
    assert (code, in_bucket(s3, "new/place/")) == (0, files)
    assert "Copied 33 files" in printed
    assert f"Now in [media]: s3://{BUCKET}/new/place" in printed

    files |= stored(tmp_path / "old", b"came later")
    sent = s3.count("PUT")
    code, printed = await desk.call("media", "copy", str(tmp_path / "old"), f"s3://{BUCKET}/new/place")
    assert (code, in_bucket(s3, "new/place/"), s3.count("PUT")) == (0, files, sent + 1)
    assert "33 were there already" in printed

    back = tmp_path / "back again"
    code, printed = await desk.call("media", "copy", f"s3://{BUCKET}/new/place", back.as_uri(), "--json")
    assert (code, in_folder(back)) == (0, files)
    assert json.loads(printed.splitlines()[0])["files"] == 34


async def test_a_copy_that_was_interrupted_goes_on(desk: Desk, s3: S3, tmp_path: Path) -> None:
    desk.write(s3)
    files = stored(tmp_path / "old", *(str(n).encode() for n in range(40)))
    s3.deny("PUT", after=15)
    code, printed = await desk.call("media", "copy", str(tmp_path / "old"), f"s3://{BUCKET}")
    assert code == 1
    assert "denies access" in printed
    done = len(in_bucket(s3, ""))
    assert 0 < done < 40
    s3.deny()
    code, printed = await desk.call("media", "copy", str(tmp_path / "old"), f"s3://{BUCKET}")
    assert (code, in_bucket(s3, "")) == (0, files)
    assert f"{done} were there already" in printed


@pytest.mark.parametrize("direction", ["out of the bucket", "into the bucket"])
async def test_a_damaged_file_is_named_and_not_copied(desk: Desk, s3: S3, tmp_path: Path, direction: str) -> None:
    desk.write(s3)
    whole, damaged = stored(tmp_path / "folder", b"whole"), name_of("0" * 64)
    if direction == "into the bucket":
        (tmp_path / "folder" / damaged).parent.mkdir(exist_ok=True)
        (tmp_path / "folder" / damaged).write_bytes(b"other bytes")
        code, printed = await desk.call("media", "copy", str(tmp_path / "folder"), f"s3://{BUCKET}")
        assert in_bucket(s3, "") == whole
    else:
        for name, data in {**whole, damaged: b"other bytes"}.items():
            s3.put(BUCKET, name, data)
        code, printed = await desk.call("media", "copy", f"s3://{BUCKET}", str(tmp_path / "new"))
        assert in_folder(tmp_path / "new") == whole
    assert code == 1
    assert f"Not copied, since its bytes are not those of its name: {'0' * 64}" in printed


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("{folder}", "{folder}", "both are the same place"),
        ("{folder}", "file://{folder}", "both are the same place"),
        ("{folder}/none", "s3://media", "there is no folder"),
        ("{folder}", "s3://Media", "expected s3://BUCKET"),
        ("{folder}", "s3://none", "has no bucket none"),
        ("s3://none", "{folder}", "has no bucket none"),
    ],
)
async def test_places_that_are_none_are_refused(
    desk: Desk, s3: S3, tmp_path: Path, source: str, target: str, said: str
) -> None:
    desk.write(s3)
    stored(tmp_path / "folder", b"one")
    places = [each.replace("{folder}", str(tmp_path / "folder")) for each in (source, target)]
    code, printed = await desk.call("media", "copy", *places)
    assert code == 1
    assert said in printed


async def test_check_writes_reads_and_deletes_a_file_in_the_place_of_media(desk: Desk, s3: S3) -> None:
    desk.write(s3)
    found = await desk.checked()
    assert found["text"] == f"s3://{BUCKET}/files: a test file was written, read and deleted"
    assert s3.objects(BUCKET) == {}
    assert (s3.count("PUT"), s3.count("DELETE")) == (1, 1)
    desk.write(None)
    assert (await desk.checked())["text"] == f"{desk.home}/media: a test file was written, read and deleted"
    assert in_folder(desk.home / "media") == {}


@pytest.mark.parametrize(
    ("changed", "denied", "said"),
    [
        ({"region": "us-east-1"}, "", r"the bucket media is in the region eu-central-1: set region in [media.s3]"),
        ({"secret_access_key": "wrong"}, "", "does not accept the access key (SignatureDoesNotMatch)"),
        ({"endpoint": "http://127.0.0.1:9"}, "", "http://127.0.0.1:9 cannot be reached"),
        ({}, "PUT", "denies access to the bucket media (AccessDenied): the key must be allowed to list, read, write"),
        ({}, "GET", "denies access to the bucket media (AccessDenied): the key must be allowed to list, read, write"),
        (
            {},
            "DELETE",
            "denies access to the bucket media (AccessDenied): the key must be allowed to list, read, write",
        ),
    ],
)
async def test_check_says_why_a_bucket_cannot_be_used(
    desk: Desk, s3: S3, changed: dict[str, str], denied: str, said: str
) -> None:
    desk.write(s3, **changed)
    s3.deny(denied)
    found = await desk.checked()
    assert not found["ok"]
    assert said in found["text"]


async def test_doctor_says_why_it_matters(desk: Desk, s3: S3) -> None:
    desk.write(s3, url="s3://none")
    code, printed = await desk.call("doctor", "--json")
    found = {each["part"]: each for each in map(json.loads, printed.splitlines())}
    assert code == 1
    assert "has no bucket none" in found["media"]["what"]
    assert "files that people send wait" in found["media"]["why"]


async def conversation_with_a_file(desk: Desk, media: Path) -> Attachment:
    async with open_store(f"sqlite:///{desk.home}/interject.db") as store:
        file = await Media(FolderBlobs(media), store).put(b"a picture", "cat.bin")
        look = await store.accept(message(files=(PHOTO,)), SESSION)
        await store.mark_ready(look.id, (PHOTO,), (file,))
    return file


async def test_a_backup_says_that_files_are_in_the_bucket_and_one_with_files_is_restored_into_it(
    desk: Desk, s3: S3, tmp_path: Path
) -> None:
    desk.write(None)
    file = await conversation_with_a_file(desk, desk.home / "media")
    assert (await desk.call("backup", str(tmp_path / "with files.zip")))[0] == 0

    desk.write(s3)
    code, printed = await desk.call("backup", str(tmp_path / "without.zip"))
    assert code == 0
    assert "0 files" in printed
    assert f"The files of conversations are in s3://{BUCKET}/files, and not in the backup." in printed

    s3.deny("PUT")
    before = (desk.home / "interject.db").read_bytes()
    code, printed = await desk.call("restore", str(tmp_path / "with files.zip"), "--force")
    assert code == 1
    assert "denies access" in printed
    assert (desk.home / "interject.db").read_bytes() == before, "nothing was changed"
    s3.deny()
    assert (await desk.call("restore", str(tmp_path / "with files.zip"), "--force"))[0] == 0
    assert in_bucket(s3, "files/") == {name_of(file.hash): b"a picture"}
    assert (await desk.call("restore", str(tmp_path / "without.zip"), "--force"))[0] == 0


async def test_an_export_has_the_files_of_the_bucket_and_a_deletion_deletes_them(
    desk: Desk, s3: S3, tmp_path: Path
) -> None:
    desk.write(s3)
    file = await conversation_with_a_file(desk, tmp_path / "old")
    s3.put(BUCKET, f"files/{name_of(file.hash)}", b"a picture")
    assert (await desk.call("data", "export", str(tmp_path / "export.zip"), "--conversation", SESSION))[0] == 0
    with ZipFile(tmp_path / "export.zip") as archive:
        (name,) = [name for name in archive.namelist() if "/files/" in name]
        assert archive.read(name) == b"a picture"
    assert (await desk.call("data", "delete", "--conversation", SESSION, "--yes"))[0] == 0
    assert s3.objects(BUCKET) == {}
