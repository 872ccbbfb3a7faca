"""Tools that are run outside: calls that are begun and left open, in the turn loop alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.decisions.external_tools import (
    SUPERSEDED,
    TIMED_OUT,
    available_tools,
    check_results,
    endings_without_result,
    pending,
    results_deadline,
)
from agent.decisions.questions import ask_user
from agent.hook import Ask, Deny, HookContext, Hooks, NoHooks, Point, Respond, Ruled, Ruling, ToolCall
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    DeclaredTool,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Resumed,
    UserMessage,
    dump,
    load,
)
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.model import ToolSpec
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, tool
from agent.transcript import NEVER_STARTED, RUNS_EXTERNALLY, Results, transcript

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = DeclaredTool("weather", "Looks out of the window.", SCHEMA)
CLOCK = DeclaredTool("clock", "Tells the time.", {"type": "object"})
HEARD = MessagesRead(1, (UserMessage(1, "Ann", "go", tools=(WEATHER, CLOCK)),))
OSLO = Call("a", "weather", '{"city": "Oslo"}')
NOW = Call("b", "clock", "")
LATER = 4e9
PENDING = (
    HEARD,
    ModelAnswered(1, (OSLO, NOW)),
    CallStarted("a", LATER, OSLO.arguments),
    CallStarted("b", LATER + 1, "{}"),
)


@tool(effect="write")
async def clock(context: ToolContext) -> str:
    """Our own."""
    return "noon"


class Says(NoHooks):
    """Hooks that say the same of each call of a tool, and change its arguments first."""

    def __init__(
        self, point: Point, name: str, ruling: Ruling | None, changed: Mapping[str, Any] | None = None
    ) -> None:
        self._point = point
        self._name = name
        self._ruling = ruling
        self._changed = changed

    def active(self, point: Point) -> bool:
        return point == self._point

    async def ask(self, point: Point, context: HookContext, subject: Any) -> tuple[Any, Ruled | None]:
        if not isinstance(subject, ToolCall) or subject.tool != self._name:
            return subject, None
        if self._changed is not None:
            subject = ToolCall(subject.call_id, subject.tool, self._changed, subject.effect)
        return subject, None if self._ruling is None else Ruled(self._ruling, "guard")


class Stage:
    """A turn of one message that declares the weather and the clock; the turn may be begun again where it was left."""

    def __init__(
        self, model: ScriptedModel, *tools: Tool, hooks: Hooks | None = None, entries: Sequence[Entry] = (HEARD,)
    ) -> None:
        self.journal = MemoryJournal()
        self.journal.entries.extend(entries)
        self.agent = Agent(model, MemoryMedia(), Path("."), tools, hooks=hooks or NoHooks(), approval_timeout=100.0)

    async def play(self) -> Ended | None:
        async def emit(event: object) -> None:
            return None

        turn = Turn(self.agent, self.journal, emit, id="turn", entries=self.journal.entries)
        async with asyncio.timeout(60):
            return await turn.run()

    @property
    def entries(self) -> list[Entry]:
        return self.journal.entries

    def results(self) -> dict[str, tuple[str, str]]:
        names = {c.id: c.name for e in self.entries if isinstance(e, ModelAnswered) for c in e.calls}
        return {names[e.call_id]: (e.outcome, e.text) for e in self.entries if isinstance(e, CallEnded)}


def calls(*names: str) -> list[Call]:
    return [Call("", name, "{}") for name in names]


# In the loop


async def test_declared_tools_are_offered_behind_our_own() -> None:
    model = ScriptedModel("Hello.")
    await Stage(model, ask_user).play()
    weather = ToolSpec("weather", "Looks out of the window.", SCHEMA)
    assert model.requests[0].tools == (ask_user.spec, weather, ToolSpec("clock", "Tells the time.", {"type": "object"}))


async def test_a_call_of_one_parks_the_turn_until_there_is_a_result() -> None:
    model = ScriptedModel(calls("weather"), "Cold.")
    stage = Stage(model)
    before = time.time()
    assert await stage.play() is None
    (call,) = pending(stage.entries)
    assert (call.name, call.arguments) == ("weather", "{}")
    until = results_deadline(stage.entries)
    assert until is not None
    assert until >= before + 100
    stage.entries.append(CallEnded(call.id, "done", "It snows."))
    assert await stage.play() == Ended("completed")
    (results,) = [each for each in model.requests[1].transcript if isinstance(each, Results)]
    assert [result.text for result in results.results] == ["It snows."]


async def test_calls_of_our_own_tools_are_made_first() -> None:
    @tool(effect="write")
    async def paint(context: ToolContext) -> str:
        """Paints."""
        return "red"

    stage = Stage(ScriptedModel(calls("weather", "paint", "clock")), paint)
    assert await stage.play() is None
    assert stage.results() == {"paint": ("done", "red")}
    assert [call.name for call in pending(stage.entries)] == ["weather", "clock"]


async def test_our_own_tool_wins_over_a_declared_one() -> None:
    model = ScriptedModel(calls("clock"), "Noon.")
    stage = Stage(model, clock)
    assert await stage.play() == Ended("completed")
    assert [tool.name for tool in model.requests[0].tools] == ["clock", "weather"]
    assert stage.results() == {"clock": ("done", "noon")}


async def test_arguments_that_are_no_object_fail_at_once() -> None:
    model = ScriptedModel([Call("", "weather", "[1]"), Call("", "clock", "{")], "Sorry.")
    stage = Stage(model)
    assert await stage.play() == Ended("completed")
    assert {name: outcome for name, (outcome, _) in stage.results().items()} == {"weather": "failed", "clock": "failed"}


async def test_words_that_come_instead_of_results_cancel_the_calls() -> None:
    model = ScriptedModel(calls("weather", "clock"), "Fine.")
    stage = Stage(model)
    assert await stage.play() is None
    stage.journal.say("never mind")
    assert await stage.play() == Ended("completed")
    assert stage.results() == {"weather": ("cancelled", SUPERSEDED), "clock": ("cancelled", SUPERSEDED)}


async def test_words_that_come_before_the_calls_are_begun_skip_them() -> None:
    @tool(effect="write")
    async def paint(context: ToolContext) -> str:
        """Paints."""
        stage.journal.say("wait")
        return "red"

    stage = Stage(ScriptedModel(calls("weather", "paint"), "Fine."), paint)
    assert await stage.play() == Ended("completed")
    assert {name: outcome for name, (outcome, _) in stage.results().items()} == {"paint": "done", "weather": "skipped"}


async def test_a_question_to_people_comes_before_calls_that_are_run_outside() -> None:
    question = Call("", "ask_user", '{"question": "Where?"}')
    stage = Stage(ScriptedModel([*calls("weather"), question], "Fine."), ask_user)
    assert await stage.play() is None
    assert pending(stage.entries) == ()
    stage.journal.say("in Oslo")
    assert await stage.play() == Ended("completed")
    assert stage.results()["weather"] == ("skipped", NEVER_STARTED)


async def test_a_turn_that_a_restart_left_between_the_call_and_its_parking_is_parked() -> None:
    stage = Stage(ScriptedModel(), entries=(*PENDING, Resumed()))
    assert await stage.play() is None
    assert [call.id for call in pending(stage.entries)] == ["a", "b"]


async def test_a_stop_cancels_what_is_pending() -> None:
    stage = Stage(ScriptedModel(), entries=PENDING)

    async def emit(event: object) -> None:
        return None

    turn = Turn(stage.agent, stage.journal, emit, id="turn", entries=stage.entries)
    turn.stop("you asked to stop")
    async with asyncio.timeout(60):
        assert await turn.run() == Ended("stopped", "you asked to stop")
    assert {outcome for outcome, _ in stage.results().values()} == {"cancelled"}


# With hooks


async def test_a_hook_may_deny_a_call_and_the_others_are_begun() -> None:
    hooks = Says("approve_tool", "weather", Deny("not in winter"))
    stage = Stage(ScriptedModel(calls("weather", "clock")), hooks=hooks)
    assert await stage.play() is None
    assert [call.name for call in pending(stage.entries)] == ["clock"]
    assert stage.results()["weather"][0] == "denied"


async def test_a_hook_may_give_the_result_itself() -> None:
    stage = Stage(ScriptedModel(calls("weather"), "Sun."), hooks=Says("before_tool", "weather", Respond("sun")))
    assert await stage.play() == Ended("completed")
    assert stage.results() == {"weather": ("done", "sun")}


async def test_a_hook_may_change_the_arguments_that_a_call_is_handed_out_with() -> None:
    stage = Stage(ScriptedModel(calls("weather")), hooks=Says("before_tool", "weather", None, {"city": "Bergen"}))
    assert await stage.play() is None
    (call,) = pending(stage.entries)
    assert call.arguments == '{"city": "Bergen"}'


@tool(effect="write")
async def bell(context: ToolContext) -> str:
    """Our own, of another name."""
    return "ding"


class PutsInPlace(NoHooks):
    """A hook that puts a call of one tool in the place of each call of another."""

    def __init__(self, called: str, run: str) -> None:
        self._called = called
        self._run = run

    def active(self, point: Point) -> bool:
        return point == "before_tool"

    async def ask(self, point: Point, context: HookContext, subject: Any) -> tuple[Any, Ruled | None]:
        return (replace(subject, tool=self._run) if subject.tool == self._called else subject), None


async def test_a_hook_may_have_one_of_our_own_tools_run_in_place_of_an_external_one() -> None:
    stage = Stage(ScriptedModel(calls("weather", "clock")), bell, hooks=PutsInPlace("weather", "bell"))
    assert await stage.play() is None
    assert [call.name for call in pending(stage.entries)] == ["clock"]
    assert stage.results() == {"weather": ("done", "[A hook had bell run in place of weather.]\nding")}


@pytest.mark.parametrize("other", ["weather", "ask_user", "dig"])
async def test_a_hook_cannot_ask_programs_and_people_in_place_of_a_call(other: str) -> None:
    stage = Stage(ScriptedModel(calls("bell"), "No."), bell, ask_user, hooks=PutsInPlace("bell", other))
    assert await stage.play() == Ended("completed")
    ((outcome, text),) = stage.results().values()
    assert outcome == "denied"
    assert f"the tool {other}, which it cannot call here. It can call: bell. Nothing was run." in text


async def test_a_call_that_people_have_to_approve_is_begun_with_the_others_once_they_have() -> None:
    stage = Stage(ScriptedModel(calls("clock", "weather")), hooks=Says("approve_tool", "weather", Ask("who knows")))
    assert await stage.play() is None
    assert pending(stage.entries) == ()
    (asked,) = [entry for entry in stage.entries if isinstance(entry, ApprovalRequested)]
    stage.entries.append(ApprovalDecided(asked.id, "allowed", "Ann"))
    assert await stage.play() is None
    assert [call.name for call in pending(stage.entries)] == ["clock", "weather"]


# From the log


def test_the_log_keeps_what_was_declared_and_what_is_pending() -> None:
    assert load(map(dump, PENDING)) == PENDING


def test_of_several_declarations_of_one_name_the_newest_holds() -> None:
    newer = DeclaredTool("clock", "Tells it better.", {"type": "object"})
    tools = available_tools((), (HEARD, MessagesRead(2, (UserMessage(2, "Ann", "again", tools=(newer,)),))))
    assert {tool.name: tool.description for tool in tools} == {
        "weather": WEATHER.description,
        "clock": newer.description,
    }


def test_pending_calls_have_the_arguments_that_they_were_begun_with() -> None:
    assert pending(PENDING) == (OSLO, Call("b", "clock", "{}"))
    assert pending((*PENDING, CallEnded("a", "done", "snow"))) == (Call("b", "clock", "{}"),)
    assert results_deadline(PENDING) == LATER
    assert results_deadline((*PENDING, CallEnded("a", "done", "snow"))) == LATER + 1


def test_a_call_of_our_own_that_runs_is_not_pending() -> None:
    assert pending((HEARD, ModelAnswered(1, (OSLO,)), CallStarted("a"))) == ()
    assert results_deadline((HEARD, ModelAnswered(1, (OSLO,)), CallStarted("a"))) is None


def test_calls_that_get_no_result_end_in_words() -> None:
    assert endings_without_result(PENDING) == (
        CallEnded("a", "cancelled", SUPERSEDED),
        CallEnded("b", "cancelled", SUPERSEDED),
    )
    assert endings_without_result(PENDING, overdue=True) == (
        CallEnded("a", "failed", TIMED_OUT),
        CallEnded("b", "failed", TIMED_OUT),
    )


def test_somebody_who_looks_on_is_shown_that_results_are_waited_for() -> None:
    *_, results = transcript(PENDING)
    assert isinstance(results, Results)
    assert [result.text for result in results.results] == [RUNS_EXTERNALLY, RUNS_EXTERNALLY]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ("ab", ""),
        ("ba", ""),
        ("a", "missing: b"),
        ("", "missing: a, b"),
        ("abb", "given twice: b"),
        ("abx", "not a call of this run that waits for a result: x"),
        ("xx", "not a call of this run that waits for a result: x; given twice: x; missing: a, b"),
    ],
)
def test_results_are_checked_against_what_is_pending(given: str, wrong: str) -> None:
    assert check_results(given, PENDING) == wrong


def test_results_that_come_too_late_are_told_so() -> None:
    entries = (*PENDING, *endings_without_result(PENDING))
    assert check_results(["a"], entries) == "no longer pending: a (cancelled)"
