"""Messages and runs over HTTP, in conversations of every channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.limits import REQUESTS_PER_MINUTE, RequestRate
from gateway.store.errors import StoreFailed
from gateway.turns import run_waits
from tests.api.conftest import control_api
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi


async def send(client: httpx.AsyncClient, text: str, *, to: str = "web:local:one", wait: int = 60, **more: Any) -> Any:
    body = {"client_id": "message-1", "text": text, **more}
    answer = await client.post(f"/conversations/{to}/messages", json=body, params={"wait": wait})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_message_is_answered_with_the_text_cost_and_outcome_of_its_run(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello, **you**."))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi")
        again = await control.client.get(f"/runs/{sent['run']}")
        by_id = await control.client.get("/conversations/web:local:one/runs", params={"client_id": "message-1"})
    result = sent["result"]
    assert (result["state"], result["outcome"], result["text"]) == ("completed", "completed", "Hello, **you**.")
    assert (result["run"], result["agent"], result["read_by"], result["files"]) == (sent["run"], "main", None, [])
    assert result["tokens"]["input"] > 0
    assert result["ended_at"] >= result["started_at"]
    assert again.json() == result
    assert by_id.json()["runs"] == [result]


async def test_the_same_message_twice_is_one_and_other_words_are_a_conflict(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        first = await send(control.client, "hi")
        again = await send(control.client, "hi")
        elsewhere = await send(control.client, "other words", to="web:local:two")
        body = {"client_id": "message-1", "text": "other words"}
        conflict = await control.client.post("/conversations/web:local:one/messages", json=body)
    assert (first["duplicate"], again["duplicate"], elsewhere["duplicate"]) == (False, True, False)
    assert again == {**first, "duplicate": True}
    assert elsewhere["run"] != first["run"]
    assert (conflict.status_code, conflict.json()["code"]) == (409, "client_id_reused")


async def test_a_program_writes_in_a_chat_of_telegram_and_the_answer_is_shown_there(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda request: Say(f"You said: {request.last_user_text}"))
    async with control_api(tmp_path, api, models, access='allow = ["7"]') as control:
        chat = api.private(7, "Ann")
        await chat.say("hello")
        await chat.hear("You said: ")
        made = await control.client.post("/keys", json={"name": "ci", "scope": "chat"})
        async with control.using(made.json()["secret"]) as program:
            [there] = (await program.get("/conversations")).json()["conversations"]
            sent = await send(program, "the build is red", to=there["id"])
    assert sent["result"]["state"] == "completed"
    assert "the build is red" in sent["result"]["text"]
    await chat.hear("the build is red")


async def test_a_slash_is_a_command_or_goes_to_the_agent_as_it_is(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda request: Say(f"Read: {request.last_user_text}"))
    async with control_api(tmp_path, api, models) as control:
        command = await send(control.client, "/status", client_id="command-1")
        literal = await send(control.client, "/status", client_id="literal-1", **{"as": "message"})
        none = await control.client.post(
            "/conversations/web:local:one/messages", json={"client_id": "none-0001", "text": "hi", "as": "command"}
        )
        assert "No task is running." in command["result"]["text"]
    assert "/status" in literal["result"]["text"]
    assert (none.status_code, none.json()["code"]) == (422, "not_a_command")


async def test_commands_that_make_turns_have_runs(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        await send(control.client, "hi")
        aside = await send(control.client, "/btw what?", client_id="aside-001")
        client, where = control.client, "/conversations/web:local:one"
        retried = await client.post(f"{where}/retry", json={"client_id": "retry-001"}, params={"wait": 60})
        undone = await client.post(f"{where}/undo", json={"client_id": "undo-0001"})
    assert (aside["result"]["state"], aside["result"]["text"]) == ("completed", "Hello.")
    assert (retried.json()["result"]["state"], retried.json()["result"]["text"]) == ("completed", "Hello.")
    assert "Removed from context" in undone.json()["result"]["text"]


async def test_a_message_that_a_running_turn_reads_is_followed_to_its_end(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    tool = {"name": "look", "schema": {"type": "object"}}
    models.respond(lambda request: Say("Both done.") if "and this" in str(request.body) else Call("look", {}))
    async with control_api(tmp_path, api, models) as control:
        first = await send(control.client, "do this", tools=[tool])
        [call] = first["result"]["calls"]
        assert (first["result"]["state"], call["name"]) == ("parked", "look")
        second = await send(control.client, "and this", client_id="message-2")
        first_end = (await control.client.get(f"/runs/{first['run']}")).json()
    assert second["result"]["read_by"] == first["run"]
    assert (second["result"]["state"], second["result"]["text"]) == ("completed", first_end["text"])
    assert first_end["state"] == "completed"


async def test_results_of_calls_let_the_turn_go_on(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    tool = {"name": "weather", "schema": {"type": "object"}}
    models.respond(lambda request: Say("It snows.") if "snow" in str(request.body) else Call("weather", {}))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "Oslo?", tools=[tool])
        path, [call] = f"/runs/{sent['run']}", sent["result"]["calls"]
        wrong = await control.client.post(f"{path}/results", json={"results": [{"call_id": "c9", "text": "x"}]})
        given = [{"call_id": call["id"], "text": "snow"}]
        assert (await control.client.post(f"{path}/results", json={"results": given})).status_code == 200
        end = await control.client.get(path, params={"wait": 60, "until": "end"})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "wrong_results")
    assert (end.json()["state"], end.json()["text"]) == ("completed", "It snows.")


async def test_files_travel_both_ways_and_only_within_their_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Read."))
    async with control_api(tmp_path, api, models) as control:
        form = {"client_id": "with-file", "text": "read this"}
        where = "/conversations/web:local:one/messages"
        posted = await control.client.post(where, data=form, files={"files": ("a.txt", b"words")}, params={"wait": 60})
        assert posted.json()["result"]["state"] == "completed"
        assert "words" in str(models.requests[-1].body)
        [hash] = [each.name for each in (tmp_path / "home" / "media").rglob("*") if each.is_file()][:1]
    assert hash


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/conversations/telegram:1:404/messages", "conversation_not_found"),
        ("/conversations/web:other:one/messages", "conversation_not_found"),
    ],
)
async def test_only_web_conversations_are_begun(
    tmp_path: Path, models: ModelServer, api: BotApi, path: str, code: str
) -> None:
    async with control_api(tmp_path, api, models) as control:
        answer = await control.client.post(path, json={"client_id": "message-1", "text": "hi"})
    assert (answer.status_code, answer.json()["code"]) == (404, code)


async def test_a_key_for_some_conversations_sees_no_others(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi")
        asked = {"name": "ci", "scope": "chat", "conversations": ["web:local:ci-*"]}
        made = await control.client.post("/keys", json=asked)
        async with control.using(made.json()["secret"]) as program:
            own = await send(program, "hi", to="web:local:ci-1")
            answers = [
                await program.get(f"/runs/{sent['run']}"),
                await program.post("/conversations/web:local:one/messages", json={"client_id": "message-9"}),
            ]
            listed = (await program.get("/conversations")).json()["conversations"]
    assert own["result"]["state"] == "completed"
    assert [each.status_code for each in answers] == [404, 404]
    assert [each["id"] for each in listed] == ["web:local:ci-1"]


async def test_four_hundred_who_wait_cost_a_query_for_each_change(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say(["Hel", Pause(), "lo."]))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi", wait=0)
        gateway = control.built.gateway
        queries: list[int] = []
        read = gateway.store.read

        async def counted(query: Any) -> Any:
            queries.append(1)
            return await read(query)

        waits = [asyncio.create_task(gateway.run_waits.wait(sent["run"], lambda run: run.is_over)) for _ in range(400)]
        await asyncio.sleep(0)
        gateway.store.read = counted  # type: ignore[method-assign]
        models.release()
        ends = await asyncio.gather(*waits)
    assert {end.state for end in ends if end is not None} == {"completed"}
    assert len(queries) < 20


async def test_a_wait_outlasts_failures_of_the_store_at_the_end_of_its_run(
    tmp_path: Path, models: ModelServer, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_waits, "RETRY", 0.01)
    models.script(Say(["Hel", Pause(), "lo."]))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi", wait=0)
        gateway = control.built.gateway
        read, failures = gateway.store.followed_runs, list(range(10))

        async def failing(runs: Sequence[str]) -> Any:
            found = await read(runs)
            if failures and any(run.is_over for run in found.values()):
                raise StoreFailed(f"no answer, attempt {failures.pop()}")
            return found

        monkeypatch.setattr(gateway.store, "followed_runs", failing)
        wait = asyncio.create_task(gateway.run_waits.wait(sent["run"], lambda run: run.is_over))
        await asyncio.sleep(0)
        models.release()
        async with asyncio.timeout(60):
            end = await wait
    assert end is not None
    assert end.state == "completed"


async def test_a_wait_ends_when_its_client_goes(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    tool = {"name": "look", "schema": {"type": "object"}}
    models.respond(lambda _: Call("look", {}))
    async with control_api(tmp_path, api, models) as control:
        sent = await send(control.client, "hi", tools=[tool])
        waits = control.built.gateway.run_waits
        with pytest.raises(httpx.ReadTimeout):
            await control.client.get(
                f"/runs/{sent['run']}", params={"wait": 300, "until": "end"}, timeout=httpx.Timeout(60, read=0.3)
            )
        for _ in range(100):
            await control.client.get("/keys")
            if not waits.waiting:
                break
        assert waits.waiting == 0


TOGETHER = 50


async def test_too_many_requests_are_refused_until_later(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    refused: httpx.Response | None = None
    async with control_api(tmp_path, api, models) as control:
        for _ in range(4 * REQUESTS_PER_MINUTE // TOGETHER):
            answers = await asyncio.gather(*(control.client.get("/nowhere") for _ in range(TOGETHER)))
            refused = next((answer for answer in answers if answer.status_code == 429), None)
            if refused is not None:
                break
    assert refused is not None
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("too_many_requests", "1")


def test_a_caller_has_a_minutes_requests_at_once_and_then_as_many_as_it_waits_for() -> None:
    rate = RequestRate(60, max_callers=2)
    assert [rate.take("ci", 0.0) for _ in range(61)] == [0] * 60 + [1]
    assert (rate.take("ci", 1.0), rate.take("ci", 1.0)) == (0, 1)
    assert rate.take("other", 1.0) == 0
