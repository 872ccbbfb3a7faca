"""While the gateway stops: new work is refused, and what runs is watched and stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.api.test_messages import send
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:one"


async def watch_the_end(client: httpx.AsyncClient, run: str) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
    """As soon as new work is refused: that refusal, and the answers to a stop and to a look at the run."""
    while True:
        refused = await client.patch(f"{HERE}/queue/1", json={"text": "changed"})
        if refused.status_code != 404:
            break
    look = asyncio.create_task(client.get(f"/runs/{run}", params={"wait": 60}))
    stopped = await client.post(f"{HERE}/stop")
    return refused, stopped, await look


async def test_a_stopping_gateway_refuses_new_work_and_lets_what_runs_be_watched_and_stopped(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.script(Say([Pause(), "Hello."]))
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace("shutdown_grace = 0", "shutdown_grace = 60"))
    async with gateway(settings) as built:
        assert built.link is not None
        link = urlsplit(built.link)
        headers = {"Authorization": f"Bearer {parse_qs(link.query)['token'][0]}"}
        client = httpx.AsyncClient(
            base_url=f"http://{link.netloc}/api/v1", headers=headers, trust_env=False, timeout=60
        )
        sent = await send(client, "hi", wait=0)
        await models.until_held()
        watching = asyncio.create_task(watch_the_end(client, sent["run"]))
        await asyncio.sleep(0)
    refused, stopped, end = await watching
    await client.aclose()
    assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
    assert int(refused.headers["retry-after"]) > 0
    assert (stopped.status_code, stopped.json()["turn"]) == (200, sent["run"])
    assert (end.status_code, end.json()["state"]) == (200, "stopped")
