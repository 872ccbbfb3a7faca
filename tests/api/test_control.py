"""Stopping, the queue, and decisions over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import control_api
from tests.api.test_messages import send
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:one"
NEEDS_APPROVAL = '[tools.list_files]\napproval = "always"\n'


async def queue(client: httpx.AsyncClient) -> list[str]:
    return [each["text"] for each in (await client.get(f"{HERE}/queue")).json()["messages"]]


async def test_a_stop_says_what_it_has_stopped(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Say([Pause(), "Hello."]))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi", wait=0)
        await models.until_held()
        await send(control.client, "later", client_id="message-2", wait=0, busy="queue")
        stopped = (await control.client.post(f"{HERE}/stop")).json()
        end = (await control.client.get(f"/runs/{sent['run']}", params={"wait": 60})).json()
        nothing = (await control.client.post(f"{HERE}/stop")).json()
    assert (stopped["turn"], stopped["agent"], stopped["step"]) == (sent["run"], "main", 1)
    assert (stopped["withdrawn"], stopped["ended"], stopped["background"]) == (1, True, [])
    assert (end["state"], end["outcome"]) == ("stopped", "stopped")
    assert (nothing["turn"], nothing["withdrawn"]) == (None, 0)


async def test_the_queue_is_edited_and_cleared_beside_the_running_turn(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say([Pause(), "Hello."]), Say("Second."))
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        first = await send(client, "hi", wait=0)
        await models.until_held()
        for number, text in ((2, "two"), (3, "three"), (4, "four")):
            await send(client, text, client_id=f"message-{number}", wait=0, busy="queue")
        [two, three, _] = (await client.get(f"{HERE}/queue")).json()["messages"]
        assert (two["text"], two["busy"], two["sender"]) == ("two", "queue", "owner")
        edited = await client.patch(f"{HERE}/queue/{two['id']}", json={"text": "two, changed"})
        assert [each["text"] for each in edited.json()["messages"]] == ["two, changed", "three", "four"]
        removed = await client.delete(f"{HERE}/queue/{three['id']}")
        assert [each["text"] for each in removed.json()["messages"]] == ["two, changed", "four"]
        gone = await client.delete(f"{HERE}/queue/{three['id']}")
        assert (gone.status_code, gone.json()["code"]) == (404, "message_not_queued")
        assert (await client.delete(f"{HERE}/queue")).json() == {"withdrawn": 2}
        assert await queue(client) == []
        models.release()
        end = (await client.get(f"/runs/{first['run']}", params={"wait": 60})).json()
    assert (end["state"], end["text"]) == ("completed", "Hello.")
    assert len(models.requests) == 1


def listing(request: Any) -> Any:
    return Say("Listed.") if request.results else Call("list_files", {"pattern": "*.txt"})


async def open_decision(client: httpx.AsyncClient) -> Any:
    sent = await send(client, "write")
    assert sent["result"]["state"] == "parked"
    [found] = (await client.get("/decisions")).json()["decisions"]
    assert (await client.get(f"{HERE}/decisions")).json()["decisions"] == [found]
    assert (await client.get(f"/decisions/{found['id']}")).json() == found
    return found | {"run": sent["run"]}


@pytest.mark.parametrize(("body", "decision"), [({"allow": True}, "allowed"), ({"option": 1}, "denied")])
async def test_an_approval_says_what_is_asked_and_is_decided_once(
    tmp_path: Path, models: ModelServer, api: BotApi, body: dict[str, Any], decision: str
) -> None:
    models.respond(listing)
    async with control_api(tmp_path, api, models, more=NEEDS_APPROVAL) as control:
        client = control.client
        asked = await open_decision(client)
        assert (asked["kind"], asked["tool"], asked["state"]) == ("approval", "list_files", "open")
        assert asked["arguments"] == {"pattern": "*.txt"}
        assert (asked["options"], asked["decidable_by"]["who"]) == (["Allow once", "Deny"], "anyone_here")
        decided = await client.post(f"/decisions/{asked['id']}", json=body)
        assert decided.status_code == 200, decided.text
        assert (decided.json()["decision"]["decision"], decided.json()["decision"]["decided_by"]) == (decision, "You")
        again = await client.post(f"/decisions/{asked['id']}", json={"allow": True})
        assert (again.status_code, again.json()["code"]) == (409, "decided_otherwise")
        end = (await client.get(f"/runs/{asked['run']}", params={"wait": 60})).json()
        assert (await client.get("/decisions")).json() == {"decisions": []}
    assert end["text"].endswith("Listed.")


async def test_a_limit_that_is_reached_again_is_asked_about_anew(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    price = "[models.openai.test]\nprice = { input = 10.0, output = 10.0 }\n[limits]\nturn_cost = 0.000001\n"
    async with control_api(tmp_path, api, models, more=price) as control:
        first = await open_decision(control.client)
        decided = await control.client.post(f"/decisions/{first['id']}", json={"allow": True})
        assert decided.json()["decision"]["state"] == "decided", decided.text
        await control.client.get(f"/runs/{first['run']}", params={"wait": 60})
        [second] = (await control.client.get("/decisions")).json()["decisions"]
        assert second["id"] != first["id"]
        again = await control.client.post(f"/decisions/{first['id']}", json={"allow": True})
        assert (again.status_code, again.json()["code"]) == (409, "decided_otherwise"), "it decides the first one only"
        assert (await control.client.get(f"/decisions/{second['id']}")).json()["state"] == "open"
    assert not models.requests


HOOK = """
from dataclasses import replace


class Keyed:
    async def before_tool(self, context, call):
        return replace(call, arguments={{"pattern": {token!r} + "-" + "x" * 2000}})
"""


async def test_a_secret_that_a_hook_puts_into_a_call_is_not_shown_to_programs(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(listing)
    (tmp_path / "keyed.py").write_text(HOOK.format(token=api.token))
    hook = f'[[hooks]]\nname = "keyed"\ntype = "python"\npath = "{tmp_path}/keyed.py:Keyed"\npoints = ["before_tool"]\n'
    async with control_api(tmp_path, api, models, more=NEEDS_APPROVAL + hook) as control:
        asked = await open_decision(control.client)
        assert asked["arguments"]["pattern"].startswith("[secret]-x")
        assert "[secret]-x" in asked["question"]
        assert api.token not in str(asked)
        decided = await control.client.post(f"/decisions/{asked['id']}", json={"allow": False})
        assert api.token not in decided.text


async def test_a_question_is_answered_by_an_option(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    question = Call("ask_user", {"question": "Which?", "options": ["red", "blue"]})
    models.respond(lambda request: Say("Blue it is.") if "blue" in request.last_user_text else question)
    async with control_api(tmp_path, api, models) as control:
        asked = await open_decision(control.client)
        assert (asked["kind"], asked["question"], asked["options"]) == ("question", "Which?", ["red", "blue"])
        wrong = await control.client.post(f"/decisions/{asked['id']}", json={"option": 2})
        decided = await control.client.post(f"/decisions/{asked['id']}", json={"option": 1})
        end = (await control.client.get(f"/runs/{asked['run']}", params={"wait": 60, "until": "end"})).json()
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
    assert decided.json()["decided"] is True
    assert end["text"].endswith("Blue it is.")


async def test_an_unknown_decision_is_not_found(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        answer = await control.client.post("/decisions/nothing.d:1", json={"allow": True})
    assert (answer.status_code, answer.json()["code"]) == (404, "decision_not_found")
