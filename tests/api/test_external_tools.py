"""Runs, and tools that programs run, over HTTP: the real gateway with its real web server, and a model server."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent.decisions.external_tools import SUPERSEDED, TIMED_OUT
from gateway.assembly.build import Built
from tests.api.streams import Stream, watching
from tests.channels.web_gateway import png
from tests.gateway.stage import gateway
from tests.gateway.test_kill import process
from tests.servers.models import Call, ModelServer, Pause, Request, Say

Json = dict[str, Any]

SETTINGS = """\
[agent]
model = "openai:test"
workspace = "{folder}/workspace"
workspaces = "shared"
[models.openai]
api_key = "test-key"
base_url = "{models}"
[web]
port = {port}
"""

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "Looks out of the window.", "schema": SCHEMA}
CLOCK = {"name": "clock", "description": "Tells the time.", "schema": {"type": "object"}}


class Caller:
    """A program that talks to the gateway over its API."""

    def __init__(self, client: httpx.AsyncClient, chat: str) -> None:
        self.client = client
        self._chat = chat
        self._count = 0

    async def post(self, text: str, *tools: Json, **more: Any) -> Json:
        """The answer to a posted message."""
        self._count += 1
        body = {"client_id": f"{self._chat}-{self._count:08}", "text": text, **more}
        answer = await self.client.post(self._path("messages"), json=body | ({"tools": tools} if tools else {}))
        answer.raise_for_status()
        taken: Json = answer.json()
        return taken

    async def say(self, text: str, *tools: Json) -> str:
        """The posted message's run."""
        return str((await self.post(text, *tools))["run"])

    async def look(self, run: str, wait: float = 60, until: str = "parked") -> Json:
        answer = await self.client.get(f"/runs/{run}", params={"wait": wait, "until": until})
        answer.raise_for_status()
        report: Json = answer.json()
        return report

    async def pending(self, run: str) -> list[Json]:
        """The calls of the run that wait for results, once there are any."""
        report = await self.look(run)
        assert (report["state"], report["outcome"]) == ("parked", None), report
        calls: list[Json] = report["calls"]
        return calls

    async def finished(self, run: str) -> Json:
        report = await self.look(run, until="end")
        assert report["outcome"] == report["state"], report
        return report

    async def supply(self, run: str, *results: Json) -> httpx.Response:
        return await self.client.post(f"/runs/{run}/results", json={"results": results})

    async def refused(self, run: str, *results: Json) -> str:
        """Why the results were not taken."""
        answer = await self.supply(run, *results)
        assert answer.status_code == 409
        assert answer.json()["code"] == "wrong_results"
        return str(answer.json()["detail"])

    async def history(self) -> list[Json]:
        items: list[Json] = (await self.client.get(self._path("history"))).json()["items"]
        return items

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Stream]:
        """What happens in the conversation."""
        async with watching(self.client, f"web:local:{self._chat}") as stream:
            yield stream

    def _path(self, last: str) -> str:
        return f"/conversations/web:local:{self._chat}/{last}"


class Site:
    """A gateway with its model; it may be left and run again."""

    def __init__(self, folder: Path, models: ModelServer, more: str = "", *, port: int = 0) -> None:
        self.models = models
        self.settings = folder / "interject.toml"
        self.settings.write_text(SETTINGS.format(folder=folder, models=models.openai_url, port=port) + more)

    @asynccontextmanager
    async def caller(self, chat: str = "bot") -> AsyncIterator[Caller]:
        async with asyncio.timeout(60), gateway(self.settings) as built, _client(built) as client:
            yield Caller(client, chat)


@asynccontextmanager
async def _client(built: Built) -> AsyncIterator[httpx.AsyncClient]:
    assert built.link is not None
    link = httpx.URL(built.link)
    async with _bearer(str(link.join("/")), link.params["token"]) as client:
        yield client


