"""What an operator sees of several workers: by the commands, and in the logs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from gateway.lifecycle import supervision
from gateway.store.errors import StoreUnreachable
from tests.cluster.fleet import Fleet, fleet
from tests.engines import engines
from tests.servers.local import free_port
from tests.servers.proxies import PUBLIC, behind_caddy, behind_nginx, browser, make_certificate

pytestmark = pytest.mark.engines("postgresql")

Proxy = Callable[..., AbstractAsyncContextManager[None]]

SETTINGS = "[web]\nport = 0\n"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "interject.toml"
    file.write_text(SETTINGS)
    return file


async def call(workers: Fleet, name: str, command: str) -> Any:
    """What the command prints as JSON, a value a line, with the home folder of this worker."""
    home = workers.settings.parent / name
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", command, "--json", "--config", workers.settings),
        env={**os.environ, "INTERJECT_HOME": str(home), "INTERJECT_STORE__URL": workers.url},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return [json.loads(line) for line in printed.decode().splitlines()]


def published(workers: Fleet, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workers.settings.parent / name / "gateway.json").read_text())
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.05)


async def ready(workers: Fleet, name: str) -> None:
    """Returns when a load balancer would take it."""
    await until((workers.settings.parent / name / "gateway.json").exists)
    address = published(workers, name)["link"].partition("/?")[0]
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=address, trust_env=False) as client:
        while not (await client.get("/readyz")).is_success:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)


async def test_status_is_about_the_gateway_of_this_data_directory(settings: Path) -> None:
    names = ("one", "two")
    async with fleet(settings, *names) as workers:
        for name in names:
            await workers.alive(name)
            await until((settings.parent / name / "gateway.json").exists)
        for name in names:
            [status] = await call(workers, name, "status")
            there = published(workers, name)
            assert status["pid"] == workers.processes[name].running.pid == there["pid"]
            assert there["link"].startswith(status["address"])
            assert len(status["gateways"]) == 2
        await workers.kill("one")
        [status] = await call(workers, "one", "status")
        assert (status["pid"], status["address"]) == (workers.processes["two"].running.pid, None)
        # Its own gateway does not run: nobody is asked how its channels are, and its port is looked at.
        parts = {each["part"] for each in await call(workers, "one", "doctor")}
        assert not {part for part in parts if part.startswith("channel")}
        assert "port" in parts


async def test_two_workers_do_not_share_a_data_directory(settings: Path) -> None:
    async with fleet(settings, "one") as workers:
        await workers.alive("one")
        await ready(workers, "one")
        first = workers.processes["first"] = workers.processes["one"]
        before = published(workers, "one")
        await workers.start("one")
        assert await workers.processes["one"].running.wait() == 1
        log = await asyncio.to_thread((settings.parent / "one.log").read_text)
        assert f"{settings.parent / 'one'} is in use by process {first.running.pid}: stop that gateway" in log
        assert published(workers, "one") == before
        # With kill -9, too, the directory is free at once.
        await workers.kill("first")
        await workers.start("one")
        await workers.alive("one")


async def test_while_the_database_is_away_each_service_says_once_that_it_waits(settings: Path) -> None:
    log = settings.parent / "one.log"
    waits = "gateway.turns.revocation_stops.obey_stop_requests waits for the database: "
    async with fleet(settings, "one", apart=["one"]) as workers:
        await workers.alive("one")
        await ready(workers, "one")
        await workers.links["one"].cut()
        await until(lambda: waits in log.read_text())
        prolonged = "SELECT until FROM workers"
        before = engines.sql(workers.database, prolonged)
        await workers.links["one"].open()
        await until(lambda: engines.sql(workers.database, prolonged) > before)
        assert await workers.end("one") == 0
    assert log.read_text().count(waits) == 1
    assert "Traceback" not in log.read_text()


async def test_a_worker_that_does_not_find_the_files_of_the_others_says_so(settings: Path) -> None:
    """Without a setting, files are in the home folder of each worker."""
    async with fleet(settings, "one") as workers:
        await workers.alive("one")
        await ready(workers, "one")
        address, _, token = published(workers, "one")["link"].partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
            sent = await client.post(
                "/api/v1/conversations/web:local:a/messages",
                data={"client_id": uuid4().hex, "text": "read this"},
                files=[("files", ("notes.txt", b"as it was"))],
            )
            sent.raise_for_status()
            run = await client.get(f"/api/v1/runs/{sent.json()['run']}", params={"wait": 60, "until": "end"})
            assert run.json()["state"] == "completed"
        # Those of the last minute may still be on their way.
        engines.sql(workers.database, "UPDATE media SET created_at = created_at - 120")
        await workers.start("two")
        lacks = f"{settings.parent / 'two' / 'media'} lacks 1 of the 1 newest files of the database"
        await until(lambda: lacks in (settings.parent / "two.log").read_text())
        found = {name: await call(workers, name, "doctor") for name in ("one", "two")}
        said = {name: {each["part"]: each["level"] for each in parts} for name, parts in found.items()}
        assert said["one"]["media"] == "ok"
        assert said["two"]["shared media"] == "problem"


@pytest.mark.parametrize(
    ("proxy", "site"),
    [(behind_nginx, "nginx/several-workers.conf"), (behind_caddy, "caddy/several-workers.Caddyfile")],
    ids=["nginx", "caddy"],
)
async def test_behind_the_proxies_that_ship_no_request_fails_when_a_worker_ends(
    settings: Path, proxy: Proxy, site: str
) -> None:
    names, port = ("one", "two"), free_port()
    url, certificate = f"https://{PUBLIC}:{port}", make_certificate(settings.parent)
    await asyncio.to_thread(settings.write_text, f'{SETTINGS}url = "{url}"\n')
    async with fleet(settings, *names) as workers:
        for name in names:
            await ready(workers, name)
        links = [published(workers, name)["link"].partition("/?token=") for name in names]
        shipped = dict(zip((8321, 8322), (urlsplit(link).port or 0 for link, _, _ in links), strict=True))
        headers = {"Authorization": f"Bearer {links[0][2]}"}
        async with (
            proxy(settings.parent, port, shipped, certificate, site),
            browser(url, certificate, headers) as client,
        ):
            statuses = [(await client.get("/api/v1/conversations")).status_code for _ in range(8)]
            ending = asyncio.create_task(workers.end("one"))
            while not ending.done():
                statuses.append((await client.get("/api/v1/conversations")).status_code)
            statuses += [(await client.get("/api/v1/conversations")).status_code for _ in range(8)]
            assert set(statuses) == {200}
            assert (await client.get("/metrics")).status_code == 404
        assert await ending == 0


async def test_services_go_on_soon_after_the_database_is_back_and_after_rare_failures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "UNREACHABLE_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "MAX_PAUSE", 1e6)
    monkeypatch.setattr(supervision, "RESET_AFTER", 0.0)
    left: list[Exception] = [StoreUnreachable("away"), ZeroDivisionError("rare")] * 30

    async def service() -> None:
        await asyncio.sleep(0.002)
        if left:
            raise left.pop()

    await supervision.supervised(service)
    assert left == []
