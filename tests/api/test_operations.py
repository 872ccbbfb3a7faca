"""What operators see and do, over HTTP."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api, control_api
from tests.api.test_keys import new_key
from tests.api.test_messages import send
from tests.servers.models import Call, ModelServer, Pause, Say, Usage
from tests.servers.telegram import BotApi

HOOKS = Path(__file__).parents[2] / "examples" / "hooks"
QUESTION = {"question": "Which colour?", "options": ["red", "blue"]}


async def read(control: Api, path: str) -> Any:
    answer = await control.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_running_turn_is_shown_with_who_where_what_and_its_queue(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script([Call("list_files", {})], [Pause(), Say("Done.")])
    async with control_api(tmp_path, api, models, more='busy = "queue"\n') as control:
        ann = api.private(7, "Ann")
        await ann.say("tidy up")
        await models.until_held()
        await ann.say("and then rest")
        await ann.until(lambda _: len(control.built.gateway.dispatcher.running()) == 1)
        now = await read(control, "/now")
        models.release()
        await ann.hear("Done.")
    (running,) = now["running"]
    assert running["person"] == {"id": "telegram:7", "name": "Ann"}
    assert (running["place"]["channel"], running["place"]["title"]) == ("telegram", "tidy up")
    assert (running["agent"], running["model"], running["step"], running["tools"]) == ("main", "openai:test", 2, [])
    (queue,) = now["queues"]
    assert (queue["place"]["conversation"], queue["messages"]) == (running["place"]["conversation"], 1)


async def test_a_turn_that_waits_for_an_answer_is_parked(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Call("ask_user", QUESTION)], Say("Blue."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        await ann.say("paint it")
        await ann.hear("Which colour?")
        await ann.until(lambda _: not control.built.gateway.dispatcher.running())
        now = await read(control, "/now")
    assert now["running"] == []
    (parked,) = now["parked"]
    assert (parked["person"]["name"], parked["waits_for"], parked["asked_by"]) == ("Ann", "answer", "ask_user")


async def test_a_channel_in_trouble_says_what_is_wrong(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    more = '[channels.second]\ntype = "telegram"\ntoken = "1:wrong"\nallow = ["*"]\napi_url = "' + api.url + '"\n'
    async with control_api(tmp_path, api, models, more=more) as control:
        gateway = control.built.gateway
        await api.until(lambda _: "second" in gateway.problems())
        states = {each["name"]: each for each in (await read(control, "/channels"))["channels"]}
        health = await read(control, "/health")
    assert (states["telegram"]["works"], states["second"]["works"]) == (True, False)
    assert "token" in states["second"]["problem"]
    assert (health["ok"], list(health["problems"])) == (False, ["second"])


async def test_an_undelivered_reply_is_sent_again(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private(7, "Ann")
        ann.block()
        await ann.say("hi")
        await models.until(1)
        while not (found := (await read(control, "/undelivered"))["replies"]):
            await api.until(lambda api: bool(api.refusals))
        assert "blocked" in found[0]["reason"]
        _, secret = await new_key(control, "operate", conversations=["web:local:mine"])
        async with control.using(secret) as limited:
            seen = (await limited.get("/now")).json()
        counts = (await read(control, "/now"))["undelivered"], seen["undelivered"]
        ann.unblock()
        again = await control.client.post(f"/undelivered/{found[0]['id']}/redeliver")
        await ann.hear("Hello.")
        unknown = await control.client.post("/undelivered/nothing/redeliver")
        (event,) = (await read(control, "/audit?event=redelivered"))["events"]
    assert counts == (1, 0)
    assert again.status_code == 202
    assert (unknown.status_code, unknown.json()["code"]) == (404, "reply_not_found")
    assert (event["actor"], event["conversation"]) == ("web:owner", found[0]["place"]["conversation"])


async def test_settings_and_log_have_no_secrets(
    tmp_path: Path, models: ModelServer, api: BotApi, caplog: pytest.LogCaptureFixture
) -> None:
    async with control_api(tmp_path, api, models) as control:
        logging.getLogger("gateway.test").warning("the token is %s\nSecond line", api.token)
        settings = await control.client.get("/settings")
        log = await control.client.get("/logs")
    values = {each["key"]: each for each in settings.json()["settings"]}
    assert values["channels.telegram.token"]["value"] == "[hidden]"
    assert values["agent.model"] == {"key": "agent.model", "value": "openai:test", "is_default": False}
    assert values["agent.max_steps"]["is_default"]
    assert api.token not in settings.text + log.text
    assert "test-key" not in settings.text
    (line,) = [each for each in log.json()["lines"] if each["logger"] == "gateway.test"]
    assert (line["level"], line["text"].startswith("the token is ")) == ("warning", True)


async def test_a_reload_says_what_came_of_it(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        answer = await control.client.post("/reload")
    assert answer.status_code == 200
    assert answer.json()["text"]


async def test_usage_is_summed_by_person_conversation_channel_model_and_day(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: [Say("Hello."), Usage(input=100, output=10)])
    async with control_api(tmp_path, api, models) as control:
        for number, name, times in ((7, "Ann", 2), (8, "Bob", 1)):
            chat = api.private(number, name)
            for count in range(times):
                await chat.say(f"{name} {count}")
                await chat.until(lambda chat, count=count: chat.texts.count("Hello.") == count + 1)
        found = {
            by: await read(control, f"/usage?by={by}") for by in ("person", "conversation", "channel", "model", "day")
        }
        later = await read(control, "/usage?since=2999-01-01T00:00:00Z")

    def rows(by: str) -> list[tuple[str, str, int]]:
        return [(each["key"], each["name"], each["totals"]["input"]) for each in found[by]["rows"]]

    assert rows("person") == [("telegram:7", "Ann", 200), ("telegram:8", "Bob", 100)]
    assert [(name, tokens) for _, name, tokens in rows("conversation")] == [("Ann 0", 200), ("Bob 0", 100)]
    assert rows("channel") == [("telegram", "", 300)]
    assert [tokens for _, _, tokens in rows("model")] == [300]
    assert [tokens for _, _, tokens in rows("day")] == [300]
    assert found["day"]["total"]["calls"] == 3
    assert later["rows"] == []


async def test_what_agents_work_with_is_listed(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    folder = tmp_path / "skills" / "tea"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: tea\ndescription: How to make tea\n---\nBoil water.\n")
    more = '[agents.research]\ndescription = "Finds out"\n[skills]\npaths = ["skills"]\n'
    async with control_api(tmp_path, api, models, more=more) as control:
        agents = (await read(control, "/agents"))["agents"]
        offered = (await read(control, "/models"))["models"]
        tools = (await read(control, "/tools"))["tools"]
        skills = await read(control, "/skills")
        servers = (await read(control, "/mcp-servers"))["servers"]
        unknown = await control.client.get("/tools?agent=nobody")
    assert [(each["name"], each["description"]) for each in agents] == [("main", ""), ("research", "Finds out")]
    assert {"name": "openai:test", "agents": ["main", "research"]} in offered
    assert {"read_file", "shell"} <= {each["name"] for each in tools}
    assert [each["name"] for each in skills["skills"]] == ["tea"]
    assert servers == []
    assert unknown.status_code == 404


async def test_the_trace_of_a_turn_says_what_happened_when(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Call("list_files", {})], [Pause(), Say("Done.")])
    async with control_api(tmp_path, api, models) as control:
        await api.private(7, "Ann").say("tidy up")
        await models.until_held()
        (turn,) = (await read(control, "/now"))["running"]
        models.release()
        await api.private(7, "Ann").hear("Done.")
        await api.until(lambda _: not control.built.gateway.dispatcher.running())
        trace = await read(control, f"/turns/{turn['turn']}/trace")
        unknown = await control.client.get("/turns/nothing/trace")
    kinds = [row["kind"] for row in trace["rows"]]
    assert kinds[:4] == ["read", "model", "tool", "model"]
    assert trace["summary"].startswith("completed")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "turn_not_found")


async def test_a_limited_key_is_told_of_its_part_of_the_audit_log_behind_what_others_did(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control:
        await send(control.client, "/export", to="web:local:mine")
        made = await control.client.post(
            "/keys", json={"name": "mine", "scope": "operate", "conversations": ["web:local:mine"]}
        )
        for number in range(5):
            await send(control.client, "/export", to=f"web:local:other-{number}")
        async with control.using(made.json()["secret"]) as program:
            seen = (await program.get("/audit", params={"limit": 2})).json()["events"]
        newest = (await control.client.get("/audit", params={"limit": 2})).json()["events"]
    assert [(each["event"], each["conversation"]) for each in seen] == [("exported", "web:local:mine")]
    assert [each["conversation"] for each in newest] == ["web:local:other-4", "web:local:other-3"]


async def health_of(control: Api, *, ok: bool) -> Any:
    """As soon as it is so."""
    async with asyncio.timeout(60):
        while (health := await read(control, "/health"))["ok"] != ok:  # noqa: ASYNC110 - a process has no events
            await asyncio.sleep(0.05)
    return health


async def test_a_hook_whose_process_does_not_run_is_named_until_it_runs(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    more = f'[[hooks]]\nname = "gate"\ntype = "process"\ncommand = ["{sys.executable}", "gate.py"]\n'
    async with control_api(tmp_path, api, models, more=f'{more}points = ["before_tool"]\n') as control:
        broken = await health_of(control, ok=False)
        status = (await send(control.client, "/status", to="web:local:one"))["result"]["text"]
        (tmp_path / "gate.py").write_bytes((HOOKS / "review.py").read_bytes())
        mended = await health_of(control, ok=True)
    assert list(broken["problems"]) == ["Hook gate"]
    assert "Hook gate: does not run" in status
    assert mended["problems"] == {}
