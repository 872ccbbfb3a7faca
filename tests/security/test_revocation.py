"""Access that is revoked ends everything that the person has running, parked and in the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.decisions.questions import ask_user
from agent.log import Call
from agent.model import Request
from agent.models.scripted import Script, ScriptedModel
from agent.tool import Tool, ToolContext, tool
from agent.tools import load_tools
from agent.transcript import Results
from channels.address import Sender
from gateway.cli.main import main
from gateway.inbound.access import ChannelAccess
from tests.engines import engines
from tests.gateway.play import ANN, Play, playing, until

EVE = Sender("66", "Eve", "eve")
POLICIES = {"memory": ChannelAccess(frozenset(), pair=True, admins=frozenset({"7"}))}


async def pair(play: Play) -> None:
    await play.say("hello?", by=EVE)
    await until(lambda: play.sql("SELECT count(*) FROM pairs") == [(1,)])
    [(code,)] = play.sql("SELECT code FROM pairs")
    await play.say(f"/pair {code}", by=ANN)
    await play.reply("Your access was approved.")


async def revoke(play: Play, how: str) -> None:
    if how == "command":
        await play.say("/access revoke 66", by=ANN)
        await play.reply("Revoked: Eve")
        return
    file = play.database.parent / "interject.toml"
    await asyncio.to_thread(file.write_text, f'[store]\nurl = "{engines.url(file.parent / "test.db")}"\n')
    assert await asyncio.to_thread(main, ["access", "revoke", "memory", "66", "--config", str(file)]) == 0


def endless(started: asyncio.Event, cancelled: asyncio.Event) -> Tool:
    @tool(effect="external", on_steer="background")
    async def work(context: ToolContext) -> str:
        """Works for ever."""
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
            return "done"
        except asyncio.CancelledError:
            cancelled.set()
            raise

    return work


def answering(request: Request) -> Script:
    """A task does not end; the turn that delegated it does."""
    delegated = any(isinstance(each, Results) for each in request.transcript)
    return "It runs." if delegated else ["Well, ", asyncio.Event()]


def all_ended(play: Play) -> Callable[[], bool]:
    """Whether no turn and no background work runs."""
    return lambda: (
        play.sql("SELECT count(*) FROM turns WHERE state = 'running'") == [(0,)]
        and play.sql("SELECT count(*) FROM work WHERE state = 'running'") == [(0,)]
    )


@pytest.mark.parametrize("how", ["command", "command line"])
async def test_a_call_in_the_background_is_cancelled(tmp_path: Path, how: str) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()
    model = ScriptedModel([Call("", "work", "{}")], "It goes on.")
    async with playing(tmp_path, model, endless(started, cancelled), policies=POLICIES) as play:
        await pair(play)
        await play.say("go", by=EVE)
        await started.wait()
        await play.say("and then?", by=EVE)
        await play.reply("It goes on.")
        await play.until_idle()
        await revoke(play, how)
        await cancelled.wait()
        await until(all_ended(play))
        assert play.sql("SELECT state, shown FROM work") == [("stopped", "access was revoked")]


@pytest.mark.parametrize("how", ["command", "command line"])
async def test_a_delegated_task_in_the_background_is_stopped(tmp_path: Path, how: str) -> None:
    task = Call("", "delegate", json.dumps({"task": "think", "background": True}))
    model = ScriptedModel([task], *[answering] * 2)
    async with playing(tmp_path, model, *load_tools(["delegate"]), policies=POLICIES) as play:
        await pair(play)
        await play.say("go", by=EVE)
        await play.reply("It runs.")
        await until(lambda: len(model.requests) == 3)
        await revoke(play, how)
        await until(all_ended(play))
        await play.until_idle()


@pytest.mark.parametrize("how", ["command", "command line"])
async def test_a_turn_that_waits_for_an_answer_ends(tmp_path: Path, how: str) -> None:
    asks = [Call("", "ask_user", json.dumps({"question": "Which one?", "options": []}))]
    async with playing(tmp_path, ScriptedModel(asks), ask_user, policies=POLICIES) as play:
        await pair(play)
        await play.say("go", by=EVE)
        await play.asked("Which one?")
        await until(lambda: play.sql("SELECT parked FROM turns WHERE kind = 'turn'") == [(1,)])
        await play.until_idle()
        await revoke(play, how)
        await until(all_ended(play))
        assert play.sql("SELECT state, reason FROM turns WHERE kind = 'turn'") == [("stopped", "access was revoked")]
