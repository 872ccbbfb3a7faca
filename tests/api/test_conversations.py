"""Conversations of every channel, over HTTP."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import control_api
from tests.api.test_messages import send
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:one"


async def ids(client: httpx.AsyncClient, **params: str | int) -> list[str]:
    answer = await client.get("/conversations", params=params)
    return [each["id"] for each in answer.json()["conversations"]]


async def test_conversations_of_every_channel_are_listed_newest_first(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        for number, name in ((7, "Ann"), (8, "Bob")):
            chat = api.private(number, name)
            await chat.say(f"I am {name}")
            await chat.hear("Hello.")
        answer = await control.client.get("/conversations")
    assert answer.status_code == 200
    listed = answer.json()["conversations"]
    assert [(each["channel"], each["title"]) for each in listed] == [("telegram", "I am Bob"), ("telegram", "I am Ann")]


async def test_without_a_valid_key_nothing_is_told(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control, control.using("wrong") as stranger:
        answer = await stranger.get("/conversations")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "key_missing"


async def test_conversations_are_found_by_title_and_words_and_archived(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        for name, text in (("one", "paint the boat"), ("two", "100% wool"), ("three", "a sheep")):
            await send(client, text, to=f"web:local:{name}")
        titled = await client.patch(HERE, json={"title": "Summer"})
        assert (titled.status_code, titled.json()["title"]) == (200, "Summer")
        assert await ids(client, search="summer") == ["web:local:one"]
        assert await ids(client, search="the BOAT") == ["web:local:one"]
        assert await ids(client, search="0% w") == ["web:local:two"]
        assert await ids(client, search="%") == ["web:local:two"]
        assert await ids(client, limit=1) == ["web:local:three"]
        assert (await client.patch(HERE, json={"archived": True})).json()["archived"] is True
        assert await ids(client) == ["web:local:three", "web:local:two"]
        assert await ids(client, archived="true") == ["web:local:one"]
        await send(client, "once more", client_id="message-2")
        assert await ids(client) == ["web:local:one", "web:local:three", "web:local:two"]


async def test_a_conversation_tells_what_goes_on_there(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Say([Pause(), "Hello."]))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi", wait=0)
        await models.until_held()
        await send(control.client, "later", client_id="message-2", wait=0, busy="queue")
        info = (await control.client.get(HERE)).json()
        models.release()
        unknown = await control.client.get("/conversations/web:local:none")
    assert (info["running"], info["turn"]["turn"], info["turn"]["step"]) == (True, sent["run"], 1)
    assert (info["queued"], info["agent"], info["model"]) == (1, "main", "openai:test")
    assert (info["busy"], info["generation"], info["parked"], info["title"]) == ("steer", 0, None, "hi")
    assert info["workspace"] is not None
    assert (unknown.status_code, unknown.json()["code"]) == (404, "conversation_not_found")


async def test_settings_are_changed_as_a_whole_or_refused(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        await send(client, "hi")
        changed = (await client.patch(HERE, json={"busy": "queue", "reasoning": "low"})).json()
        refused = await client.patch(HERE, json={"title": "New", "model": "nothing"})
        after = (await client.get(HERE)).json()
    assert (changed["busy"], changed["reasoning"]) == ("queue", "low")
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_model")
    assert after["title"] == "hi"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"{HERE}/history?generation={10**30}", ""),
        ("PATCH", HERE, r'{"model": "\ud800"}'),
        ("PATCH", HERE, r'{"agent": "\ud800"}'),
        ("PATCH", HERE, r'{"reasoning": "\ud800"}'),
        ("POST", "/keys", r'{"name": "ci", "conversations": ["\ud800"]}'),
    ],
)
async def test_values_that_nothing_can_store_are_refused(
    tmp_path: Path, models: ModelServer, api: BotApi, method: str, path: str, body: str
) -> None:
    async with control_api(tmp_path, api, models) as control:
        await send(control.client, "hi")
        answer = await control.client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_the_history_is_read_page_by_page(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda request: Say(f"You said {request.last_user_text}."))
    async with control_api(tmp_path, api, models) as control:
        for number in (1, 2, 3):
            await send(control.client, f"word {number}", client_id=f"message-{number}")
        texts, before = [], None
        while True:
            params = {"limit": 2} | ({"before": before} if before else {})
            page = (await control.client.get(f"{HERE}/history", params=params)).json()
            texts = [each["text"] for each in page["items"] if each["kind"] == "message"] + texts
            assert [each["kind"] for each in page["items"]] == ["message", "reply"]
            before = page["before"]
            if before is None:
                break
        lost = await control.client.get(f"{HERE}/history", params={"before": "m999"})
    assert texts == ["word 1", "word 2", "word 3"]
    assert (lost.status_code, lost.json()["code"]) == (404, "page_not_found")


async def test_files_go_up_and_down_and_stay_in_their_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        up = await client.post(f"{HERE}/files", files={"file": ("a.txt", b"some words")})
        assert up.status_code == 201
        file = {"hash": up.json()["hash"], "name": "a.txt"}
        sent = await send(client, "read this", files=[file])
        assert sent["result"]["state"] == "completed"
        assert "some words" in str(models.requests[-1].body)
        down = await client.get(f"{control.url}{up.json()['url']}")
        assert (down.content, down.headers["content-disposition"][:10]) == (b"some words", "attachment")
        await send(client, "hi", to="web:local:two")
        other = await client.get(f"/conversations/web:local:two/files/{file['hash']}/a.txt")
        stolen = {"client_id": "stolen-01", "text": "x", "files": [file]}
        named = await client.post("/conversations/web:local:two/messages", json=stolen)
    assert [(each.status_code, each.json()["code"]) for each in (other, named)] == [(404, "file_not_found")] * 2


async def test_a_conversation_is_exported_and_deleted(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        await send(client, "remember me")
        exported = await client.get(f"{HERE}/export")
        made = await client.post("/keys", json={"name": "ci", "scope": "chat"})
        async with control.using(made.json()["secret"]) as program:
            refused = await program.delete(HERE)
        deleted = await client.delete(HERE)
        gone = await client.get(HERE)
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        [text] = [archive.read(name).decode() for name in archive.namelist() if name.endswith("conversation.md")]
    assert "remember me" in text
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    assert (deleted.json()["messages"], gone.status_code) == (1, 404)


async def test_the_list_is_read_page_by_page_also_with_a_key_for_some_conversations(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        names = ["ci-1", "other-1", "ci-2", "other-2", "CI-3", "last", "ci-4"]
        for name in names:
            await send(control.client, "hi", to=f"web:local:{name}")
        made = await control.client.post(
            "/keys", json={"name": "ci", "conversations": ["web:*:ci-?", "web:local:last"]}
        )
        async with control.using(made.json()["secret"]) as program:
            for client, seen in ((control.client, names), (program, ["ci-1", "ci-2", "last", "ci-4"])):
                found, before = [], ""
                while True:
                    params = {"limit": 2} | ({"before": before} if before else {})
                    page = (await client.get("/conversations", params=params)).json()
                    found += [each["id"].removeprefix("web:local:") for each in page["conversations"]]
                    assert len(page["conversations"]) == 2 or page["before"] is None
                    if page["before"] is None:
                        break
                    before = page["before"]
                assert found == seen[::-1]
        by_time = await control.client.get("/conversations", params={"before": before.partition("~")[0]})
        wrong = await control.client.get("/conversations", params={"before": "yesterday"})
    assert [each["id"].removeprefix("web:local:") for each in by_time.json()["conversations"]] == names[4::-1]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    "body", [b'{"title": "\xff"}', b'{"title": ', b"", b'{"title": "\\ud800"}', b'{"title": "\\u0000 "}']
)
async def test_a_body_that_cannot_be_read_is_not_valid(
    tmp_path: Path, models: ModelServer, api: BotApi, body: bytes
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        await send(control.client, "hi")
        headers = {"Content-Type": "application/json"}
        refused = await control.client.patch(HERE, content=body, headers=headers)
        kept = (await control.client.get(HERE)).json()["title"]
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert kept == "hi"
