"""Messages as pages and programs post them: what is taken, and what is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.api.conftest import control_api
from tests.api.streams import watching
from tests.channels.web_gateway import png
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

ONE = "web:local:one"
HERE = f"/conversations/{ONE}"

MALFORMED: tuple[dict[str, Any], ...] = (
    {"json": {"client_id": "client-0001", "text": "  "}},
    {"json": {"client_id": "x", "text": "hi"}},
    {"json": {"client_id": "client-0001", "text": "hi", "surprise": 1}},
    {"json": ["hi"]},
    {"content": b"\xff{", "headers": {"Content-Type": "application/json"}},
    {"content": b"--nonsense", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
    {"content": b"hi"},
)


async def history(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await client.get(f"{HERE}/history")
    return [] if answer.status_code == 404 else list(answer.json()["items"])


async def test_a_form_arrives_whole_with_safe_names_of_its_files(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    text = "wörd 😀\r\n" * 12_000
    files = [
        ("files", ("../pic.png", png())),
        ("files", ("nothing.txt", b"")),
        ("files", (b"\xff\xfe.bin".decode("latin-1"), b"x")),
    ]
    async with control_api(tmp_path, api, models) as control, watching(control.client, ONE) as stream:
        data = {"client_id": "client-0001", "text": text}
        sent = await control.client.post(f"{HERE}/messages", data=data, files=files)
        assert sent.status_code == 200, sent.text
        message = (await stream.until("message", where=lambda data: data["message"]["files"])).data["message"]
        assert "message.state" not in stream.types
        names = [file["name"] for file in message["files"]]
        for file, size in zip(message["files"], (len(png()), 0, 1), strict=True):
            stored = await control.client.get(f"{HERE}/files/{file['hash']}/{file['name']}")
            assert len(stored.content) == file["size"] == size
            shown = "inline" if file["name"] == "pic.png" else "attachment"
            assert stored.headers["content-disposition"].startswith(f"{shown}; filename*=")
    assert message["text"] == text.replace("\r\n", "\n")
    assert names[:2] == ["pic.png", "nothing.txt"]
    assert (message["files"][0]["width"], message["files"][0]["height"]) == (640, 360)


async def test_of_the_bytes_of_a_file_none_runs_as_a_page_of_this_server(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with control_api(tmp_path, api, models) as control:
        files = [("files", ("a.html", b"<script>alert(1)</script>"))]
        await control.client.post(f"{HERE}/messages", data={"client_id": "client-0001"}, files=files)
        await models.until(1)
        [message, *_] = await history(control.client)
        path = f"{HERE}/files/{message['files'][0]['hash']}"
        saved = await control.client.get(f"{path}/a.html")
        odd = await control.client.get(f"{path}/%2e%2e%2fa%20%3b%22%E2%80%AEb.txt")
        split = await control.client.get(f"{path}/%0d%0aSet-Cookie%3a%20a%3db")
        missing = [await control.client.get(f"{HERE}/files/{hash}/x") for hash in ("0" * 64, "nonsense", "Z" * 64)]
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in saved.headers["content-security-policy"]
    assert odd.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20%3B%22b.txt"
    assert split.headers.get("set-cookie") is None
    assert {(answer.status_code, answer.json()["code"]) for answer in missing} == {(404, "file_not_found")}


async def test_a_malformed_post_gets_words_and_nothing_is_stored(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control:
        for post in MALFORMED:
            answer = await control.client.post(f"{HERE}/messages", **post)
            assert 400 <= answer.status_code < 500, post
            assert answer.json()["detail"], post
        assert await history(control.client) == []
    assert models.requests == []


async def test_a_lone_surrogate_in_json_does_not_break_the_store(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with control_api(tmp_path, api, models) as control:
        content = b'{"client_id": "client-0001", "text": "a\\ud800b\\u0000"}'
        headers = {"Content-Type": "application/json"}
        answer = await control.client.post(f"{HERE}/messages", content=content, headers=headers)
        assert answer.status_code in (200, 422)
        assert [item["text"] for item in await history(control.client) if item["kind"] == "message"] == (
            ["a?b"] if answer.status_code == 200 else []
        )


async def test_a_refused_message_says_why(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    (tmp_path / "hooks.py").write_text(
        "from agent.hook import Deny\nclass Strict:\n"
        "    async def on_message(self, where, subject):\n        return Deny('not today')\n"
    )
    hook = (
        f"[[hooks]]\nname = 'strict'\ntype = 'python'\npath = '{tmp_path}/hooks.py:Strict'\npoints = ['on_message']\n"
    )
    async with control_api(tmp_path, api, models, more=hook) as control:
        message = {"client_id": "client-0001", "text": "hi"}
        first, again = [(await control.client.post(f"{HERE}/messages", json=message)).json() for _ in range(2)]
        [item, *_] = await history(control.client)
    assert (first["state"], first["reason"]) == ("refused", "not today")
    assert (again["state"], again["reason"], again["duplicate"]) == ("refused", "not today", True)
    assert (item["state"], item["reason"]) == ("refused", "not today")
