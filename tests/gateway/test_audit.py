"""The audit log: what people, admins and the agent did, as `interject audit` prints it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.decisions.questions import ask_user
from agent.hook import HookContext, ToolCall
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.log import Call
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from channels.address import Sender
from channels.reply import QuestionSegment
from config.load import load
from gateway.assembly.build import build
from gateway.cli.main import main
from gateway.inbound.access import ChannelAccess
from tests.engines import engines
from tests.gateway.play import PLACE, Play, inbound, playing

BOB = Sender("8", "Bob")
EVE = Sender("9", "Eve \x1b[2J\u202e")
GROUP = replace(PLACE, chat="team", kind="group")
POLICIES = {"memory": ChannelAccess(frozenset({"7"}), admins=frozenset({"8"}), pair=True)}


@tool(effect="external")
async def send(context: ToolContext, to: str) -> str:
    """Sends."""
    return f"sent to {to}"


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


def calls(*named: tuple[str, dict[str, Any]]) -> list[Call]:
    return [Call("", name, json.dumps(arguments)) for name, arguments in named]


def printed(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    settings = folder / "interject.toml"
    settings.write_text(f'[store]\nurl = "{engines.url(folder / "test.db")}"\n')
    assert main(["audit", "--config", str(settings), *options]) == 0
    return capsys.readouterr().out.splitlines()


def events(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(folder, capsys, "--json")]


def named(found: Sequence[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [each for each in found if each["event"] == event]


async def open_question(play: Play, *answered: QuestionSegment) -> QuestionSegment:
    keys = {each.key for each in answered}

    def found(channel: Any) -> QuestionSegment | None:
        segments = (segment for reply in channel.replies.values() if reply.parked for segment in reply.segments)
        return next(
            (each for each in segments if isinstance(each, QuestionSegment) and each.open and each.key not in keys),
            None,
        )

    question = await play.channel.until(found)
    assert question is not None
    return question


async def test_calls_with_effects_are_in_it_with_their_arguments_and_reading_ones_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ScriptedModel(calls(("look", {}), ("send", {"to": "x@example.com"})), "Done.")
    async with playing(tmp_path, model, send, look) as play:
        await play.say("please send the words of the secret plan")
        await play.reply("Done.")
        await play.until_idle()
        [call] = events(tmp_path, capsys)
    assert (call["event"], call["tool"], call["effect"]) == ("tool_call", "send", "external")
    assert (call["actor"], call["name"]) == ("memory:7", "Ann")
    assert json.loads(call["arguments"]) == {"to": "x@example.com"}
    assert "secret plan" not in json.dumps(call)


async def test_it_has_what_ran_in_the_place_of_a_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def put_in_place(context: HookContext, call: ToolCall) -> ToolCall:
        return replace(call, tool="send", arguments={"to": "y@example.com"})

    hook = RegisteredHook("guard", PythonHook({"before_tool": put_in_place}), ("before_tool",))
    model = ScriptedModel(calls(("look", {})), "Done.")
    async with HookChain([hook]) as chain:
        agent = Agent(model, MemoryMedia(), tmp_path, (look, send), hooks=chain)
        async with playing(tmp_path, model, agent=lambda _: agent) as play:
            await play.say("go")
            await play.reply("Done.")
    (call,) = named(events(tmp_path, capsys), "tool_call")
    assert (call["tool"], call["effect"]) == ("send", "external")
    assert json.loads(call["arguments"]) == {"to": "y@example.com"}


async def test_it_says_who_decided_about_whose_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(calls(("send", {"to": "a"})), calls(("send", {"to": "b"})), "Done.")
    async with playing(tmp_path, model, replace(send, approval="always"), policies=POLICIES) as play:
        await play.deliver(inbound("go", address=GROUP))
        first = await open_question(play)
        await play.deliver(inbound(f"/answer {first.key} 0", address=GROUP, by=BOB))
        second = await open_question(play, first)
        await play.deliver(inbound(f"/answer {second.key} {len(second.options) - 1}", address=GROUP, by=BOB))
        await play.reply("Done.")
        found = events(tmp_path, capsys)
    [approved], [denied] = named(found, "approved"), named(found, "denied")
    assert (approved["actor"], approved["began_by"], approved["tool"]) == ("memory:8", "memory:7", "send")
    assert json.loads(approved["arguments"]) == {"to": "a"}
    assert json.loads(denied["arguments"]) == {"to": "b"}
    assert len(named(found, "tool_call")) == 1


async def test_it_says_who_stopped_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(calls(("ask_user", {"question": "Which?", "options": []})), "Never.")
    async with playing(tmp_path, model, ask_user, policies=POLICIES) as play:
        await play.deliver(inbound("go", address=GROUP))
        await play.asked("Which?")
        await play.deliver(inbound("/stop", address=GROUP, by=BOB))
        await play.until_idle()
        [stopped] = named(events(tmp_path, capsys), "stopped")
    assert (stopped["actor"], stopped["name"], stopped["began_by"]) == ("memory:8", "Bob", "memory:7")


async def test_it_says_who_was_refused_and_who_admitted_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with playing(tmp_path, ScriptedModel("Hi."), policies=POLICIES) as play:
        for number in range(5):
            await play.deliver(inbound(f"let me {number}", by=EVE))
        await play.reply("pairing code")
        [(code,)] = play.sql("SELECT code FROM pairs")
        await play.deliver(inbound(f"/pair {code}", by=BOB))
        await play.reply("Approved:")
        found = events(tmp_path, capsys)
        lines = printed(tmp_path, capsys)
    assert [(each["event"], each["actor"]) for each in found] == [("refused", "memory:9"), ("admitted", "memory:8")]
    assert found[1]["person"] == "memory:9"
    assert code not in json.dumps(found)
    assert not any(char in line for line in lines for char in "\x1b\u202e")


async def test_changed_settings_are_in_it_by_their_keys_without_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, settings = tmp_path / "home", tmp_path / "interject.toml"
    base = f'[store]\nurl = "{engines.url(tmp_path / "test.db")}"\n[web]\nport = 0\n'
    for key in ("sk-the-first-one", "sk-the-first-one", "sk-very-secret"):
        settings.write_text(f'{base}[models.openai]\napi_key = "{key}"\n')
        async with build(load(settings, {}, home)):
            pass
    found = named(events(tmp_path, capsys), "settings")
    assert [each["changed"] for each in found] == [[], ["models.openai.api_key"]]
    assert found[0]["hash"] != found[1]["hash"]
    assert "very-secret" not in json.dumps(found)


async def test_since_takes_ages_and_dates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with playing(tmp_path, ScriptedModel("Hi."), policies=POLICIES) as play:
        await play.say("let me in", by=EVE)
        await play.reply("pairing code")
        play.sql("UPDATE audit SET at = at - 3 * 86400")
        assert len(printed(tmp_path, capsys, "--since", "4d")) == 1
        assert printed(tmp_path, capsys, "--since", "2d") == []
        assert len(printed(tmp_path, capsys, "--since", "2020-01-01")) == 1
    assert main(["audit", "--config", str(tmp_path / "interject.toml"), "--since", "soon"]) == 2
    assert "expected an age" in capsys.readouterr().err
