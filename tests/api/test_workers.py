"""The processes that work on the database, over HTTP and in the terminal."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from config.load import load
from gateway import VERSION
from gateway.cli.workers import drain, show_workers
from gateway.store import open_store
from interject.client import ApiError, AsyncInterject, Draining, Interject
from tests.api.conftest import Api, control_api
from tests.api.test_keys import new_key
from tests.api.test_operations import read
from tests.engines import engines
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

LEASE = 600.0
"""Seconds: nobody dies here."""

STATES = {"works": 1, "draining": 1, "dead": 0}
"""Of two workers, one of which is told to end."""


async def refusal(control: Api, worker: str) -> tuple[int, str]:
    answer = await control.client.post(f"/workers/{worker}/drain")
    return answer.status_code, answer.json()["code"]


@pytest.mark.engines("postgresql")
async def test_a_worker_is_ended_as_long_as_another_one_works(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.script([Pause(), Say("Done.")])
    url = engines.url(tmp_path / "interject.db")
    async with control_api(tmp_path, api, models, more=f'[store]\nurl = "{url}"\n') as control:
        ann = api.private(7, "Ann")
        await ann.say("tidy up")
        await models.until_held()
        own = control.built.gateway.store.worker
        assert await refusal(control, own) == (409, "last_worker")
        async with open_store(url, worker="other", lease=LEASE) as other:
            before = (await read(control, "/workers"))["workers"]
            assert await refusal(control, "nobody") == (404, "worker_not_found")
            told = await control.client.post("/workers/other/drain")
            again = await control.client.post("/workers/other/drain")
            beat = await other.beat(LEASE, 0, 0)
            after = (await read(control, "/workers"))["workers"]
            assert await refusal(control, own) == (409, "last_worker"), "one that drains does not go on"
            metrics = (await control.client.get(f"{control.url}/metrics")).text
            audited = (await read(control, "/audit?event=worker_drained"))["events"]
        models.release()
        await ann.hear("Done.")
    assert [(each["id"], each["state"], each["asked"]) for each in before] == [
        (own, "works", True),
        ("other", "works", False),
    ]
    assert (before[0]["turns"], before[0]["connectors"]) == (1, [f"telegram:{api.token.partition(':')[0]}"])
    assert 0 < before[0]["lease"] <= LEASE
    assert (told.status_code, told.json(), again.status_code) == (202, {"id": "other", "turns": 0}, 202)
    assert beat is not None
    assert beat.draining
    assert [each["state"] for each in after] == ["works", "draining"]
    counts = {state: f'interject_workers{{state="{state}"}} {count}' for state, count in STATES.items()}
    assert [state for state, line in counts.items() if line not in metrics] == []
    assert "\ninterject_lease_seconds " in metrics
    assert [each["detail"]["worker"] for each in audited] == ["other"], "once"


@pytest.mark.engines("postgresql")
async def test_one_of_several_workers_that_are_ended_at_the_same_moment_goes_on(tmp_path: Path) -> None:
    url = engines.url(tmp_path / "interject.db")
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_store(url, worker=f"w{n}", lease=LEASE)) for n in range(4)]
        told = await asyncio.gather(*(opened[n].drain_worker(f"w{(n + 1) % 4}") for n in range(4)))
        left = [each for each in await opened[0].list_workers() if not each.draining]
    assert sorted(told) == ["last", "told", "told", "told"]
    assert len(left) == 1


async def test_the_only_process_of_a_file_works_without_a_lease_and_is_not_drained(
    tmp_path: Path, models: ModelServer, api: BotApi, capsys: pytest.CaptureFixture[str]
) -> None:
    async with control_api(tmp_path, api, models) as control:
        configuration = load(tmp_path / "interject.toml", {}, tmp_path / "home")
        (worker,) = (await read(control, "/workers"))["workers"]
        assert show_workers(configuration, as_json=True) == 0
        listed = json.loads(capsys.readouterr().out)
        assert drain(configuration, worker["id"]) == 1
        said = capsys.readouterr().err
        assert await refusal(control, worker["id"]) == (409, "last_worker")
    assert (worker["state"], worker["lease"], worker["asked"]) == ("works", None, True)
    assert worker["version"] == VERSION, "that of the program that runs, whatever is installed"
    assert (listed["worker"], listed["state"], listed["lease"]) == (worker["id"], "works", None)
    assert "SIGTERM" in said


@pytest.mark.engines("postgresql")
async def test_a_program_lists_the_workers_and_ends_one_with_the_client(
    tmp_path: Path, models: ModelServer, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = engines.url(tmp_path / "interject.db")
    async with (
        control_api(tmp_path, api, models, more=f'[store]\nurl = "{url}"\n') as control,
        open_store(url, worker="other", lease=LEASE) as other,
        AsyncInterject(control.url, control.token) as interject,
    ):
        own = control.built.gateway.store.worker

        def ended_by_hand() -> tuple[list[str], Draining]:
            with Interject(control.url, control.token) as blocking:
                return [each.id for each in blocking.workers()], blocking.drain("other")

        listed, draining = await asyncio.to_thread(ended_by_hand)
        workers = await interject.workers()
        beat = await other.beat(LEASE, 0, 0)
        refused = []
        for worker in (own, "nobody"):
            with pytest.raises(ApiError) as refusal_of_client:
                await interject.drain(worker)
            refused.append((refusal_of_client.value.status, refusal_of_client.value.code))
    assert (listed, draining.id, draining.turns) == ([own, "other"], "other", 0)
    assert [(each.id, each.state, each.asked) for each in workers] == [
        (own, "works", True),
        ("other", "draining", False),
    ]
    assert beat is not None
    assert beat.draining
    assert refused == [(409, "last_worker"), (404, "worker_not_found")]


@pytest.mark.parametrize("scope", ["chat", "operate"])
async def test_only_an_operator_of_everything_sees_and_ends_workers(
    tmp_path: Path, models: ModelServer, api: BotApi, scope: str
) -> None:
    code = {"chat": "scope_missing", "operate": "key_limited"}[scope]
    async with control_api(tmp_path, api, models) as control:
        _, secret = await new_key(control, scope, conversations=["web:local:mine"])
        async with control.using(secret) as limited:
            seen = await limited.get("/workers")
            ended = await limited.post(f"/workers/{control.built.gateway.store.worker}/drain")
    assert [(each.status_code, each.json()["code"]) for each in (seen, ended)] == [(403, code)] * 2
