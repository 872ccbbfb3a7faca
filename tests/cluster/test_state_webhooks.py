"""Webhooks of several workers: one of them sends what happens in any, and ends of runs survive the end of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from config.load import load
from gateway.assembly.build import Built
from gateway.store import open_store
from tests.cluster.fleet import Fleet, fleet
from tests.cluster.pair import known
from tests.engines import engines
from tests.gateway.notes import SESSION, begin, finish, message
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi
from tests.servers.webhooks import WebhookServer

pytestmark = pytest.mark.engines("postgresql")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LEASE = 1.5
MORE = """
[store]
lease = {lease}
[media]
path = "{folder}/media"
[[webhooks]]
url = "{url}"
secret = "{secret}"
events = {events}
"""


def settings(
    folder: Path,
    api: BotApi,
    models: ModelServer,
    server: WebhookServer,
    lease: float = LEASE,
    events: str = '["run.ended", "message"]',
) -> Path:
    more = MORE.format(lease=lease, folder=folder, url=server.url, secret=SECRET, events=events)
    return write_settings(folder, api, models, more=more)


async def holder(workers: Fleet) -> str:
    """The worker that sends."""
    async with asyncio.timeout(60):
        while not (name := workers.holder("webhook:")):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
    return name


@pytest.mark.crash
async def test_ends_of_runs_survive_the_death_of_the_worker_that_sends(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with WebhookServer(SECRET) as server, fleet(settings(tmp_path, api, models, server), "a", "b") as workers:
        ann = api.private(7, "Ann")
        await holder(workers)
        await ann.say("first")
        first, _ = await server.next("run.ended")
        server.answer(always=503)
        for number in range(4):
            await ann.say(f"message {number}")
            await ann.until(lambda ann, number=number: ann.texts == ["Hello."] * (number + 2))
        dead = await holder(workers)
        await workers.kill(dead)
        server.answer(always=204)
        async with asyncio.timeout(60):
            while len(ended(server)) < 5:  # noqa: ASYNC110 - what comes twice does not count
                await asyncio.sleep(0.05)
        assert await holder(workers) not in ("", dead)
    assert server.refusals == []
    assert first in ended(server)


@pytest.mark.crash
async def test_a_worker_that_was_stopped_for_longer_than_its_lease_sends_nothing_more(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with WebhookServer(SECRET) as server, fleet(settings(tmp_path, api, models, server), "a", "b") as workers:
        ann = api.private(7, "Ann")
        stopped = await holder(workers)
        server.answer(always=503)
        await ann.say("hi")
        await ann.hear("Hello.")
        await server.seen_at_least(1)
        process = workers.processes[stopped]
        process.stop()
        async with asyncio.timeout(60):
            while await holder(workers) == stopped:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.05)
        server.answer(always=204)
        await server.next("run.ended")
        process.resume()
        await workers.alive(stopped)
        await ann.say("and again")
        await server.taken_at_least(3)
    assert [body["type"] for _, body in server.taken] == ["run.ended", "message", "run.ended"]


def ended(server: WebhookServer) -> set[str]:
    return {id for id, body in server.taken if body["type"] == "run.ended"}


@asynccontextmanager
async def worker(file: Path, name: str) -> AsyncIterator[Built]:
    environ = {"INTERJECT_STORE__URL": engines.url(file.parent / "interject.db")}
    async with gateway(load(file, environ, file.parent / name), environ=environ) as built:
        yield built


def holds() -> str:
    return "SELECT worker FROM leases WHERE name LIKE 'webhook:%'"


async def held_by(database: Path, built: Built) -> None:
    async with asyncio.timeout(60):
        while engines.sql(database, holds()) != [(built.gateway.store.worker,)]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


async def test_one_worker_sends_what_happens_in_any_and_hands_over_when_it_ends(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    database = tmp_path / "interject.db"
    async with WebhookServer(SECRET) as server, AsyncExitStack() as stack:
        file = settings(tmp_path, api, models, server, lease=60.0)
        async with worker(file, "a") as one:
            await held_by(database, one)
            other = await stack.enter_async_context(worker(file, "b"))
            ann = api.private(7, "Ann")
            await ann.say("one")
            first, _ = await server.next("run.ended")
            await server.taken_at_least(2)
            assert [body["type"] for _, body in server.taken] == ["message", "run.ended"]
        # The lease of the one that has ended would last for a minute.
        await held_by(database, other)
        await ann.say("two")
        second, _ = await server.next("run.ended", besides=first)
    assert second != first
    assert [body["type"] for _, body in server.taken].count("message") == 2


async def test_the_end_of_a_run_is_sent_of_which_its_worker_has_told_nobody(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    database = tmp_path / "interject.db"
    async with WebhookServer(SECRET) as server:
        file = settings(tmp_path, api, models, server, lease=LEASE)
        # It is gone a moment after it has stored the end, and has no bus.
        async with open_store(engines.url(database), worker="silent", lease=600.0) as store, AsyncExitStack() as stack:
            await stack.enter_async_context(worker(file, "a"))
            await api.private(8, "Bob").say("hello")
            other, _ = await server.next("run.ended")
            arrival = await store.accept(message("hi"), SESSION)
            await finish(store, await begin(store))
            await store.leave()
            _, body = await server.next("run.ended", besides=other)
    assert arrival is not None
    assert body["data"]["run"]["run"] == arrival.run


async def test_the_end_of_a_run_is_sent_of_a_worker_that_lived_too_shortly_to_be_seen(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    database = tmp_path / "interject.db"
    async with WebhookServer(SECRET) as server:
        file = settings(tmp_path, api, models, server, lease=LEASE)
        async with worker(file, "a"):
            await api.private(8, "Bob").say("hello")
            other, _ = await server.next("run.ended")
            # It begins and is buried between two looks of the holder's.
            async with open_store(engines.url(database), worker="brief", lease=600.0) as store:
                arrival = await store.accept(message("hi"), SESSION)
                await finish(store, await begin(store))
                async with open_store(engines.url(database), worker="next", lease=600.0) as successor:
                    assert await successor.bury(["brief"], expired=False) == ("brief",)
            _, body = await server.next("run.ended", besides=other)
    assert arrival is not None
    assert body["data"]["run"]["run"] == arrival.run


@pytest.mark.parametrize("told", [("turn.started", "turn.step", "reply", "run.ended"), ("turn.started", "run.ended")])
async def test_what_a_turn_does_in_another_worker_is_sent_in_order(
    tmp_path: Path, models: ModelServer, api: BotApi, told: tuple[str, ...]
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with WebhookServer(SECRET) as server:
        file = settings(tmp_path, api, models, server, lease=60.0, events=json.dumps(told))
        async with worker(file, "a") as one, worker(file, "b") as other:
            await held_by(tmp_path / "interject.db", one)
            await known(one.gateway.bus, other.gateway.bus)
            await known(other.gateway.bus, one.gateway.bus)
            link = urlsplit(other.link or "")
            headers = {"Authorization": f"Bearer {parse_qs(link.query)['token'][0]}"}
            async with httpx.AsyncClient(
                base_url=f"http://{link.netloc}", headers=headers, trust_env=False, timeout=60
            ) as client:
                for number in range(2):
                    body = {"client_id": f"message-{number}", "text": "hi"}
                    path = "/api/v1/conversations/web:local:me/messages"
                    sent = await client.post(path, json=body, params={"wait": 60})
                    assert sent.json()["result"]["state"] == "completed", sent.text
            await server.taken_at_least(2 * len(told))
    assert [body["type"] for _, body in server.taken] == [*told] * 2
