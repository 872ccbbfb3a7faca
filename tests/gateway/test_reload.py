"""Reload: a running gateway takes over edited settings, all of them or nothing, and what runs goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.stage import gateway
from tests.gateway.test_agents import telegram
from tests.servers.models import ModelServer, Request, Say
from tests.servers.telegram import BotApi, Chat

ACCESS = 'allow = ["7", "8"]\nadmins = ["1"]'
UNCHANGED = "Not reloaded, everything stays as it was"


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key="k") as server:
        server.respond(who_answers)
        yield server


def who_answers(request: Request) -> Say:
    """The model that was asked, and the first line of its instructions."""
    return Say(f"{request.model}: {request.system.splitlines()[0]}")


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


async def reload(api: BotApi, words: str) -> str:
    root = api.private(1, "Root")
    await root.say("/reload")
    return (await root.hear(words)).words


async def ask(chat: Chat, words: str, text: str = "hi") -> str:
    await chat.say(text)
    return (await chat.hear(words)).words


async def test_a_reload_changes_model_instructions_and_who_may_write(
    tmp_path: Path, models: ModelServer, api: BotApi
) -> None:
    file = telegram(tmp_path, models, api, access=ACCESS)
    edit(file, "[agent]\n", '[agent]\ninstructions = "Be brief."\n')
    ann, eve = api.private(7, "Ann"), api.private(66, "Eve")
    async with gateway(file):
        await ask(ann, "main: Be brief.")
        await ask(eve, "You are not on the allowlist")
        edit(file, 'model = "openai:main"', 'model = "openai:other"')
        edit(file, "Be brief.", "Be kind.")
        edit(file, 'allow = ["7", "8"]', 'allow = ["66"]')
        told = await reload(api, "Settings changed")
        assert "[agent] model" in told
        assert "[channels.telegram] allow" in told
        await ask(eve, "other: Be kind.")
        await ask(ann, "You are not on the allowlist")
