"""`interject.client`, against a running gateway."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from interject.client import ApiError, AsyncInterject, Interject, StillRunning, Tool, Unreachable
from tests.api.conftest import Api, control_api
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "client.md"
ROME = "web:local:rome"

WEATHER = Tool(name="weather", description="The weather in a city.", parameters={"type": "object", "properties": {}})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@asynccontextmanager
async def client(
    folder: Path, telegram: BotApi, models: ModelServer, more: str = ""
) -> AsyncIterator[tuple[AsyncInterject, Api]]:
    async with (
        control_api(folder, telegram, models, more=more) as control,
        AsyncInterject(control.url, control.token) as interject,
    ):
        yield interject, control


async def test_a_message_is_answered_and_its_conversation_listed(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("In Italy."))
    async with client(tmp_path, api, models) as (interject, _):
        run = await interject.ask(ROME, "Where is Rome?", files=[("map.txt", b"Italy: Rome")])
        assert (run.state, run.text) == ("completed", "In Italy.")
        [listed] = await interject.conversations(search="Rome")
        assert (listed.id, listed.running) == (ROME, False)
        status = await interject.command(ROME, "/status")
        assert status is not None
        assert "No task is running" in status.text
    assert "Italy: Rome" in "\n".join(message.text for message in models.requests[0].messages)


async def test_a_conversation_is_gone_on_with_elsewhere_from_a_run(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say("In Italy."), Say("In France."), Say("Still in Italy."))
    async with client(tmp_path, api, models) as (interject, control):
        first = await interject.ask(ROME, "Where is Rome?")
        await interject.ask(ROME, "Where is Paris?")
        made = await interject.fork(ROME, run=first.run, title="Rome only", name="rome-2")
        assert (made.id, made.title, made.running) == ("web:local:rome-2", "Rome only", False)
        await interject.ask(made.id, "And now?")
        with Interject(control.url, control.token) as blocking:
            by_message = await asyncio.to_thread(blocking.fork, ROME, message=1)
    assert by_message.title == "Where is Rome? (fork)"
    assert [message.text for message in models.requests[-1].messages[1:]] == ["Where is Rome?", "In Italy.", "And now?"]


async def test_the_running_turn_is_steered_watched_and_stopped(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say(["Looking at ", Pause(), "Rome."]), Say(["Paris ", Pause(), "is nice."]))
    async with client(tmp_path, api, models) as (interject, _):
        seen: list[str] = []

        async def watch() -> None:
            async for event in interject.events(ROME):
                seen.append(event.type)
                if event.type == "run.ended":
                    return

        sent = await interject.send(ROME, "Plan a trip to Rome.")
        watching = asyncio.create_task(watch())
        await models.until_held()
        await interject.steer(ROME, "Paris instead!")
        await models.until(2)
        with pytest.raises(StillRunning):
            await interject.wait(sent.run or "", timeout=0)
        waiting = await interject.send(ROME, "And then?", busy="queue")
        assert [message.id for message in await interject.queue(ROME)] == [waiting.id]
        stopped = await interject.stop(ROME)
        assert (stopped.turn, stopped.withdrawn) == (sent.run, 1)
        assert (await interject.wait(sent.run or "", to_end=True)).state == "stopped"
        await watching
    assert seen[0] == "snapshot"


async def test_calls_of_the_programs_own_tools_get_their_results(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Call("weather", {}), Say("Cold."))
    async with client(tmp_path, api, models) as (interject, _):
        run = await interject.ask(ROME, "Is it cold?", tools=[WEATHER])
        assert run.state == "parked"
        [call] = run.calls
        await interject.submit(run.run, {call.id: "-4 °C"})
        assert (await interject.wait(run.run)).text == "Cold."


async def test_an_approval_is_decided(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script(Call("write_file", {"path": "a.txt", "content": "a"}), Say("Written."))
    more = '[tools.write_file]\napproval = "always"\n'
    async with client(tmp_path, api, models, more) as (interject, _):
        run = await interject.ask(ROME, "Write a file.")
        [asked] = await interject.decisions(ROME)
        assert (asked.kind, asked.tool) == ("approval", "write_file")
        await interject.decide(asked.id, allow=True)
        assert (await interject.wait(run.run)).text == "Written."
        with pytest.raises(ApiError) as late:
            await interject.decide(asked.id, allow=False)
    assert (late.value.status, late.value.code) == (409, "decided_otherwise")


async def test_a_message_sent_twice_is_stored_once(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Yes."))
    async with client(tmp_path, api, models) as (interject, _):
        first = await interject.send(ROME, "Hello", client_id="hello-42")
        again = await interject.send(ROME, "Hello", client_id="hello-42")
        assert (again.id, again.duplicate) == (first.id, True)
        with pytest.raises(ApiError) as refused:
            await interject.send(ROME, "Good bye", client_id="hello-42")
    assert refused.value.code == "client_id_reused"


async def test_what_cannot_be_reached_or_is_not_allowed_is_an_error(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    async with control_api(tmp_path, api, models) as control, AsyncInterject(control.url, "wrong") as stranger:
        with pytest.raises(ApiError) as refused:
            await stranger.conversations()
        with pytest.raises(ApiError):
            await anext(stranger.events())
    assert (refused.value.status, refused.value.code) == (401, "key_missing")
    async with AsyncInterject(control.url, "wrong") as late:
        with pytest.raises(Unreachable):
            await late.conversations()


@pytest.mark.parametrize("key", ["", "two words", "two\nlines", "kéy"])
def test_a_key_that_cannot_be_one_is_refused_without_its_words(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the key is not one that interject keys create has printed$"):
        Interject("http://127.0.0.1:8321", key)


async def test_the_examples_of_the_guide_run_without_asyncio(
    tmp_path: Path, models: ModelServer, api: BotApi, capsys: pytest.CaptureFixture[str]
) -> None:
    models.respond(lambda _: Say("Done."))
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(examples) == 4
    async with control_api(tmp_path, api, models) as control:
        made = await control.client.post("/keys", json={"name": "ci", "scope": "chat"})
        for example in examples:
            names: dict[str, Any] = {"URL": control.url, "KEY": made.json()["secret"], "OPERATOR_KEY": control.token}
            await asyncio.to_thread(exec, compile(example, str(GUIDE), "exec"), names)
    # The steered turn may have answered the first message already when it reads the second.
    lines = list(filter(None, capsys.readouterr().out.splitlines()))
    assert lines[0] == "completed Done."
    assert lines[1:-1] in (["Done."] * 2, ["Done."] * 3)
    assert lines[-1].endswith(" works 0/500")


async def test_a_lost_stream_goes_on_where_it_was(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(lambda _: Say("Yes."))
    async with client(tmp_path, api, models) as (interject, control):
        await interject.ask(ROME, "One")

        def first() -> str:
            with Interject(control.url, control.token) as sync:
                return next(event.id for event in sync.events(ROME))

        last_id = await asyncio.to_thread(first)
        await interject.ask(ROME, "Two")
        stream = interject.events(ROME, last_id=last_id)
        event = await anext(stream)
        async for changed in stream:
            if changed.type == "message.state":
                break
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert event.type == "ping"
    assert (changed.id > last_id, changed.data["id"], changed.data["state"]) == (True, 2, "read")


async def test_one_connection_lasts_until_the_gateway_ends_it(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with AsyncExitStack() as outside, AsyncExitStack() as running:
        control = await running.enter_async_context(control_api(tmp_path, api, models))
        interject = await outside.enter_async_context(AsyncInterject("http://127.0.0.1:9", "unknown"))
        interject.move(control.url, control.token)
        assert (await interject.session()).scope == "admin"
        stream = interject.stream(ROME)
        assert (await anext(stream)).type == "snapshot"
        await running.aclose()
        assert [event.type async for event in stream] == []
        with pytest.raises(Unreachable):
            await anext(interject.stream(ROME))


async def test_a_text_with_a_slash_is_a_command_only_if_that_is_said(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda request: Say(f"Read: {request.last_user_text}"))
    async with client(tmp_path, api, models) as (interject, _):
        texts = [
            (await interject.wait((await interject.send(ROME, "/status", commands=commands)).run or "")).text
            for commands in (False, True)
        ]
    assert texts[0] == "Read: /status"
    assert "No task is running" in texts[1]


def test_nothing_of_the_gateway_is_imported() -> None:
    code = "import sys, interject.client; print(sorted({'gateway', 'channels', 'agent'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
