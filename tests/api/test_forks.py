"""Forks: a conversation goes on elsewhere, from one of its turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import Api, control_api
from tests.api.test_messages import send
from tests.api.test_trusted_proxy import browser, seen_by, site, write
from tests.servers.models import Call, ModelServer, Pause, Request, Say
from tests.servers.telegram import BotApi

ONE = "web:local:one"
AGENTS = "[agents.critic]\ndescription = 'Criticizes.'\n"


def echo(request: Request) -> Say:
    return Say(f"Yes, {request.last_user_text}.")


async def tell(client: httpx.AsyncClient, *texts: str, to: str = ONE) -> list[Any]:
    return [await send(client, text, to=to, client_id=f"say-{text:_<12}"[:40].replace(" ", "-")) for text in texts]


async def fork(client: httpx.AsyncClient, of: str = ONE, **body: Any) -> Any:
    answer = await client.post(f"/conversations/{of}/fork", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def texts(client: httpx.AsyncClient, conversation: str) -> list[str]:
    """The texts of the messages and replies in its history."""
    items = (await client.get(f"/conversations/{conversation}/history")).json()["items"]
    return [
        each["text"] if each["kind"] == "message" else "".join(part["markdown"] for part in each["reply"]["segments"])
        for each in items
    ]


def stored(folder: Path, hash: str) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob(f"{hash[:2]}/{hash[2:]}")]


def heard(request: Request) -> list[str]:
    """What the model is shown of the conversation."""
    return [message.text for message in request.messages if message.role in ("user", "assistant")]


@pytest.mark.parametrize("by", ["message", "turn", "nothing"])
async def test_the_next_turn_of_a_fork_is_shown_the_history_up_to_the_point_and_no_more(
    tmp_path: Path, models: ModelServer, api: BotApi, by: str
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        sent = await tell(control.client, "one", "two", *(() if by == "nothing" else ("three",)))
        point = {"message": {"message": sent[1]["id"]}, "turn": {"turn": sent[1]["run"]}, "nothing": {}}[by]
        made = await fork(control.client, **point)
        assert await texts(control.client, made["id"]) == ["one", "Yes, one.", "two", "Yes, two."]
        await tell(control.client, "other", to=made["id"])
        assert heard(models.requests[-1]) == ["one", "Yes, one.", "two", "Yes, two.", "other"]
        await tell(control.client, "four")
        assert "other" not in heard(models.requests[-1])
        listed = (await control.client.get("/conversations")).json()["conversations"]
    assert [(each["id"], each["title"]) for each in listed] == [(ONE, "one"), (made["id"], "one (fork)")]


async def test_calls_steering_and_summaries_are_in_a_fork_as_the_model_was_shown_them(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("Once upon a time. " * 100), Say("The summary."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        await tell(client, "one")
        await client.post(f"/conversations/{ONE}/compact", json={"client_id": "compact-1"}, params={"wait": 60})
        models.script(Call("remind_nobody", {}), Say([Pause(), "Working."]), Say("Steered."))
        await send(client, "work", client_id="work-0001", wait=0)
        await models.until_held()
        await send(client, "no, stop", client_id="steer-001", wait=0)
        models.release()
        [run] = (await client.get(f"/conversations/{ONE}/runs", params={"client_id": "work-0001"})).json()["runs"]
        await client.get(f"/runs/{run['run']}", params={"wait": 60, "until": "end"})
        models.respond(echo)
        made = await fork(client)
        await tell(client, "next", to=made["id"])
        copied = models.requests[-1]
        await tell(client, "next")
        original = models.requests[-1]
    assert copied.messages == original.messages
    assert "The summary." in "\n".join(message.text for message in copied.messages)
    assert [text for text in heard(copied) if "Once upon a time" in text] == []
    assert "no, stop" in "\n".join(heard(copied))


async def test_undo_and_retry_work_in_a_fork_and_an_undone_turn_can_be_gone_on_from(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        sent = await tell(client, "one", "two", "three")
        first = await fork(client, name="first")
        await client.post("/conversations/web:local:first/undo", json={"client_id": "undo-0001"})
        retried = await client.post(
            "/conversations/web:local:first/retry", json={"client_id": "retry-001"}, params={"wait": 60}
        )
        assert retried.json()["result"]["text"] == "Yes, two."
        assert heard(models.requests[-1]) == ["one", "Yes, one.", "two"]
        await tell(client, "four")
        assert heard(models.requests[-1])[-3:] == ["three", "Yes, three.", "four"]
        await client.post(f"/conversations/{ONE}/undo", json={"client_id": "undo-0001"})
        await client.post(f"/conversations/{ONE}/undo", json={"client_id": "undo-0002"})
        again = await fork(client, turn=sent[2]["run"])
        await tell(client, "five", to=again["id"])
        assert heard(models.requests[-1])[-3:] == ["three", "Yes, three.", "five"]
    assert first["id"] == "web:local:first"


async def test_original_and_fork_are_deleted_each_for_itself_and_files_stay_as_long_as_either(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        up = (await client.post(f"/conversations/{ONE}/files", files={"file": ("a.txt", b"some words")})).json()
        named = [{"hash": up["hash"], "name": "a.txt"}]
        sent = await send(client, "read this", files=named)
        cost = (await client.get(f"/runs/{sent['run']}")).json()["tokens"]["input"]
        used = (await client.get("/usage", params={"by": "conversation"})).json()["rows"]
        made = await fork(client)
        assert (await client.get("/usage", params={"by": "conversation"})).json()["rows"] == used
        assert cost > 0
        path = f"/conversations/{made['id']}/files/{up['hash']}/a.txt"
        assert (await client.get(path)).content == b"some words"
        await client.delete(f"/conversations/{ONE}")
        assert (await client.get(path)).content == b"some words"
        await tell(client, "and now", to=made["id"])
        assert any("some words" in text for text in heard(models.requests[-1]))
        assert stored(tmp_path, up["hash"]) == [b"some words"]
        await client.delete(f"/conversations/{made['id']}")
        assert stored(tmp_path, up["hash"]) == []


async def test_who_forgets_everything_is_forgotten_in_forks_of_others_too(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        client, ann = control.client, api.private(7, "Ann")
        await ann.say("I am Ann")
        await ann.hear("Yes, ")
        [there] = (await client.get("/conversations")).json()["conversations"]
        made = await fork(client, there["id"])
        await fork(client, there["id"], name="untouched")
        await tell(client, "who is this", to=made["id"])
        await ann.say("/forget all yes")
        await ann.hear("eleted")
        assert await texts(client, "web:local:untouched") == []
        assert (await texts(client, made["id"]))[-2:] == ["who is this", "Yes, who is this."]
        await tell(client, "and now", to=made["id"])
        left = await texts(client, made["id"])
    assert not any("I am Ann" in text for text in (*left, *heard(models.requests[-1])))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"message": 10**6}, 404, "turn_not_found"),
        ({"turn": "f" * 32}, 404, "turn_not_found"),
        ({"name": "one"}, 409, "conversation_exists"),
        ({"name": "a/b"}, 422, "invalid_request"),
        ({"message": 1, "turn": "f" * 32}, 422, "invalid_request"),
        ({"message": 2**63}, 422, "invalid_request"),
        ({"agent": "nobody"}, 422, "unknown_agent"),
    ],
)
async def test_what_cannot_be_forked_is_refused(
    tmp_path: Path, models: ModelServer, api: BotApi, body: dict[str, Any], status: int, code: str
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        await tell(control.client, "one")
        answer = await control.client.post(f"/conversations/{ONE}/fork", json=body)
        count = len((await control.client.get("/conversations")).json()["conversations"])
    assert (answer.status_code, answer.json()["code"], count) == (status, code, 1)


async def test_a_turn_that_runs_is_no_point_and_the_one_before_it_is(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        await tell(control.client, "one")
        models.script(Say([Pause(), "Done."]))
        running = await send(control.client, "two", client_id="message-2", wait=0)
        await models.until_held()
        waiting = await send(control.client, "three", client_id="message-3", wait=0, busy="queue")
        for point in ({"turn": running["run"]}, {"message": running["id"]}, {"message": waiting["id"]}):
            answer = await control.client.post(f"/conversations/{ONE}/fork", json=point)
            assert (answer.status_code, answer.json()["code"]) == (409, "turn_not_ended")
        made = await fork(control.client)
        assert await texts(control.client, made["id"]) == ["one", "Yes, one."]
        models.release()


async def test_what_new_ended_can_be_gone_on_from(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        [of_old] = await tell(control.client, "of old")
        await send(control.client, "/new", client_id="command-1")
        await tell(control.client, "lately")
        made = await fork(control.client, turn=of_old["run"])
        await tell(control.client, "next", to=made["id"])
    assert heard(models.requests[-1]) == ["of old", "Yes, of old.", "next"]


async def test_agent_and_title_are_given_or_those_of_the_original(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models, more=AGENTS) as control:
        client = control.client
        await tell(client, "one")
        await client.patch(f"/conversations/{ONE}", json={"title": "Boats", "agent": "critic", "busy": "queue"})
        same = await fork(client)
        given = await fork(client, title="Ships", agent="main")
        found = [(await client.get(f"/conversations/{each['id']}")).json() for each in (same, given)]
    assert [(each["title"], each["agent"], each["busy"]) for each in found] == [
        ("Boats (fork)", "critic", "queue"),
        ("Ships", "main", "queue"),
    ]


async def _key(control: Api, **more: Any) -> str:
    made = await control.client.post("/keys", json={"name": "ci", "scope": "chat", **more})
    return str(made.json()["secret"])


async def test_a_key_forks_what_it_sees_into_what_it_sees(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(echo)
    async with control_api(tmp_path, api, models) as control:
        await tell(control.client, "one")
        await tell(control.client, "two", to="web:local:ci-1")
        reader = await _key(control, scope="read")
        limited = await _key(control, conversations=["web:local:ci-*"])
        async with control.using(reader) as program:
            refused = await program.post(f"/conversations/{ONE}/fork", json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        async with control.using(limited) as program:
            unseen = await program.post(f"/conversations/{ONE}/fork", json={"name": "ci-2"})
            outside = await program.post("/conversations/web:local:ci-1/fork", json={})
            made = await fork(program, "web:local:ci-1", name="ci-2")
            assert await texts(program, made["id"]) == ["two", "Yes, two."]
    assert (unseen.status_code, unseen.json()["code"]) == (404, "conversation_not_found")
    assert (outside.status_code, outside.json()["code"]) == (403, "key_limited")


async def test_who_is_signed_in_sees_no_fork_that_others_have_made(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(echo)
    access = 'admins = ["1"]\nmembers = ["7"]'
    async with control_api(tmp_path, api, models, access=access, web="url = 'http://chat.example.com'") as control:
        ann = api.private(7, "Ann")
        await ann.say("I am Ann")
        await ann.hear("Yes, ")
        await ann.say("/login")
        code = (await ann.hear("/sign-in#")).text.partition("#")[2].split(">")[0].split()[0].strip(")")
        [there] = (await control.client.get("/conversations")).json()["conversations"]
        made = await fork(control.client, there["id"])
        async with httpx.AsyncClient(base_url=control.url, trust_env=False, timeout=60) as browser:
            signed_in = await browser.post("/sign-in", json={"code": code})
            assert signed_in.status_code == 200, signed_in.text
            seen = (await browser.get("/api/v1/conversations")).json()["conversations"]
            there_only = await browser.get(f"/api/v1/conversations/{made['id']}")
    assert [each["id"] for each in seen] == [there["id"]]
    assert there_only.status_code == 404


async def test_a_person_whom_a_proxy_signs_in_forks_their_own_and_sees_the_fork_alone(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with (
        site(tmp_path, api, models) as control,
        browser(control, "a/b:c*?") as ann,
        browser(control, "bob") as bob,
        browser(control, "root@example.com") as root,
    ):
        sent = (await write(ann, "one")).json()
        path = f"/api/v1/conversations/{quote(sent['conversation'], safe='')}/fork"
        refused = await bob.post(path, json={})
        made = (await ann.post(path, json={"name": "two"})).json()
        assert await seen_by(ann) == sorted([sent["conversation"], made["id"]])
        assert await seen_by(bob) == []
        by_admin = (await root.post(path, json={"turn": sent["run"], "title": "Mine"})).json()
        assert by_admin["id"] not in await seen_by(ann)
        again = await write(ann, "more", to=made["id"])
    assert refused.status_code == 404
    assert again.json()["result"]["state"] == "completed"
    assert made["id"].endswith(":two")
