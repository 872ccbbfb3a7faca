"""Scheduled tasks over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import control_api
from tests.api.test_keys import new_key
from tests.api.test_messages import send
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi

HERE = "/conversations/web:local:one"
NIGHTLY = {"client_id": "nightly-1", "task": "Check the build.", "cron": "30 6 * * *", "timezone": "Europe/Berlin"}


async def test_a_task_is_made_once_listed_and_cancelled(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        client = control.client
        made = await client.post(f"{HERE}/schedules", json=NIGHTLY)
        assert made.status_code == 201
        assert (await client.post(f"{HERE}/schedules", json=NIGHTLY)).json() == made.json()
        schedule = made.json()
        assert (schedule["conversation"], schedule["task"]) == ("web:local:one", "Check the build.")
        assert (schedule["cron"], schedule["timezone"]) == ("30 6 * * *", "Europe/Berlin")
        assert datetime.fromisoformat(schedule["due"]) - datetime.now(UTC) <= timedelta(hours=25)
        assert (await client.get("/schedules")).json() == {"schedules": [schedule]}
        await send(client, "hi")
        assert (await client.get(f"{HERE}/schedules")).json() == {"schedules": [schedule]}
        assert (await client.delete(f"{HERE}/schedules/{schedule['id']}")).json() == schedule
        gone = await client.delete(f"{HERE}/schedules/{schedule['id']}")
        assert (gone.status_code, gone.json()["code"]) == (404, "schedule_not_found")
        assert (await client.get("/schedules")).json() == {"schedules": []}


async def test_at_its_time_the_task_is_a_message_in_its_conversation(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(
        lambda request: Say("The build is green." if "Check the build." in request.last_user_text else "Hi.")
    )
    async with control_api(tmp_path, api, models) as control:
        soon = {"client_id": "soon-number-1", "task": "Check the build.", "in_minutes": 0.001}
        made = (await control.client.post(f"{HERE}/schedules", json=soon)).json()
        texts = await until_read(control.client, "The build is green.")
        assert (await control.client.get("/schedules")).json() == {"schedules": []}
        await send(control.client, "thanks", client_id="thanks-01")
        forked = (await control.client.post(f"{HERE}/fork", json={})).json()
        for conversation in (HERE, f"/conversations/{forked['id']}"):
            assert await who_asked(control.client, conversation) == {"Check the build.": made["id"], "thanks": None}
    assert "Check the build." in texts


async def who_asked(client: httpx.AsyncClient, conversation: str) -> dict[str, str | None]:
    """The scheduled task that each message is."""
    items = (await client.get(f"{conversation}/history")).json()["items"]
    return {item["text"]: item["schedule"] for item in items if item["kind"] == "message"}


async def until_read(client: httpx.AsyncClient, words: str) -> str:
    """The conversation's history, as soon as it has these words."""
    async with asyncio.timeout(60):
        while words not in (found := (await client.get(f"{HERE}/history")).text):  # noqa: ASYNC110 - a poll is the test
            await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cron": None}, "Say when with one of at, in_minutes and cron."),
        ({"at": "2026-12-24T09:00"}, "Say when with one of"),
        ({"cron": "* * * * *"}, "too often"),
        ({"cron": "nonsense"}, "no cron expression"),
        ({"timezone": "Nowhere"}, "no time zone"),
        ({"cron": None, "at": "yesterday"}, "no date and time"),
        ({"cron": None, "at": "2020-01-01T00:00Z"}, "not in the future"),
        ({"task": " "}, "The task is empty"),
        ({"task": "x" * 4001}, "4000"),
        ({"cron": None, "in_minutes": -1}, "in_minutes"),
        ({"client_id": "a b"}, "client_id"),
        ({"often": True}, "often"),
    ],
)
async def test_a_wrong_request_is_told(
    tmp_path: Path, models: ModelServer, api: BotApi, change: dict[str, Any], words: str
) -> None:
    body = {name: value for name, value in {**NIGHTLY, **change}.items() if value is not None}
    async with control_api(tmp_path, api, models) as control:
        refused = await control.client.post(f"{HERE}/schedules", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert words in refused.text


async def test_a_conversation_has_a_limit(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        for number in range(20):
            made = await control.client.post(f"{HERE}/schedules", json={**NIGHTLY, "client_id": f"nightly-{number}"})
            assert made.status_code == 201
        refused = await control.client.post(f"{HERE}/schedules", json={**NIGHTLY, "client_id": "one-more"})
        again = await control.client.post(f"{HERE}/schedules", json={**NIGHTLY, "client_id": "nightly-19"})
        assert again.json() == made.json()
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_schedules")


async def test_a_key_sees_and_changes_what_it_may(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control:
        made = (await control.client.post(f"{HERE}/schedules", json=NIGHTLY)).json()
        await send(control.client, "hi")
        _, elsewhere = await new_key(control, "chat", conversations=["web:local:two"])
        _, reads = await new_key(control, "read")
        _, agents = await new_key(control, "chat", agents=["main"])
        async with control.using(elsewhere) as client:
            assert (await client.get("/schedules")).json() == {"schedules": []}
            assert (await client.get(f"{HERE}/schedules")).status_code == 404
            assert (await client.delete(f"{HERE}/schedules/{made['id']}")).status_code == 404
            refused = await client.post(f"{HERE}/schedules", json={**NIGHTLY, "client_id": "another-one"})
            assert refused.status_code == 404
        async with control.using(reads) as client:
            assert (await client.get("/schedules")).json() == {"schedules": [made]}
            assert (await client.post(f"{HERE}/schedules", json=NIGHTLY)).json()["code"] == "scope_missing"
            assert (await client.delete(f"{HERE}/schedules/{made['id']}")).json()["code"] == "scope_missing"
        async with control.using(agents) as client:
            refused = await client.post(f"{HERE}/schedules", json={**NIGHTLY, "client_id": "another-one"})
            assert (refused.status_code, refused.json()["code"]) == (403, "key_limited")
            kept = await client.delete(f"{HERE}/schedules/{made['id']}")
            assert (kept.status_code, kept.json()["code"]) == (403, "key_limited")
        assert (await control.client.get("/schedules")).json() == {"schedules": [made]}


async def test_in_a_group_a_program_cancels_its_own_tasks_only_unless_it_operates(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hi."))
    async with control_api(tmp_path, api, models, access='allow = ["*"]\ngroups = "all"') as control:
        group = api.group()
        await group.say("hi")
        await group.hear("Hi.")
        here = f"/conversations/telegram:123456:{group.id}/schedules"
        _, writes = await new_key(control, "chat")
        _, operates = await new_key(control, "operate")
        theirs = (await control.client.post(here, json=NIGHTLY)).json()
        assert theirs["owner"]["name"] == "Operator"
        elsewhere = (await control.client.post(f"{HERE}/schedules", json=NIGHTLY)).json()
        assert (elsewhere["conversation"], elsewhere["owner"]["name"]) == ("web:local:one", "You")
        async with control.using(writes) as program:
            # Its own, also with the same client_id.
            own = (await program.post(here, json=NIGHTLY)).json()
            assert own["id"] != theirs["id"]
            refused = await program.delete(f"{here}/{theirs['id']}")
            assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
            assert (await program.delete(f"{here}/{own['id']}")).json() == own
        async with control.using(operates) as program:
            assert (await program.delete(f"{here}/{theirs['id']}")).json() == theirs
        wrong = await control.client.delete(f"{here}/{elsewhere['id']}")
        assert (wrong.status_code, wrong.json()["code"]) == (404, "schedule_not_found")
        assert (await control.client.get("/schedules")).json() == {"schedules": [elsewhere]}


async def test_in_a_direct_chat_a_program_cancels_the_tasks_of_its_person(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hi."))
    async with control_api(tmp_path, api, models) as control:
        ann = api.private()
        await ann.say("hi")
        await ann.hear("Hi.")
        here = f"/conversations/telegram:123456:{ann.id}/schedules"
        made = (await control.client.post(here, json=NIGHTLY)).json()
        _, writes = await new_key(control, "chat")
        async with control.using(writes) as program:
            assert (await program.delete(f"{here}/{made['id']}")).json() == made