@asynccontextmanager
async def _knocking(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a process that is just starting."""
    async with asyncio.timeout(60), _bearer(f"http://127.0.0.1:{port}", "a-token-of-the-tests") as client:
        while not await _is_open(client):  # noqa: ASYNC110 - a process that starts rings no bell for tests
            await asyncio.sleep(0.05)
        yield client


async def _is_open(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get(client.base_url.join("/readyz"))).status_code == 200
    except httpx.TransportError:
        return False


def _bearer(url: str, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{url.rstrip('/')}/api/v1", headers=headers, trust_env=False, timeout=60)


def _hook(folder: Path, point: str, ruling: str) -> str:
    """Settings with a hook that rules so."""
    (folder / "hooks.py").write_text(
        "from dataclasses import replace\nfrom agent.hook import Deny, Stop\nclass Strict:\n"
        f"    async def {point}(self, where, subject):\n        return {ruling}\n"
    )
    return f"[[hooks]]\nname = 'strict'\ntype = 'python'\npath = '{folder}/hooks.py:Strict'\npoints = ['{point}']\n"


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer() as models:
        yield models
        assert models.refusals == []


@pytest.fixture
def site(tmp_path: Path, models: ModelServer) -> Site:
    return Site(tmp_path, models)


def asks(*calls: Call) -> Callable[[Request], list[object]]:
    """A model that makes the calls, and says what came of them."""

    def play(request: Request) -> list[object]:
        if request.messages[-1].call_id is None and not request.results:
            return list(calls)
        return [Say(" | ".join(request.results.values()))]

    return play


def last_words(items: list[Json]) -> str:
    *_, reply = [item["reply"] for item in items if item["kind"] == "reply"]
    return str([segment["markdown"] for segment in reply["segments"] if segment["kind"] == "text"][-1])


def result(call: Json, text: str, **more: Any) -> Json:
    return {"call_id": call["id"], "text": text, **more}


# Tools that are run outside


async def test_a_declared_tool_is_called_and_its_result_answered_with(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"})))
    async with site.caller() as caller:
        taken = await caller.post("How is the weather?", WEATHER)
        assert (taken["state"], taken["conflicts"]) == ("accepted", [])
        (call,) = await caller.pending(taken["run"])
        assert (call["name"], call["arguments"]) == ("weather", {"city": "Oslo"})
        answer = await caller.supply(taken["run"], result(call, "It snows."))
        assert answer.status_code == 200
        assert answer.json()["calls"] == []
        report = await caller.finished(taken["run"])
        assert (report["state"], report["run"], report["read_by"]) == ("completed", taken["run"], None)
        assert last_words(await caller.history()) == "It snows."
    assert "weather" in site.models.requests[0].tools


async def test_a_failed_result_is_told_to_the_model(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"})))
    async with site.caller() as caller:
        run = await caller.say("How is the weather?", WEATHER)
        (call,) = await caller.pending(run)
        await caller.supply(run, result(call, "No window.", failed=True))
        await caller.finished(run)
        states = [
            s["state"] for i in await caller.history() if i["kind"] == "reply" for s in i["reply"]["segments"][:1]
        ]
        assert states == ["failed"]


async def test_tools_are_offered_to_the_turn_that_reads_their_message_and_to_no_other(site: Site) -> None:
    async with site.caller() as caller:
        await caller.finished(await caller.say("one", WEATHER))
        await caller.finished(await caller.say("two"))
    assert ["weather" in request.tools for request in site.models.requests] == [True, False]


async def test_what_is_tried_again_has_the_tools_that_it_had(site: Site) -> None:
    async with site.caller() as caller:
        await caller.finished(await caller.say("How is the weather?", WEATHER))
        await caller.post("/retry")
        await site.models.until(2)
    assert ["weather" in request.tools for request in site.models.requests] == [True, True]


async def test_two_calls_of_a_step_are_pending_together(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"}), Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Weather and time?", WEATHER, CLOCK)
        calls = await caller.pending(run)
        assert [call["name"] for call in calls] == ["weather", "clock"]
        await caller.supply(run, *(result(call, call["name"]) for call in reversed(calls)))
        await caller.finished(run)
        assert last_words(await caller.history()) == "weather | clock"


async def test_our_own_tools_of_the_step_run_before(site: Site, tmp_path: Path) -> None:
    write = Call("write_file", {"path": "note.txt", "content": "hello"})
    site.models.respond(asks(Call("weather", {"city": "Oslo"}), write))
    async with site.caller() as caller:
        run = await caller.say("Look out and write", WEATHER)
        (call,) = await caller.pending(run)
        assert call["name"] == "weather"
        assert (tmp_path / "workspace" / "note.txt").read_text() == "hello"
        await caller.supply(run, result(call, "It snows."))
        assert (await caller.finished(run))["state"] == "completed"
        assert "It snows." in last_words(await caller.history())


async def test_results_must_be_those_of_the_pending_calls(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"}), Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Weather and time?", WEATHER, CLOCK)
        first, second = await caller.pending(run)
        one, two = result(first, "snow"), result(second, "noon")
        assert await caller.refused(run, one) == f"missing: {second['id']}"
        assert "given twice" in await caller.refused(run, one, one, two)
        foreign = await caller.refused(run, one, two, {"call_id": "mine", "text": "?"})
        assert foreign == "not a call of this run that waits for a result: mine"
        assert (await caller.supply(run)).status_code == 422
        assert len(await caller.pending(run)) == 2
        assert (await caller.supply(run, one, two)).status_code == 200
        assert "no longer pending" in await caller.refused(run, one, two)
        assert (await caller.finished(run))["state"] == "completed"


async def test_of_results_supplied_at_once_by_several_the_first_count(site: Site) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        answers = await asyncio.gather(*(caller.supply(run, result(call, f"{n}")) for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
        winner = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
        await caller.finished(run)
        assert last_words(await caller.history()) == f"{winner}"


async def test_a_long_result_is_shortened_and_secrets_in_it_are_masked(site: Site) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        await caller.supply(run, result(call, "test-key " + "tick " * 20_000))
        await caller.finished(run)
    (told,) = site.models.requests[-1].results.values()
    assert told.startswith("[secret] tick")
    assert "read_file" in told
    assert len(told) < 30_000


async def test_a_tool_of_our_own_wins_over_a_declared_one(site: Site) -> None:
    async with site.caller() as caller:
        taken = await caller.post("hi", WEATHER | {"name": "read_file"}, CLOCK)
        assert taken["conflicts"] == ["read_file"]
        await caller.finished(taken["run"])
    (request,) = site.models.requests
    assert request.tools.count("read_file") == 1
    assert "clock" in request.tools
    (offered,) = [tool["function"] for tool in request.body["tools"] if tool["function"]["name"] == "read_file"]
    assert offered["description"] != WEATHER["description"]


async def test_a_message_instead_of_results_cancels_the_calls(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"}), Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Weather and time?", WEATHER, CLOCK)
        calls = await caller.pending(run)
        other = await caller.say("Never mind")
        assert (await caller.finished(run))["state"] == "completed"
        late = await caller.refused(run, *(result(call, "late") for call in calls))
        assert late == "no longer pending: " + ", ".join(f"{call['id']} (cancelled)" for call in calls)
        report = await caller.finished(other)
        assert (report["state"], report["read_by"]) == ("completed", run)
    assert set(site.models.requests[-1].results.values()) == {SUPERSEDED}


async def test_a_stop_cancels_what_is_pending(site: Site) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller, caller.events() as events:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        (await caller.client.post("/conversations/web:local:bot/stop")).raise_for_status()
        assert await ends(events, run) == {run: "stopped"}
        assert await caller.refused(run, result(call, "late")) == f"no longer pending: {call['id']} (cancelled)"


async def test_nobody_waits_for_results_for_ever(tmp_path: Path, models: ModelServer) -> None:
    models.respond(asks(Call("clock", {})))
    site = Site(tmp_path, models, "[tools]\napproval_expires = 1\n")
    async with site.caller() as caller, caller.events() as events:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        assert await ends(events, run) == {run: "completed"}
        assert last_words(await caller.history()) == TIMED_OUT
        assert await caller.refused(run, result(call, "late")) == f"no longer pending: {call['id']} (failed)"


async def test_what_is_pending_survives_a_restart(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"}), Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Weather and time?", WEATHER, CLOCK)
        calls = await caller.pending(run)
    async with site.caller() as caller:
        assert await caller.pending(run) == calls
        await caller.supply(run, *(result(call, call["name"]) for call in calls))
        assert (await caller.finished(run))["state"] == "completed"
        assert last_words(await caller.history()) == "weather | clock"
    assert len(site.models.requests) == 2
    assert "weather" in site.models.requests[-1].tools


@pytest.mark.crash
async def test_what_is_pending_survives_a_kill(tmp_path: Path, models: ModelServer) -> None:
    models.respond(asks(Call("weather", {"city": "Oslo"}), Call("clock", {})))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "web-token").write_text("a-token-of-the-tests")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    site = Site(tmp_path, models, port=port)
    async with process(site.settings) as running, _knocking(port) as client:
        caller = Caller(client, "bot")
        run = await caller.say("Weather and time?", WEATHER, CLOCK)
        calls = await caller.pending(run)
        running.send_signal(signal.SIGKILL)
        await running.wait()
    async with process(site.settings), _knocking(port) as client:
        caller = Caller(client, "bot")
        assert await caller.pending(run) == calls
        await caller.supply(run, *(result(call, call["name"]) for call in calls))
        assert (await caller.finished(run))["state"] == "completed"
        assert last_words(await caller.history()) == "weather | clock"


async def test_hooks_look_at_results_from_outside_too(tmp_path: Path, models: ModelServer) -> None:
    models.respond(asks(Call("clock", {})))
    async with Site(
        tmp_path, models, _hook(tmp_path, "after_tool", "replace(subject, text='noon')")
    ).caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        await caller.supply(run, result(call, "midnight"))
        await caller.finished(run)
        assert last_words(await caller.history()) == "noon"


async def test_a_hook_may_end_the_turn_for_a_result_from_outside(tmp_path: Path, models: ModelServer) -> None:
    models.respond(asks(Call("clock", {})))
    async with Site(tmp_path, models, _hook(tmp_path, "after_tool", "Stop('too late')")).caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        await caller.supply(run, result(call, "midnight"))
        report = await caller.finished(run)
        assert (report["state"], report["reason"]) == ("stopped", "too late (the hook 'strict')")
    assert len(models.requests) == 1


def file_of(name: str, data: bytes) -> Json:
    return {"name": name, "data": base64.b64encode(data).decode()}


PICTURE = file_of("snow.png", png(8, 8))


def segments(items: list[Json], kind: str) -> list[Json]:
    *_, reply = [item["reply"] for item in items if item["kind"] == "reply"]
    return [segment for segment in reply["segments"] if segment["kind"] == kind]


async def test_a_result_has_files_for_people_words_for_them_and_pictures_for_the_model(site: Site) -> None:
    site.models.respond(asks(Call("weather", {"city": "Oslo"})))
    more = {"files": [PICTURE, file_of("../log.txt", b"cold")], "caption": "Now", "images": [PICTURE]}
    async with site.caller() as caller:
        run = await caller.say("How is the weather?", WEATHER)
        (call,) = await caller.pending(run)
        answer = await caller.supply(run, result(call, "It snows.", for_user="It is **cold**.", **more))
        assert answer.status_code == 200, answer.text
        await caller.finished(run)
        items = await caller.history()
        shown = segments(items, "media")
        assert [(each["attachment"]["name"], each["caption"]) for each in shown] == [
            ("snow.png", "Now"),
            ("log.txt", ""),
        ]
        path = f"/conversations/web:local:bot/files/{shown[1]['attachment']['hash']}/log.txt"
        stored = await caller.client.get(path)
        assert stored.content == b"cold"
        assert [each["markdown"] for each in segments(items, "text")] == ["It is **cold**.", "It snows."]
    assert [len(message.images) for message in site.models.requests[-1].messages if message.images] == [1]


@pytest.mark.parametrize("is_final", [True, False])
async def test_a_final_result_is_the_answer(site: Site, is_final: bool) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        await caller.supply(run, result(call, "noon", final=is_final, silent=True))
        assert (await caller.finished(run))["state"] == "completed"
        assert last_words(await caller.history()) == "noon"
        assert segments(await caller.history(), "call") == []
    assert len(site.models.requests) == (1 if is_final else 2)


WITHHELD = "replace(subject, text=subject.text.replace('damn', 'dear')) if subject.kind == 'text' else Deny('no files')"


async def test_hooks_look_at_what_a_result_from_outside_shows_people(tmp_path: Path, models: ModelServer) -> None:
    models.respond(asks(Call("clock", {})))
    async with Site(tmp_path, models, _hook(tmp_path, "before_reply", WITHHELD)).caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        more = {"files": [PICTURE], "for_user": "A damn clock. test-key", "caption": "test-key"}
        await caller.supply(run, result(call, "noon", **more))
        await caller.finished(run)
        items = await caller.history()
        assert segments(items, "media") == []
        assert segments(items, "text")[0]["markdown"] == "A dear clock. [secret]"
    assert "Not shown to the person" in str(models.requests[-1].results)


@pytest.mark.parametrize(
    ("more", "status", "why"),
    [
        ({"files": [{"name": "a", "data": "?"}]}, 422, "results.0.files.0.data: "),
        ({"files": [{"name": "a"}]}, 422, "results.0.files.0.data: Field required"),
        ({"files": [file_of("a.txt", b"")]}, 409, "a.txt is empty"),
        ({"images": [file_of("a.txt", b"text")]}, 409, "a.txt cannot be shown to the model as a picture"),
        ({"files": [PICTURE] * 11, "images": [PICTURE] * 10}, 409, "a result may have 20 files and images, not 21"),
        ({"files": [file_of("a.bin", b"x" * 52_428_801)]}, 413, "a.bin has 52,428,801 bytes"),
        ({"silent": "yes, please"}, 422, "results.0.silent: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_result_that_cannot_be_used_is_refused_and_may_be_supplied_anew(
    site: Site, more: Json, status: int, why: str
) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller:
        run = await caller.say("Time?", CLOCK)
        (call,) = await caller.pending(run)
        answer = await caller.supply(run, result(call, "midnight", **more))
        assert (answer.status_code, why in answer.json()["detail"]) == (status, True), answer.text
        await caller.supply(run, result(call, "noon"))
        await caller.finished(run)
        assert last_words(await caller.history()) == "noon"


async def test_tools_can_be_declared_beside_files(site: Site) -> None:
    async with site.caller() as caller:
        parts = {"client_id": "with-files-1", "text": "look", "tools": json.dumps([CLOCK])}
        path = "/conversations/web:local:bot/messages"
        answer = await caller.client.post(path, data=parts, files=[("files", ("a.txt", b"hello"))])
        await caller.finished(answer.json()["run"])
    assert "clock" in site.models.requests[0].tools


NO_TOOLS: tuple[tuple[list[Json], str], ...] = (
    ([CLOCK | {"name": "no spaces"}], "tools.0.name"),
    ([CLOCK, CLOCK], "declared twice"),
    ([CLOCK | {"name": f"tool-{number}"} for number in range(65)], "at most 64 items"),
    ([CLOCK | {"schema": {"type": "string"}}], '"type": "object"'),
    ([CLOCK | {"description": "long " * 50_000}], "more than 200,000 characters"),
    ([CLOCK | {"schema": "{}"}], "tools.0.schema"),
    ([{"name": "clock"}], "tools.0.schema: Field required"),
    ([CLOCK | {"url": "http://me"}], "tools.0.url"),
)


async def test_tools_that_cannot_be_any_are_refused_in_words(site: Site) -> None:
    async with site.caller() as caller:
        for tools, words in NO_TOOLS:
            body = {"client_id": "client-0001", "text": "hi", "tools": tools}
            answer = await caller.client.post("/conversations/web:local:bot/messages", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), words
            assert words in answer.json()["detail"]
        assert (await caller.client.get("/conversations/web:local:bot/history")).status_code == 404


# Runs


async def test_nobody_knows_a_run_that_never_was(site: Site) -> None:
    async with site.caller() as caller:
        call = {"call_id": "mine", "text": "?"}
        answers = [await caller.client.get("/runs/none", params={"wait": 60}), await caller.supply("none", call)]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "run_not_found")] * 2


async def test_a_wait_has_a_bound(site: Site) -> None:
    async with site.caller() as caller:
        for wait in ("301", "-1", "soon", "nan"):
            answer = await caller.client.get("/runs/none", params={"wait": wait})
            assert answer.status_code == 422, wait


async def test_a_run_has_the_same_end_after_a_restart(site: Site) -> None:
    async with site.caller() as caller:
        run = await caller.say("hi")
        report = await caller.finished(run)
        assert (report["state"], report["reason"], report["calls"]) == ("completed", "", [])
    async with site.caller() as caller:
        assert await caller.look(run, wait=0) == report
        assert await caller.refused(run, {"call_id": "x", "text": ""})


async def test_a_message_sent_again_has_the_same_run(site: Site) -> None:
    async with site.caller() as caller:
        first = await caller.post("hi", client_id="again-0001")
        again = await caller.post("hi", client_id="again-0001")
        assert (again["run"], again["duplicate"]) == (first["run"], True)


async def test_a_failed_run_says_why(site: Site) -> None:
    site.models.script([Call("clock", {})], *([[Call("clock", {})]] * 9))
    async with site.caller() as caller:
        run = await caller.say("Time?", CLOCK)
        for _ in range(5):
            (call,) = await caller.pending(run)
            await caller.supply(run, result(call, "noon"))
        report = await caller.finished(run)
        assert report["state"] == "failed"
        assert "loop detected" in report["reason"]


async def test_what_waits_when_everything_is_stopped_is_withdrawn(site: Site) -> None:
    site.models.script([Pause(), Say("never")])
    async with site.caller() as caller, caller.events() as events:
        running = await caller.say("work")
        await site.models.until_held()
        waiting = await caller.say("/queue later")
        assert (await caller.look(waiting, wait=0))["state"] == "waiting"
        await caller.post("/stop")
        assert (await caller.finished(running))["state"] == "stopped"
        assert (await caller.finished(waiting))["state"] == "withdrawn"
        assert await ends(events, running, waiting) == {running: "stopped", waiting: "withdrawn"}


async def test_of_messages_that_are_answered_together_each_has_the_end_of_the_first(site: Site) -> None:
    site.models.script([Pause(), Say("one")], [Say("both")])
    async with site.caller() as caller:
        await caller.post("/busy collect")
        async with caller.events() as events:
            first = await caller.say("one")
            await site.models.until_held()
            second, third = await caller.say("two"), await caller.say("three")
            site.models.release()
            assert (await caller.finished(second))["state"] == "completed"
            report = await caller.finished(third)
            assert (report["state"], report["read_by"]) == ("completed", second)
            states = {first: "completed", second: "completed", third: "completed"}
            assert await ends(events, *states) == states


async def test_the_run_of_a_message_that_a_running_turn_reads_ends_with_that_turn_and_once(site: Site) -> None:
    site.models.respond(asks(Call("clock", {})))
    async with site.caller() as caller, caller.events() as events:
        run = await caller.say("Time?", CLOCK)
        await caller.pending(run)
        steering = await caller.say("And now?")
        assert await ends(events, run, steering) == {run: "completed", steering: "completed"}
        last = await caller.say("Thanks")
        assert await ends(events, last) == {last: "completed"}


async def test_a_refused_message_has_a_run_that_says_so(tmp_path: Path, models: ModelServer) -> None:
    async with Site(tmp_path, models, _hook(tmp_path, "on_message", "Deny('no swearing')")).caller() as caller:
        taken = await caller.post("damn")
        report = await caller.finished(taken["run"])
        assert (taken["state"], report["state"], report["reason"]) == ("refused", "refused", "no swearing")


async def ends(events: Stream, *runs: str) -> dict[str, str]:
    """The states in which these runs ended; of no other run an end is told, and of none twice."""
    told: dict[str, str] = {}
    while set(told) != set(runs):
        ended = (await events.until("run.ended")).data["run"]
        assert ended["outcome"] == ended["state"]
        assert ended["run"] in set(runs) - set(told)
        told[ended["run"]] = ended["state"]
    return told
