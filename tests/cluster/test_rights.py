"""What a person may do was often told to one worker only; the others take nothing back for that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.inbound import role_changes
from tests.cluster.sites import Site, two_sites
from tests.gateway.stage import write_settings
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi

pytestmark = pytest.mark.engines("postgresql")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> asyncio.Semaphore:
    """Rights are looked at all the time; it counts the looks of all workers, each when it has ended."""
    ended = asyncio.Semaphore(0)
    check = role_changes.RoleChanges.check

    async def counted(changes: role_changes.RoleChanges) -> None:
        await check(changes)
        ended.release()

    monkeypatch.setattr(role_changes.RoleChanges, "check", counted)
    monkeypatch.setattr(role_changes, "INTERVAL", 0.02)
    return ended


async def looked(looks: asyncio.Semaphore) -> None:
    """Returns when both have looked since: of a few looks in a row, the last ones began after it was called."""
    while not looks.locked():
        await looks.acquire()
    for _ in range(8):
        await looks.acquire()


async def test_a_person_whose_name_one_worker_has_resolved_goes_on(
    tmp_path: Path, api: BotApi, models: ModelServer, looks: asyncio.Semaphore
) -> None:
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace('allow = ["*"]', 'allow = ["@ann"]'))
    models.script(Say(["It is ", Pause(), "blue."]))
    async with asyncio.timeout(60), two_sites(settings):
        ann = api.private(7, "Ann", username="ann")
        await ann.say("which colour?")
        await models.until_held()
        await looked(looks)
        models.release()
        await ann.hear("It is blue.")


async def test_a_program_whose_key_one_worker_has_made_goes_on(
    tmp_path: Path, api: BotApi, models: ModelServer, looks: asyncio.Semaphore
) -> None:
    settings = write_settings(tmp_path, api, models)
    models.script(Say("Hello."), Say(["It is ", Pause(), "blue."]))
    async with asyncio.timeout(60), two_sites(settings) as (one, _):
        ann = api.private(7, "Ann")
        await ann.say("hello")
        await ann.hear("Hello.")
        place = await _place(one)
        async with one.client(one.token) as owner:
            made = await owner.post("/api/v1/keys", json={"name": "ci", "scope": "chat"})
        async with one.client(made.json()["secret"]) as program:
            asked = {"client_id": "which-colour", "text": "which colour?"}
            sent = await program.post(f"/api/v1/conversations/{place}/messages", json=asked)
            await models.until_held()
            await looked(looks)
            models.release()
            run = await program.get(f"/api/v1/runs/{sent.json()['run']}", params={"wait": 60, "until": "end"})
        assert (run.json()["state"], run.json()["text"]) == ("completed", "It is blue.")


async def _place(site: Site) -> str:
    async with site.client(site.token) as owner:
        found = await owner.get("/api/v1/conversations", params={"channel": "telegram"})
    (conversation,) = found.json()["conversations"]
    return str(conversation["id"])
