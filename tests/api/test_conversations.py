"""Conversations of every channel, over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests.api.conftest import control_api
from tests.servers.models import ModelServer, Say
from tests.servers.telegram import BotApi


async def test_conversations_of_every_channel_are_listed_newest_first(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    models.respond(lambda _: Say("Hello."))
    async with control_api(tmp_path, api, models) as control:
        for number, name in ((7, "Ann"), (8, "Bob")):
            chat = api.private(number, name)
            await chat.say(f"I am {name}")
            await chat.hear("Hello.")
        answer = await control.client.get("/conversations")
    assert answer.status_code == 200
    listed = answer.json()["conversations"]
    assert [(each["channel"], each["title"]) for each in listed] == [("telegram", "I am Bob"), ("telegram", "I am Ann")]


async def test_without_a_valid_key_nothing_is_told(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    async with control_api(tmp_path, api, models) as control, control.using("wrong") as stranger:
        answer = await stranger.get("/conversations")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "key_missing"
