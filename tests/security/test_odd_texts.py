"""Texts and numbers from tools, hooks, messages and models that cannot be stored: the turn ends, and is read again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.events import OnDelta, TextDelta
from agent.hook import (
    Ask,
    Deny,
    End,
    HookContext,
    Respond,
    Stop,
    Subject,
)
from agent.hooks.chain import HookChain, RegisteredHook
from agent.log import Call, ModelAnswered, Text, Thinking, Usage
from agent.media import Attachment
from agent.model import Answer, ModelError, Request
from agent.models.provider import ModelOptions, Provider
from agent.models.providers import ProviderModel
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from channels.message import DeclaredTool
from tests.gateway.play import Play, inbound, playing
from tests.servers.models import ModelServer, Say

ODD = "half \ud83d and nul \0"
SHOWN = "half � and nul �"


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """Tests that run side by side report what is logged in UTF-8."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@tool(effect="read")
async def look(context: ToolContext, at: str) -> ToolResult:
    """Looks at what is odd."""
    await context.progress(ODD)
    match at:
        case "error":
            raise ToolError(ODD)
        case "crash":
            raise RuntimeError(ODD)
        case "number":
            number: Any = 5
            return ToolResult(number, for_user=number)
        case "file":
            return ToolResult("drawn", (await context.media.put(b"text", ODD),), caption=ODD)
        case "false file":
            size: Any = 10.5
            return ToolResult("drawn", (Attachment("0" * 64, ODD, "text/plain", size),))
        case _:
            return ToolResult(ODD, for_user=ODD)


async def entries(play: Play) -> list[Any]:
    found = play.sql("SELECT id FROM turns ORDER BY number")
    return [entry for (id,) in found for entry in (await play.store.turn(id)).entries]


async def assert_all_is_well(play: Play) -> None:
    """Every turn has ended, what is shown can be sent, the next message works, and all logs are read."""
    await play.until_idle()
    "".join(play.shown()).encode()
    await play.say("and now?")
    await play.reply("You said: and now?")
    await play.until_idle()
    states = [state for (state,) in play.sql("SELECT state FROM turns")]
    assert set(states) <= {"completed", "failed", "stopped"}
    assert len(await entries(play)) == play.sql("SELECT count(*) FROM turn_log")[0][0]


@pytest.mark.parametrize("at", ["text", "error", "crash", "number", "file", "false file"])
async def test_results_of_tools(tmp_path: Path, at: str) -> None:
    model = ScriptedModel([Call("c", "look", f'{{"at": "{at}"}}')], "Seen.")
    async with playing(tmp_path, model, look) as play:
        await play.say("look")
        await play.reply("Seen.")
        await assert_all_is_well(play)


CHANGES: dict[str, Any] = {
    "before_model": lambda subject: replace(subject, instructions=ODD, notices=(ODD,)),
    "after_model": lambda subject: replace(subject, text=f"{ODD} It is said."),
    "before_tool": lambda subject: replace(subject, arguments={"at": ODD, ODD: float("nan")}),
    "after_tool": lambda subject: replace(subject, text=ODD, for_user=ODD),
    "before_reply": lambda subject: replace(subject, text=f"{subject.text} {ODD}"),
    "on_message": lambda subject: replace(subject, text=f"look {ODD}", note=ODD),
}
RULINGS = [Respond(ODD), Ask(ODD), Deny(ODD), End(ODD), Stop(ODD)]


class Hook:
    """Changes or rules what it is asked about, until it is switched off."""

    def __init__(self, decides: Any) -> None:
        self.decides = decides

    async def __aenter__(self) -> Hook:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def ask(self, point: str, context: HookContext, subject: Subject) -> object:
        return None if self.decides is None else self.decides(subject)


@pytest.mark.parametrize("point", CHANGES)
async def test_changes_by_hooks(tmp_path: Path, point: Any) -> None:
    hook = Hook(CHANGES[point])
    chain = HookChain([RegisteredHook("odd", hook, (point,), timeout=60.0)])
    model = ScriptedModel(["Wait.", Call("c", "look", '{"at": "text"}')], "Seen.")
    agent = Agent(model, MemoryMedia(), tmp_path, (look,), hooks=chain)
    more = {"hooks": chain} if point == "on_message" else {}
    async with playing(tmp_path, model, agent=lambda _: agent, **more) as play:
        await play.say("look")
        await play.channel.until(lambda channel: any(reply.done for reply in channel.replies.values()))
        for request in model.requests:
            request.instructions.encode()
        hook.decides = None
        await assert_all_is_well(play)


@pytest.mark.parametrize("ruling", RULINGS, ids=lambda ruling: type(ruling).__name__)
@pytest.mark.parametrize("point", ["before_model", "before_tool", "approve_tool", "after_tool", "before_reply"])
async def test_rulings_of_hooks(tmp_path: Path, point: Any, ruling: Any) -> None:
    hook = Hook(lambda subject: ruling)
    chain = HookChain([RegisteredHook("odd", hook, (point,), timeout=60.0)])
    model = ScriptedModel(["Wait.", Call("c", "look", '{"at": "text"}')])
    agent = Agent(model, MemoryMedia(), tmp_path, (look,), hooks=chain)
    async with playing(tmp_path, model, agent=lambda _: agent) as play:
        await play.say("look")
        await play.channel.until(lambda channel: any(reply.done or reply.parked for reply in channel.replies.values()))
        hook.decides = None
        await assert_all_is_well(play)


async def test_messages_and_the_tools_that_they_declare(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {ODD: {"description": ODD, "maximum": float("inf"), "x": 10**400}}}
    async with ModelServer() as models:
        models.script(Say("Heard."), Say("You said: and now?"))
        model = ProviderModel(
            Provider("openai", "openai", models.openai_url, keys=("k",)), ModelOptions("test"), MemoryMedia()
        )
        async with playing(tmp_path, model) as play:
            declared = (DeclaredTool("pick", ODD, schema),)
            await play.deliver(
                replace(inbound(ODD), tools=declared, note=ODD, sender=replace(inbound().sender, name=ODD))
            )
            await play.reply("Heard.")
            await assert_all_is_well(play)
        await model.aclose()
        assert SHOWN in models.requests[0].last_user_text


class OddModel:
    """A model that somebody has written, of which no type checker knows."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        answer, self._answer = self._answer, None
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            answer = Answer((Text("You said: and now?"),))
        else:
            for piece in ("a pair \ud83d", "\ude00", ODD):
                await on_delta(TextDelta(piece))
        return answer  # type: ignore[no-any-return]


odd: Any = 10.5
ANSWERS: list[Any] = [
    Answer((Text(f"a pair \ud83d\ude00{ODD}"),), Usage(odd, -1, odd, 10**30, cost=float("nan")), model=odd),
    Answer((Thinking(ODD, ODD, odd, odd), Text(odd)), Usage(10, 5, cost=float("inf"))),
    Answer((Call(odd, odd, odd), Call(ODD, ODD, ODD), Call("c", "look", '{"at": "\\ud83d"}')), finish="calls"),
    ModelError("bad_request", ODD),
    ModelError("server", ODD),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=["texts", "numbers", "calls", "refusal", "trouble"])
async def test_answers_of_models_of_ones_own(tmp_path: Path, answer: Any) -> None:
    async with playing(tmp_path, OddModel(answer), look) as play:
        await play.say("hi")
        await play.channel.until(lambda channel: any(reply.done for reply in channel.replies.values()))
        if isinstance(answer, Answer) and answer.finish == "calls":
            assert any(isinstance(entry, ModelAnswered) and entry.calls for entry in await entries(play))
        await assert_all_is_well(play)
