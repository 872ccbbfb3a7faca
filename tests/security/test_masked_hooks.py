"""A secret that a hook puts into a call, or says, reaches the tool and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from agent.agent import Agent
from agent.hook import Deny, HookContext, Ruling, Stop, ToolCall, ToolEnd
from agent.hooks.chain import HookChain, RegisteredHook
from agent.hooks.python import PythonHook
from agent.log import Call
from agent.masking import Mask
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from channels.memory import MemoryChannel, plain_text
from channels.reply import QuestionSegment
from gateway.outbound.export import export_bytes
from tests.gateway.play import Play, playing, until
from tests.gateway.test_audit import events, named, open_question

KEY = "the-key-of-the-shop-4711"
BODY = "x" * 2000
ORDER = Call("c1", "order", json.dumps({"what": "tea", "note": BODY}))

got: list[str] = []


@tool(effect="external", approval="always")
async def order(context: ToolContext, what: str, note: str, key: str = "") -> str:
    """Orders."""
    got.append(key)
    return f"ordered {what}"


async def with_key(context: HookContext, call: ToolCall) -> ToolCall:
    return replace(call, arguments={**call.arguments, "key": KEY})


async def denies(context: HookContext, call: ToolCall) -> Ruling:
    return Deny(f"no order with {KEY}")


async def stops(context: HookContext, call: ToolCall) -> Ruling:
    return Stop(f"no more orders with {KEY}")


@asynccontextmanager
async def shop(folder: Path, model: ScriptedModel, hook: object) -> AsyncIterator[tuple[Play, MemoryMedia]]:
    registered = RegisteredHook("shop", PythonHook({"before_tool": hook}), ("before_tool",))
    media = MemoryMedia()
    async with HookChain([registered]) as chain:
        agent = Agent(model, media, folder, (order,), hooks=chain, mask=Mask([KEY]))
        async with playing(folder, model, agent=lambda _: agent, media=media) as play:
            yield play, media


async def test_people_who_approve_a_call_do_not_see_the_secret_that_it_runs_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got.clear()
    async with shop(tmp_path, ScriptedModel([ORDER], "Done."), with_key) as (play, media):
        await play.say("order tea")
        question = await open_question(play)
        assert "key:\n```\n[secret]\n```" in question.question
        await play.say(f"/answer {question.key} 0")
        await play.reply("Done.")
        await play.until_idle()
        assert got == [KEY]
        (approved,) = named(events(tmp_path, capsys), "approved")
        assert json.loads(approved["arguments"])["key"] == "[secret]"
        exported = await play.store.exported("memory/me/chat", None)
        assert exported is not None
        with ZipFile(BytesIO(await export_bytes([exported], media.read))) as archive:
            texts = {name.rpartition("-")[2]: archive.read(name) for name in archive.namelist()}
    assert b"key:\n[secret]" in texts["call.txt"], "the file with all of the arguments"
    assert not [name for name, text in texts.items() if KEY.encode() in text]


@pytest.mark.parametrize("hook", [denies, stops])
async def test_what_a_hook_says_of_a_call_is_masked(tmp_path: Path, hook: object) -> None:
    async with shop(tmp_path, ScriptedModel([ORDER], "Not done."), hook) as (play, _):
        await play.say("order tea")
        await play.until_idle()
        logged = [entry for (entry,) in play.sql("SELECT entry FROM turn_log")]
        shown = [plain_text(reply) for reply in play.channel.replies.values()]
    assert any("with [secret]" in text for text in (*logged, *shown))
    assert not any(KEY in text for text in (*logged, *shown))


@tool(effect="external", on_steer="background")
async def ship(context: ToolContext, key: str = "") -> str:
    """Asks for the address, and takes its time."""
    asked = await context.ask_person(f"Where to? The key is {key}", (f"home, with {key}", "elsewhere"), "text")
    await asyncio.Event().wait()
    return asked.text


def open_questions(channel: MemoryChannel) -> list[QuestionSegment]:
    segments = (segment for reply in channel.replies.values() for segment in reply.segments)
    return [segment for segment in segments if isinstance(segment, QuestionSegment) and segment.open]


async def test_what_a_running_call_asks_and_its_title_in_the_background_are_masked(tmp_path: Path) -> None:
    model = ScriptedModel([Call("c1", "ship", "{}")], "It goes on.")
    registered = RegisteredHook("shop", PythonHook({"before_tool": with_key}), ("before_tool",))
    async with HookChain([registered]) as chain:
        agent = Agent(model, MemoryMedia(), tmp_path, (ship,), hooks=chain, mask=Mask([KEY]))
        async with playing(tmp_path, model, agent=lambda _: agent) as play:
            await play.say("ship it")
            question = await play.channel.until(open_questions)
            assert question[0].question == "Where to? The key is [secret]"
            assert question[0].options == ("home, with [secret]", "elsewhere")
            await play.say("home")
            await until(lambda: play.sql("SELECT 1 FROM inbox WHERE text = 'home' AND state = 'answered'"))
            await play.say("and hurry")
            await play.reply("It goes on.")
            titles = [title for (title,) in play.sql("SELECT title FROM work")]
    assert len(titles) == 1
    assert KEY not in titles[0], titles
    assert "[secret]" in titles[0], titles


async def test_what_a_hook_makes_of_a_result_is_masked(tmp_path: Path) -> None:
    async def tells(context: HookContext, end: ToolEnd) -> ToolEnd:
        return replace(end, text=f"ordered with {KEY}", for_user=f"Ordered with {KEY}.")

    registered = RegisteredHook("shop", PythonHook({"after_tool": tells}), ("after_tool",))
    model = ScriptedModel([ORDER], "Done.")
    async with HookChain([registered]) as chain:
        tools = (replace(order, approval="never"),)
        agent = Agent(model, MemoryMedia(), tmp_path, tools, hooks=chain, mask=Mask([KEY]))
        async with playing(tmp_path, model, agent=lambda _: agent) as play:
            await play.say("order tea")
            reply = await play.reply("Done.")
            logged = [entry for (entry,) in play.sql("SELECT entry FROM turn_log")]
    assert "Ordered with [secret]." in plain_text(reply)
    assert any("ordered with [secret]" in entry for entry in logged)
    assert not any(KEY in text for text in (*logged, plain_text(reply)))
