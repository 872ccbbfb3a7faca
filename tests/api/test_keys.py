"""Keys: made and revoked over HTTP and on the command line, and what their holders may do."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from config.load import load
from gateway.cli import keys
from gateway.store import offline
from tests.api.conftest import Api, control_api
from tests.api.test_messages import send
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi


async def new_key(control: Api, scope: str, **more: object) -> tuple[str, str]:
    """Its id and secret."""
    made = await control.client.post("/keys", json={"name": "ci", "scope": scope, **more})
    assert made.status_code == 201
    return made.json()["key"]["id"], made.json()["secret"]


async def test_a_key_is_told_once_stored_as_a_hash_and_audited(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control:
        id, secret = await new_key(control, "chat", days=90)
        async with control.using(secret) as program:
            assert (await program.get("/conversations")).status_code == 200
        listed = (await control.client.get("/keys")).json()["keys"]
    assert [(each["id"], each["scope"], each["state"], each["created_by"]) for each in listed] == [
        (id, "chat", "valid", "web:owner")
    ]
    assert listed[0]["used_at"] is not None
    assert secret not in json.dumps(listed)
    [database] = (tmp_path / "home").glob("*.db")
    with closing(sqlite3.connect(database)) as connection:
        dumped = "\n".join(connection.iterdump())
    assert secret.split("_", 2)[2] not in dumped, "which may have underscores itself"
    assert "key_created" in dumped


async def test_a_revoked_key_is_worth_nothing(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        id, secret = await new_key(control, "read")
        async with control.using(secret) as program:
            assert (await program.get("/conversations")).status_code == 200
            assert (await control.client.delete(f"/keys/{id}")).status_code == 204
            refused = await program.get("/conversations")
        again = await control.client.delete(f"/keys/{id}")
    assert (refused.status_code, refused.json()["code"]) == (401, "key_missing")
    assert (again.status_code, again.json()["code"]) == (404, "key_not_found")


@pytest.mark.parametrize("scope", ["read", "chat", "operate"])
async def test_only_admins_manage_keys(tmp_path: Path, models: ModelServer, api: BotApi, scope: str) -> None:
    async with control_api(tmp_path, api, models) as control:
        _, secret = await new_key(control, scope)
        async with control.using(secret) as program:
            answers = [await program.get("/keys"), await program.post("/keys", json={"name": "mine"})]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(403, "scope_missing")] * 2


async def test_the_command_line_makes_and_revokes_keys_beside_a_running_gateway(
    tmp_path: Path, models: ModelServer, api: BotApi, capsys: pytest.CaptureFixture[str]
) -> None:
    async with control_api(tmp_path, api, models) as control:
        configuration = load(tmp_path / "interject.toml", {}, tmp_path / "home")
        asked = {"agents": None, "conversations": ["web:*"], "expires": "90d"}
        assert keys.create(configuration, "ci", "read", agents=None, conversations=["web:*"], expires="90d") == 0
        assert keys.create(configuration, "ci", "read", **{**asked, "expires": "soon"}) == 2  # type: ignore[arg-type]
        for empty in ({"agents": [""]}, {"conversations": ["web:*", ""]}):
            assert keys.create(configuration, "ci", "read", **{**asked, **empty}) == 2  # type: ignore[arg-type]
        secret = capsys.readouterr().out.strip()
        async with control.using(secret) as program:
            assert (await program.get("/conversations")).status_code == 200
            [key] = offline.api_keys(configuration.settings.store.url)
            assert keys.revoke(configuration, key.id) == 0
            # The running gateway reads the keys again at most a second later.
            control.built.gateway.keys.forget()
            assert (await program.get("/conversations")).status_code == 401
        assert keys.revoke(configuration, key.id) == 1
        assert keys.show(configuration, as_json=True) == 0
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["state"] == "revoked"
    assert secret not in out


async def test_what_a_revoked_key_has_running_is_stopped(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Say([Pause(), "Hello."]))
    async with control_api(tmp_path, api, models) as control:
        id, secret = await new_key(control, "chat")
        async with control.using(secret) as program:
            sent = await send(program, "hi", wait=0)
            await models.until_held()
            assert (await control.client.delete(f"/keys/{id}")).status_code == 204
        end = (await control.client.get(f"/runs/{sent['run']}", params={"wait": 60})).json()
    assert (end["state"], end["reason"]) == ("stopped", "the API key was revoked")


@pytest.mark.parametrize(("scope", "is_admin"), [("chat", False), ("operate", True)])
async def test_the_scope_of_a_key_is_its_role_in_every_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi, scope: str, is_admin: bool
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models, access='allow = ["7"]\nadmins = ["7"]') as control:
        chat = api.private(7, "Ann")
        await chat.say("hello")
        await chat.hear("Hello.")
        _, secret = await new_key(control, scope)
        async with control.using(secret) as program:
            for place in ("telegram:123456:7", "web:local:one"):
                answered = await send(program, "/usage", to=place, client_id="usage-001")
                assert ("Everybody" in answered["result"]["text"]) is is_admin


async def test_a_key_that_only_reads_writes_nowhere(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        _, secret = await new_key(control, "read")
        async with control.using(secret) as program:
            here = "/conversations/web:local:one"
            answers = [
                await program.post(f"{here}/messages", json={"client_id": "message-1", "text": "hi"}),
                await program.post(f"{here}/stop"),
                await program.delete(f"{here}/queue"),
                await program.patch(here, json={"title": "x"}),
            ]
    assert {(each.status_code, each.json()["code"]) for each in answers} == {(403, "scope_missing")}
    assert not models.requests


async def test_a_key_for_one_agent_uses_no_other(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    more = '[agents.clerk]\ndescription = "Files things."\n'
    async with control_api(tmp_path, api, models, more=more) as control:
        await send(control.client, "hi")
        _, secret = await new_key(control, "operate", agents=["clerk"])
        async with control.using(secret) as program:
            here = "/conversations/web:local:one"
            refused = await program.post(f"{here}/messages", json={"client_id": "message-2", "text": "hi"})
            chosen = await program.patch(here, json={"agent": "clerk"})
            allowed = await send(program, "hi", client_id="message-3")
            back = await program.patch(here, json={"agent": "main"})
    assert (refused.status_code, refused.json()["code"]) == (403, "agent_not_allowed")
    assert chosen.json()["agent"] == "clerk"
    assert (allowed["result"]["state"], allowed["result"]["agent"]) == ("completed", "clerk")
    assert (back.status_code, back.json()["code"]) == (403, "agent_not_allowed")


async def test_a_key_for_one_agent_steers_and_answers_no_other(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say(["One, ", Pause(), "two."]))
    more = '[agents.clerk]\ndescription = "Files things."\n'
    async with control_api(tmp_path, api, models, more=more) as control:
        here = "/conversations/web:local:one"
        first = await control.client.post(f"{here}/messages", json={"client_id": "message-1", "text": "Count."})
        await models.until_held()
        await control.client.patch(here, json={"agent": "clerk"})
        _, secret = await new_key(control, "operate", agents=["clerk"])
        async with control.using(secret) as program:
            answers = [
                await program.post(f"{here}/steer", json={"client_id": "message-2", "text": "Stop at once."}),
                await program.post(f"/runs/{first.json()['run']}/results", json={"results": [{"call_id": "one"}]}),
            ]
        queue = (await control.client.get(f"{here}/queue")).json()["messages"]
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(403, "agent_not_allowed")] * 2
    assert queue == []


@pytest.mark.parametrize("limits", [{"conversations": ["web:local:mine"]}, {"agents": ["main"]}])
async def test_a_limited_admin_does_nothing_that_concerns_more_than_its_part(
    tmp_path: Path, models: ModelServer, api: BotApi, limits: dict[str, list[str]]
) -> None:
    async with control_api(tmp_path, api, models) as control:
        _, secret = await new_key(control, "admin", **limits)
        async with control.using(secret) as program:
            answers = [
                await program.post("/keys", json={"name": "without limits", "scope": "admin"}),
                await program.get("/keys"),
                await program.get("/settings"),
                await program.get("/logs"),
                await program.post("/reload"),
                await program.post("/people/pair", json={"code": "ABCDEFGH"}),
            ]
            session = await program.get("/session")
        keys = (await control.client.get("/keys")).json()["keys"]
    assert [each.status_code for each in answers] == [403] * len(answers)
    assert not session.json()["manages_people"]
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("scope", "limits"),
    [
        ("chat", {}),
        ("operate", {}),
        ("admin", {"conversations": ["web:local:one"]}),
        ("admin", {"agents": ["main"]}),
    ],
)
async def test_commands_of_a_program_do_no_more_than_its_key(
    tmp_path: Path, models: ModelServer, api: BotApi, scope: str, limits: dict[str, list[str]]
) -> None:
    access = 'allow = ["8"]\npair = true'
    async with control_api(tmp_path, api, models, access=access) as control:
        stranger = api.private(7, "Eve")
        await stranger.say("let me in")
        await stranger.until(lambda chat: "pair" in "".join(chat.texts))
        [asking] = (await control.client.get("/people")).json()["requests"]
        _, secret = await new_key(control, scope, **limits)
        async with control.using(secret) as program:
            answers = [
                await command(program, number, text)
                for number, text in enumerate((f"/pair {asking['code']}", "/access", "/reload", "/access revoke 8"))
            ]
            usage = await command(program, 9, "/usage")
            forget = await command(program, 10, "/forget 7")
        people = (await control.client.get("/people")).json()
    assert ["admins" in each for each in answers] == [True] * len(answers)
    assert asking["code"] not in "".join(answers)
    assert people["paired"] == []
    oversees = scope == "operate"
    assert ("Everybody" in usage, "Only admins" not in forget) == (oversees, oversees)


async def command(program: httpx.AsyncClient, number: int, text: str) -> str:
    """What the command answers."""
    sent = await send(program, text, client_id=f"command-{number}")
    return str(sent["result"]["text"])


async def test_the_same_words_of_another_program_are_another_message(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        await send(control.client, "yes")
        _, secret = await new_key(control, "chat")
        async with control.using(secret) as program:
            body = {"client_id": "message-1", "text": "yes"}
            answer = await program.post("/conversations/web:local:one/messages", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "client_id_reused")


@pytest.mark.parametrize(("scope", "deletes"), [("chat", False), ("operate", True)])
async def test_a_program_forgets_what_it_wrote_and_no_more_without_operate(
    tmp_path: Path, models: ModelServer, api: BotApi, scope: str, deletes: bool
) -> None:
    models.respond(lambda _: Say("Hello."))
    here = "telegram:123456:7"
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("my words")
        await ann.hear("Hello.")
        _, secret = await new_key(control, scope)
        async with control.using(secret) as program:
            await send(program, "a program's words", to=here, client_id="message-1")
            body = {"client_id": "forget-01", "text": "/forget yes"}
            await program.post(f"/conversations/{here}/messages?wait=30", json=body)
        history = await control.client.get(f"/conversations/{here}/history")
    assert ("my words" not in history.text) is deletes
    assert "a program's words" not in history.text


async def test_a_key_for_one_agent_stops_and_changes_nothing_of_another(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say(["One, ", Pause(), "two."]), Say("Three."))
    more = '[agents.clerk]\ndescription = "Files things."\n'
    async with control_api(tmp_path, api, models, more=more) as control:
        here = "/conversations/web:local:one"
        first = await send(control.client, "Count.", wait=0)
        await models.until_held()
        waiting = await send(control.client, "On.", client_id="message-2", wait=0, busy="queue")
        _, secret = await new_key(control, "operate", agents=["clerk"])
        async with control.using(secret) as program:
            answers = [
                await program.post(f"{here}/stop"),
                await program.delete(f"{here}/queue/{waiting['id']}"),
                await program.delete(f"{here}/queue"),
                await program.patch(here, json={"title": "Mine", "archived": True}),
                await program.delete(here),
            ]
            # It may have its agent answer from now on; what runs there is still of the other one.
            assert (await program.patch(here, json={"agent": "clerk"})).status_code == 200
            answers.append(await program.post(f"{here}/stop"))
            seen = await program.get(f"{here}/queue")
        models.release()
        end = (await control.client.get(f"/runs/{first['run']}", params={"wait": 60})).json()
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(403, "agent_not_allowed")] * 6
    assert [each["text"] for each in seen.json()["messages"]] == ["On."]
    assert (end["state"], end["text"]) == ("completed", "One, two.")
