"""What a page or a terminal needs to show conversations, over HTTP: the real gateway, and nothing but its API."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from tests.api.conftest import control_api
from tests.api.streams import watching
from tests.api.test_messages import send
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

ONE = "web:local:one"


async def listed(client: httpx.AsyncClient, **query: str) -> list[tuple[str, str, int | None]]:
    found = (await client.get("/conversations", params={"channel": "web", **query})).json()["conversations"]
    return [(each["id"], each["title"], each["generation"]) for each in found]


async def test_the_stream_of_a_conversation_may_begin_before_its_first_message(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        made = await control.client.post(
            "/keys", json={"name": "ci", "scope": "chat", "conversations": ["web:local:two"]}
        )
        async with watching(control.client, ONE) as stream, control.using(made.json()["secret"]) as other:
            assert (stream.events[0].data["items"], stream.events[0].data["before"]) == ([], None)
            await send(control.client, "hi")
            ended = await stream.until("run.ended")
            for client, id in ((control.client, "telegram:1:2"), (control.client, "web:else:one"), (other, ONE)):
                missing = await client.get(f"/conversations/{id}/events")
                assert (missing.status_code, missing.json()["code"]) == (404, "conversation_not_found")
            wrong = await control.client.get("/conversations/web:local:a.b/events")
    assert stream.text(ended.data["turn"]) == "Hello."
    assert "snapshot" not in stream.types[1:]
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")


async def test_what_new_ended_is_listed_and_read_and_deleted_with_its_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda request: Say(f"Done: {request.last_user_text}"))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        for number, text in enumerate(("Paint the shed", "/new", "/new", "Cook a soup", "Eat it")):
            await send(client, text, client_id=f"message-{number}")
        assert await listed(client) == [(ONE, "Cook a soup", None)]
        assert await listed(client, earlier="true") == [(ONE, "Paint the shed", 0)]
        assert await listed(client, earlier="true", search="soup") == []
        [message, reply] = (await client.get(f"/conversations/{ONE}/history?generation=0")).json()["items"]
        assert message["text"] == "Paint the shed"
        assert reply["reply"]["segments"][0]["markdown"] == "Done: Paint the shed"
        await client.delete(f"/conversations/{ONE}")
        assert await listed(client) == await listed(client, earlier="true") == []


async def test_what_the_gateway_itself_tells_comes_with_its_files(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control, watching(control.client, ONE) as stream:
        await send(control.client, "remember me")
        await send(control.client, "/export", client_id="message-2", wait=0)
        told = await stream.until("reply", where=lambda data: "media" in str(data))
        [file] = [each["attachment"] for each in told.data["reply"]["segments"] if each["kind"] == "media"]
        answer = await control.client.get(f"/conversations/{ONE}/files/{file['hash']}/{file['name']}")
        elsewhere = await control.client.get(f"/conversations/web:local:two/files/{file['hash']}/{file['name']}")
    with ZipFile(BytesIO(answer.content)) as archive:
        assert any("remember me" in archive.read(name).decode(errors="replace") for name in archive.namelist())
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "immutable" in answer.headers["cache-control"]
    assert elsewhere.status_code == 404


async def test_of_a_stop_screens_are_told_the_answer_and_that_it_is_dealt_with(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Say(["One ", Pause(), "two."])])
    async with control_api(tmp_path, api, models) as control, watching(control.client, ONE) as stream:
        await send(control.client, "count", wait=0)
        await stream.until("reply", "reply.changed", where=lambda data: "One" in str(data))
        for number, answer in ((2, "Stopped: "), (3, "No task is running.")):
            sent = await send(control.client, "/stop", client_id=f"message-{number}", wait=0)
            await stream.until("message.state", where=lambda data, id=sent["id"]: data["id"] == id)
            assert stream.text(sent["run"]).startswith(answer)
        items = (await control.client.get(f"/conversations/{ONE}/history")).json()["items"]
    replies = {item["reply"]["id"]: item["reply"]["segments"] for item in items if item["kind"] == "reply"}
    assert {id: list(reply["segments"].values()) for id, reply in stream.replies.items()} == replies
    assert [event.data["message"]["text"] for event in stream.events if event.type == "message"] == ["count"]


@pytest.mark.parametrize("way", ["header", "query", "both"])
async def test_a_screen_that_comes_back_says_what_it_has_in_either_way(
    tmp_path: Path, models: ModelServer, api: BotApi, way: str
) -> None:
    models.script([Say(["One ", Pause(), "two."])])
    async with control_api(tmp_path, api, models) as control:
        async with watching(control.client, ONE) as before:
            await send(control.client, "count", wait=0)
            await before.until("reply", "reply.changed", where=lambda data: "One" in str(data))
        models.release()
        headers = {} if way == "query" else {"Last-Event-ID": before.last_id}
        # An `EventSource` that comes back by itself still asks with the older id that it was made with.
        params = {} if way == "header" else {"after": before.last_id if way == "query" else before.events[0].id}
        async with watching(control.client, ONE, params=params, headers=headers, earlier=before) as after:
            turn = (await after.until("run.ended")).data["turn"]
    assert not {"snapshot", "reset"} & set(after.types)
    assert after.text(turn) == "One two."
    ids = [event.id for event in (*before.events, *after.events) if event.id]
    assert len(ids) == len(set(ids))


async def test_items_before_those_of_a_snapshot_are_in_the_history(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Yes."))
    async with control_api(tmp_path, api, models) as control:
        for number in range(101):
            await send(control.client, "/status" if number else "first", client_id=f"message-{number}", wait=60)
        async with watching(control.client, ONE) as stream:
            snapshot = stream.events[0].data
        page = (await control.client.get(f"/conversations/{ONE}/history", params={"before": snapshot["before"]})).json()
    assert (len(snapshot["items"]), snapshot["more"]) == (200, True)
    assert [each["kind"] for each in page["items"]] == ["message", "reply"]
    assert (page["items"][0]["text"], page["before"]) == ("first", None)


async def test_the_session_says_who_writes_and_how_much_may_be_sent(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        mine = (await control.client.get("/session")).json()
        made = (await control.client.post("/keys", json={"name": "ci", "scope": "chat"})).json()
        async with control.using(made["secret"]) as program:
            theirs = (await program.get("/session")).json()
            await send(program, "hi")
        [message, _] = (await control.client.get(f"/conversations/{ONE}/history")).json()["items"]
    assert mine["person"] == {"id": "owner", "name": "You"}
    assert message["sender"] == theirs["person"]
    assert mine["upload_limit"] == 100_000_000
