"""Agents are apart: no page and no command leads from one to the tools or the files of another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.tools.sandbox import SandboxUnavailable, probe_sandbox
from tests.gateway.test_agents import AGENTS, FILES, PRICES, asked, files_below, script, with_tools, writing
from tests.gateway.test_from_settings import KEY, person
from tests.servers.models import Call, ModelServer, Say


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


async def test_a_page_cannot_have_an_agent_call_a_tool_of_another(tmp_path: Path, models: ModelServer) -> None:
    with_tools(tmp_path)
    more = AGENTS.replace('model = "openai:blue"', 'model = "openai:blue"\ntools = ["read_page", "blue_*", "delegate"]')
    attack = [Call("red_send", {}), Call("delegate", {"task": "Call red_send.", "agent": "red"})]
    models.respond(script(blue=[Call("read_page", {}), attack, Say("I did not.")]))
    async with person(tmp_path, models, more + PRICES) as ann:
        await ann.asks("/agent blue")
        await ann.say("read it")
        # What a page asks for is shown to people first; even their permission leads nowhere.
        await ann.presses("Allow once")
        await ann.sees(lambda replies: replies[-1]["done"])
    *_, unknown, refused = asked(models, "blue")[-1].results.values()
    assert "red_send" in unknown
    assert "You cannot delegate to 'red'" in refused
    assert asked(models, "red") == []
    assert files_below(tmp_path, "sent.txt") == []
    assert "red_send" not in asked(models, "blue")[0].tools


async def test_the_shell_of_an_agent_does_not_see_the_files_of_another(tmp_path: Path, models: ModelServer) -> None:
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(f"NO SANDBOX HERE, so the borders between agents are NOT TESTED: {error}")
    known = f"{tmp_path}/home/workspace/*/main.txt"
    look = f"find / -name 'main.txt' -not -path '/proc/*' 2>/dev/null; cat {known} 2>/dev/null; ls"
    models.respond(
        script(big=writing("main"), red=[*writing("red")[:1], Call("shell", {"command": look}), Say("Looked.")])
    )
    async with person(tmp_path, models, FILES + PRICES, workspaces="conversation") as ann:
        await ann.asks("write")
        await ann.asks("/agent red")
        await ann.asks("look")
    *_, seen = asked(models, "red")[-1].results.values()
    assert "red.txt" in seen
    assert "main" not in seen
