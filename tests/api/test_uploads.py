"""Files that are uploaded, as they arrive."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.api.limits import UPLOAD_LIMIT
from gateway.media.media import MAX_BYTES
from tests.api.conftest import control_api
from tests.api.test_messages import send
from tests.engines import engines
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

FILES = "/conversations/web:local:one/files"
MEGABYTE = 1 << 20


def arriving(folder: Path) -> list[int]:
    """The sizes of files that are not stored yet."""
    return [path.stat().st_size for path in folder.rglob(".unfinished-*")]


async def until_arriving(folder: Path, size: int) -> None:
    async with asyncio.timeout(30):
        while max(await asyncio.to_thread(arriving, folder), default=0) < size:  # noqa: ASYNC110 - the disk rings no bell
            await asyncio.sleep(0.01)


async def test_a_body_is_on_the_disk_while_the_rest_of_it_is_still_to_come(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    data = [bytes([number]) * MEGABYTE for number in range(5)]

    async def body() -> AsyncIterator[bytes]:
        for chunk in data[:-1]:
            yield chunk
        await until_arriving(tmp_path, 3 * MEGABYTE)
        yield data[-1]

    async with control_api(tmp_path, api, models) as control:
        up = await control.client.post(FILES, content=body(), params={"name": "../much.bin"})
        assert up.status_code == 201, up.text
        file = up.json()
        assert (file["name"], file["size"]) == ("much.bin", 5 * MEGABYTE)
        assert file["hash"] == sha256(b"".join(data)).hexdigest()
        sent = await send(control.client, "here", files=[{"hash": file["hash"], "name": "much.bin"}])
        down = await control.client.get(f"{control.url}{file['url']}")
    assert sent["result"]["state"] == "completed"
    assert down.content == b"".join(data)
    assert arriving(tmp_path) == []


async def test_of_an_upload_that_breaks_off_nothing_is_kept(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 2 * MEGABYTE
        await until_arriving(tmp_path, MEGABYTE)
        raise ConnectionError("the network is gone")

    async with control_api(tmp_path, api, models) as control:
        with pytest.raises(ConnectionError):
            await control.client.post(FILES, content=body(), params={"name": "much.bin"})
        async with asyncio.timeout(30):
            while await asyncio.to_thread(arriving, tmp_path):  # noqa: ASYNC110 - the disk rings no bell
                await asyncio.sleep(0.01)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_file_that_is_too_large_is_refused_before_all_of_it_has_come(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    largest = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal largest
        for _ in range(MAX_BYTES // MEGABYTE + 4):
            yield bytes(MEGABYTE)
            largest = max([largest, *arriving(tmp_path)])

    async with control_api(tmp_path, api, models) as control:
        answer = await control.client.post(FILES, content=body(), params={"name": "much.bin"})
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    assert 0 < largest <= MAX_BYTES
    assert arriving(tmp_path) == []


@pytest.mark.parametrize(
    ("request_of", "detail"),
    [
        ({"content": b"bytes"}, "name"),
        ({"files": {"other": ("a.txt", b"words")}}, "form with one file"),
        ({"data": {"file": "words"}, "files": {"x": ("a.txt", b"words")}}, "form with one file"),
    ],
)
async def test_what_is_no_file_is_refused(
    tmp_path: Path, models: ModelServer, api: BotApi, request_of: dict[str, object], detail: str
) -> None:
    async with control_api(tmp_path, api, models) as control:
        answer: httpx.Response = await control.client.post(FILES, **request_of)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert detail in answer.json()["detail"]


async def test_files_of_a_form_are_stored_with_the_message_that_they_come_with(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    form = {"client_id": "message-1", "text": "read these"}
    files = [("files", (f"{name}.txt", f"words of {name}".encode())) for name in ("a", "b")]
    async with control_api(tmp_path, api, models) as control:
        path = "/conversations/web:local:one/messages"
        answer = await control.client.post(path, data=form, files=files, params={"wait": 60})
    assert answer.json()["result"]["state"] == "completed", answer.text
    for name in ("a", "b"):
        assert f"words of {name}" in str(models.requests[-1].body)


WORDS = b"words of a file"
HASH = sha256(WORDS).hexdigest()
URL = f"{FILES}/{HASH}/a.txt"


async def test_a_file_that_was_uploaded_before_a_restart_can_be_named_after_it(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with control_api(tmp_path, api, models) as control:
        up = await control.client.post(FILES, content=WORDS, params={"name": "a.txt"})
        assert up.status_code == 201, up.text
        assert up.json()["hash"] == HASH
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "here", files=[{"hash": HASH, "name": "b.txt"}])
    assert sent["result"]["state"] == "completed"
    assert WORDS.decode() in str(models.requests[-1].body)


async def test_the_files_of_a_message_are_there_before_it_can_be_read(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    database = tmp_path / "home" / "interject.db"
    form, files = {"client_id": "message-1", "text": "read"}, [("files", ("a.txt", WORDS))]
    async with control_api(tmp_path, api, models) as control:
        # It becomes ready only when the database takes that.
        engines.refuse(database, "inbox", "UPDATE OF ready")
        sent = await control.client.post("/conversations/web:local:one/messages", data=form, files=files)
        assert sent.json()["state"] == "accepted", sent.text
        assert (await control.client.get(URL)).content == WORDS
        elsewhere = await control.client.get(URL.replace("one", "two"))
        assert elsewhere.status_code == 404
        engines.allow(database, "inbox")
        await models.until(1)
        assert (await control.client.get(URL)).content == WORDS


async def test_while_the_database_takes_no_files_a_program_is_told_to_try_again(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    database = tmp_path / "home" / "interject.db"
    form, files = {"client_id": "message-1", "text": "read"}, [("files", ("a.txt", WORDS))]
    async with control_api(tmp_path, api, models) as control:
        engines.refuse(database, "media")
        alone = await control.client.post(FILES, content=WORDS, params={"name": "a.txt"})
        with_message = await control.client.post(MESSAGES, data=form, files=files)
        for refused in (alone, with_message):
            assert (refused.status_code, refused.json()["code"]) == (503, "store_failed"), refused.text
            assert refused.headers["Retry-After"] == "5"
        engines.allow(database, "media")
        again = await control.client.post(FILES, content=WORDS, params={"name": "a.txt"})
        assert again.status_code == 201, again.text


async def test_the_files_of_a_message_that_was_refused_can_be_sent_again(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    form, files = {"client_id": "message-2", "text": "read"}, [("files", ("a.txt", WORDS))]
    async with control_api(tmp_path, api, models, more="[limits]\nmessages_per_minute = 1\n") as control:
        await send(control.client, "hi")
        refused = await control.client.post("/conversations/web:local:one/messages", data=form, files=files)
        assert refused.json()["state"] == "refused", refused.text
        assert (await control.client.get(URL)).content == WORDS


MESSAGES = "/conversations/web:local:one/messages"


def large_message(number: int) -> bytes:
    """JSON of a message with a file of 1.5 MB."""
    data = base64.b64encode(bytes(1_500_000)).decode()
    return json.dumps(
        {"client_id": f"large-{number:03}", "text": f"read {number}", "files": [{"name": "much.bin", "data": data}]}
    ).encode()


async def test_large_messages_in_json_are_read_one_after_the_other_and_small_ones_meanwhile(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    gate, begun = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        body = large_message(1)
        yield body[:MEGABYTE]
        begun.set()
        await gate.wait()
        yield body[MEGABYTE:]

    async with control_api(tmp_path, api, models) as control:
        first = asyncio.ensure_future(control.client.post(MESSAGES, content=slowly()))
        await begun.wait()
        # The gateway reads it when it has answered what came after it.
        await control.client.get("/session")
        second = asyncio.ensure_future(control.client.post(MESSAGES, content=large_message(2)))
        small = await send(control.client, "small")
        assert small["result"]["state"] == "completed"
        assert not second.done()
        gate.set()
        answers = [await first, await second]
    assert [(each.status_code, each.json()["state"]) for each in answers] == [(200, "accepted")] * 2


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent_if_its_client_asks(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control:
        address = urlsplit(control.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST /api/v1{MESSAGES} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {control.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {UPLOAD_LIMIT + 1}\r\nExpect: 100-continue\r\n\r\n"
        )
        writer.write(head.encode())
        async with asyncio.timeout(30):
            status = await reader.readline()
            body = await reader.read()
        writer.close()
        fits = await control.client.post(MESSAGES, content=large_message(3), headers={"Expect": "100-continue"})
    assert status.split()[1] == b"413"
    assert b'"code":"too_large"' in body
    assert b"the limit is 100,000,000" in body
    assert fits.status_code == 200


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"], ids=["sent", "asked"])
@pytest.mark.parametrize(
    "lengths",
    [["1" * 19], ["9" * 20], ["9" * 5_000], ["-1"], ["+5"], ["0x10"], ["\u00b2"], ["5 5"], [""], ["5", "500"]],
    ids=lambda each: repr(each)[:20],
)
async def test_a_length_that_cannot_be_is_refused_and_nothing_of_the_body_is_taken_for_a_request(
    tmp_path: Path,
    models: ModelServer,
    api: BotApi,
    caplog: pytest.LogCaptureFixture,
    lengths: list[str],
    expect: str,
) -> None:
    async with control_api(tmp_path, api, models) as control:
        address = urlsplit(control.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST /api/v1{MESSAGES} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {control.token}\r\n"
            "Content-Type: application/json\r\n"
            + "".join(f"Content-Length: {length}\r\n" for length in lengths)
            + f"{expect}\r\n"
        )
        smuggled = f"GET /api/v1/session HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
        writer.write(head.encode("latin-1") + smuggled.encode())
        writer.write_eof()
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        assert (await control.client.get("/session")).status_code == 200
    statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert [status[:1] for status in statuses] in ([], [b"4"])
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
