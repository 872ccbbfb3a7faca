"""Files are sent in pieces, whole or a range of them."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import httpx

from tests.api.conftest import control_api
from tests.api.test_messages import send
from tests.servers.models import Call, ModelServer, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:me"
PLAN = "the plan of the first conversation"
BYTES = b"".join(number.to_bytes(4) for number in range(75_000))


async def said_with_a_file(client: httpx.AsyncClient) -> str:
    """The hash of the file."""
    sent = await client.post(
        f"{HERE}/messages", data={"client_id": "client-0001", "text": "keep this"}, files=[("files", ("a.bin", BYTES))]
    )
    assert sent.status_code == 200, sent.text
    return sha256(BYTES).hexdigest()


RANGES = [
    (None, 200, BYTES, None),
    ("bytes=0-0", 206, BYTES[:1], "bytes 0-0/300000"),
    ("bytes=100000-199999", 206, BYTES[100_000:200_000], "bytes 100000-199999/300000"),
    ("bytes=299990-", 206, BYTES[-10:], "bytes 299990-299999/300000"),
    ("bytes=-7", 206, BYTES[-7:], "bytes 299993-299999/300000"),
    ("bytes=300000-", 416, b"", "bytes */300000"),
]


async def test_a_file_or_a_range_of_it_is_sent(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Kept."))
    async with control_api(tmp_path, api, models) as control:
        hash = await said_with_a_file(control.client)
        for asked, status, sent, said in RANGES:
            headers = {} if asked is None else {"Range": asked}
            answer = await control.client.get(f"{HERE}/files/{hash}/a.bin", headers=headers)
            assert (answer.status_code, answer.headers.get("content-range"), answer.content) == (status, said, sent)
            assert status == 416 or answer.headers["etag"] == f'"{hash}"'


async def test_a_file_whose_bytes_are_gone_is_not_found(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Kept."))
    async with control_api(tmp_path, api, models) as control:
        hash = await said_with_a_file(control.client)
        (media,) = tmp_path.rglob("media")  # noqa: ASYNC240  # a few folders
        shutil.rmtree(media / hash[:2])
        answer = await control.client.get(f"{HERE}/files/{hash}/a.bin")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


async def test_files_of_one_conversation_are_not_those_of_another(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    """Neither what people have sent there, nor what tools have made, nor what was uploaded."""
    models.script(
        [Call("write_file", {"path": "plan.txt", "content": PLAN})],
        [Call("send_file", {"path": "plan.txt"})],
        Say("Kept."),
        Say("Hello."),
    )
    async with control_api(tmp_path, api, models) as control:
        client, elsewhere = control.client, "/conversations/web:local:another"
        data = {"client_id": "client-0001", "text": "keep this"}
        await client.post(f"{HERE}/messages?wait=60", data=data, files=[("files", ("a.bin", BYTES))])
        await send(client, "hi", to="web:local:another")
        await client.post(f"{HERE}/files?name=a.bin", content=b"uploaded")
        for content in (BYTES, PLAN.encode(), b"uploaded"):
            hash = sha256(content).hexdigest()
            assert (await client.get(f"{HERE}/files/{hash}/a.bin")).content == content
            assert (await client.get(f"{elsewhere}/files/{hash}/a.bin")).status_code == 404
            named = {"client_id": f"client-{hash[:6]}", "text": "see", "files": [{"hash": hash, "name": "a.bin"}]}
            refused = await client.post(f"{elsewhere}/messages", json=named)
            assert (refused.status_code, refused.json()["code"]) == (404, "file_not_found")
