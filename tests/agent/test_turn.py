"""The turn loop alone, with a journal in memory and a scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.decisions.questions import ask_user
from agent.events import Event, Logged, TextDelta
from agent.hook import HookContext, Hooks, NoHooks, Point, Ruled, ToolCall
from agent.log import (
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Resumed,
    UserMessage,
)
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.model import ModelError, Request
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tools.received_files import workspace_path
from agent.transcript import Results, SystemNote, transcript


class Stage:
    """A turn with everything it needs; what happens is kept in `events`."""

    def __init__(
        self,
        model: ScriptedModel,
        *tools: Tool,
        max_steps: int = 50,
        entries: Sequence[Entry] = (),
        hooks: Hooks | None = None,
    ) -> None:
        self.model = model
        self.journal = MemoryJournal()
        self.events: list[Event] = []
        self.on_start: Callable[[], None] = lambda: None
        self._told = asyncio.Condition()
        if entries:
            self.journal.entries.extend(entries)
        else:
            self.journal.say("go")
        agent = Agent(model, MemoryMedia(), Path("."), tools, "Be good.", max_steps, hooks or NoHooks())
        self.turn = Turn(agent, self.journal, self._emit, id="turn", entries=entries)

    async def _emit(self, event: Event) -> None:
        if isinstance(event, Logged) and isinstance(event.entry, CallStarted):
            self.on_start()
        async with self._told:
            self.events.append(event)
            self._told.notify_all()

    async def until_told(self, text: str) -> None:
        def told() -> bool:
            return text in "".join(event.text for event in self.events if isinstance(event, TextDelta))

        async with self._told:
            await self._told.wait_for(told)

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[asyncio.Task[Ended | None]]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            yield group.create_task(self.turn.run())

    async def play(self) -> Ended | None:
        async with self.playing() as running:
            return await running

    def results(self) -> dict[str, CallEnded]:
        """The results by tool name."""
        calls = {call.id: call.name for answer in self.answers() for call in answer.calls}
        return {calls[entry.call_id]: entry for entry in self.journal.entries if isinstance(entry, CallEnded)}

    def answers(self) -> list[ModelAnswered]:
        return [entry for entry in self.journal.entries if isinstance(entry, ModelAnswered)]


class Gate:
    """A tool's inside: says when it runs, and lets it go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = False

    async def pass_through(self) -> str:
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "passed"


def looking(gate: Gate) -> Tool:
    @tool(effect="read")
    async def look(context: ToolContext) -> str:
        """Looks."""
        return await gate.pass_through()

    return look


def writing(gate: Gate) -> Tool:
    @tool(effect="write")
    async def write(context: ToolContext) -> str:
        """Writes."""
        return await gate.pass_through()

    return write


@tool(effect="read")
async def double(context: ToolContext, number: int) -> str:
    """Doubles a number."""
    return str(2 * number)


@tool(effect="write")
async def burn(context: ToolContext) -> str:
    """Always fails."""
    raise ToolError("it is wet")


def call(name: str, arguments: str = "{}", id: str = "x") -> Call:
    return Call(id, name, arguments)


def heard_texts(request: Request) -> list[str]:
    return [said.text for item in request.transcript if isinstance(item, MessagesRead) for said in item.messages]


async def test_an_answer_without_calls_ends_the_turn() -> None:
    stage = Stage(ScriptedModel("Hello"))
    assert await stage.play() == Ended("completed")
    assert [answer.text for answer in stage.answers()] == ["Hello"]
    assert heard_texts(stage.model.requests[0]) == ["go"]


async def test_a_calls_result_goes_to_the_next_model_step() -> None:
    stage = Stage(ScriptedModel([call("double", '{"number": 21}')], "42"), double)
    await stage.play()
    (results,) = [item for item in stage.model.requests[1].transcript if isinstance(item, Results)]
    assert [(result.call.name, result.outcome, result.text) for result in results.results] == [("double", "done", "42")]


async def test_a_message_during_the_stream_ends_it_and_keeps_the_partial_text() -> None:
    stage = Stage(ScriptedModel(["One two", asyncio.Event(), " three"], "Five"))
    async with stage.playing():
        await stage.until_told("One two")
        stage.journal.say("rather count in fives")
    assert [(answer.text, answer.interrupted) for answer in stage.answers()] == [("One two", True), ("Five", False)]
    assert heard_texts(stage.model.requests[1]) == ["go", "rather count in fives"]


async def test_a_message_cancels_a_reading_call_and_skips_what_has_not_started() -> None:
    looks, writes = Gate(), Gate()
    stage = Stage(ScriptedModel([call("look"), call("write"), call("double")], "Fine"), looking(looks), writing(writes))
    async with stage.playing():
        await looks.entered.wait()
        stage.journal.say("stop looking")
    assert looks.cancelled
    assert not writes.entered.is_set()
    results = stage.results()
    assert results["look"].outcome == "cancelled"
    assert results["look"].text.startswith("Cancelled:")
    assert results["write"].outcome == "skipped"
    assert results["write"].text.startswith("Skipped:")
    assert heard_texts(stage.model.requests[1]) == ["go", "stop looking"]


class BeforeTools(NoHooks):
    """Hooks that do this before each call."""

    def __init__(self, what: Callable[[ToolCall], ToolCall]) -> None:
        self._what = what

    def active(self, point: Point) -> bool:
        return point == "before_tool"

    async def ask(self, point: Point, context: HookContext, subject: Any) -> tuple[Any, Ruled | None]:
        return self._what(subject), None


async def test_a_message_skips_the_next_call_also_where_a_hook_has_given_the_calls_effects() -> None:
    writes = Gate()
    model = ScriptedModel([call("look"), call("double", '{"number": 1}')], "Fine")
    in_place = BeforeTools(lambda call: replace(call, tool="write", arguments={}))
    stage = Stage(model, looking(Gate()), double, writing(writes), hooks=in_place)
    async with stage.playing():
        await writes.entered.wait()
        stage.journal.say("wait")
        writes.open.set()
    assert [stage.results()[name].outcome for name in ("look", "double")] == ["done", "skipped"]


async def test_a_message_that_comes_while_hooks_are_asked_skips_the_calls_and_people_are_not_asked() -> None:
    def interject(call: ToolCall) -> ToolCall:
        stage.journal.say("leave it")
        return call

    needs_approval = replace(writing(Gate()), approval="always")
    stage = Stage(ScriptedModel([call("write")], "Fine"), needs_approval, hooks=BeforeTools(interject))
    assert await stage.play() == Ended("completed")
    assert stage.results()["write"].outcome == "skipped"
    assert not [entry for entry in stage.journal.entries if isinstance(entry, ApprovalRequested)]


async def test_a_message_lets_a_writing_call_finish_and_skips_the_next() -> None:
    first, second = Gate(), Gate()
    look = looking(second)
    stage = Stage(ScriptedModel([call("write"), call("look")], "Fine"), writing(first), look)
    async with stage.playing():
        await first.entered.wait()
        stage.journal.say("wait")
        first.open.set()
    assert [stage.results()[name].outcome for name in ("write", "look")] == ["done", "skipped"]
    assert not second.entered.is_set()


async def test_a_message_at_the_last_moment_keeps_the_answer_and_the_turn_goes_on() -> None:
    stage = Stage(ScriptedModel())
    stage.model.add(lambda request: stage.journal.say("and one more thing") or "First", "Second")
    await stage.play()
    assert [answer.text for answer in stage.answers() if not answer.interrupted][-1] == "Second"
    assert heard_texts(stage.model.requests[-1]) == ["go", "and one more thing"]


async def test_calls_that_only_read_run_side_by_side_and_keep_their_order() -> None:
    meeting = asyncio.Barrier(2)

    @tool(effect="read")
    async def meet(context: ToolContext, name: str) -> str:
        """Meets the other call."""
        await meeting.wait()
        return name

    stage = Stage(ScriptedModel([call("meet", '{"name": "a"}'), call("meet", '{"name": "b"}')], "Met"), meet)
    await stage.play()
    assert [entry.text for entry in stage.journal.entries if isinstance(entry, CallEnded)] == ["a", "b"]


async def test_calls_with_effects_run_one_after_another() -> None:
    running = 0

    @tool(effect="write")
    async def alone(context: ToolContext) -> str:
        """Must be alone."""
        nonlocal running
        running += 1
        await asyncio.sleep(0)
        together, running = running, running - 1
        return str(together)

    stage = Stage(ScriptedModel([call("alone"), call("alone")], "Done"), alone)
    await stage.play()
    assert [entry.text for entry in stage.journal.entries if isinstance(entry, CallEnded)] == ["1", "1"]


async def test_stopping_during_a_call_gives_every_call_a_result() -> None:
    first, second = Gate(), Gate()
    stage = Stage(ScriptedModel([call("write"), call("look")]), writing(first), looking(second))
    async with stage.playing() as running:
        await first.entered.wait()
        stage.turn.stop("you asked to stop")
        assert await running == Ended("stopped", "you asked to stop")
    assert first.cancelled
    assert [stage.results()[name].outcome for name in ("write", "look")] == ["cancelled", "skipped"]
    assert "you asked to stop" in stage.results()["write"].text


async def test_stopping_during_the_stream_keeps_the_partial_text() -> None:
    stage = Stage(ScriptedModel(["Half a", asyncio.Event()]))
    async with stage.playing():
        await stage.until_told("Half a")
        stage.turn.stop("enough")
    assert [(answer.text, answer.interrupted) for answer in stage.answers()] == [("Half a", True)]


async def test_a_stop_before_the_start_is_honoured() -> None:
    stage = Stage(ScriptedModel("never asked"))
    stage.turn.stop("too late")
    assert await stage.play() == Ended("stopped", "too late")
    assert stage.model.requests == []


async def test_a_tool_that_ignores_its_cancellation_does_not_hold_up_a_stop() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    @tool(effect="write")
    async def stubborn(context: ToolContext) -> str:
        """Ends when it likes."""
        while not leave.is_set():
            entered.set()
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return "at last"

    stage = Stage(ScriptedModel([call("stubborn")]), stubborn)
    async with stage.playing() as running:
        await entered.wait()
        stage.turn.stop("enough")
        assert await running == Ended("stopped", "enough")
    assert stage.results()["stubborn"].outcome == "cancelled"
    leave.set()


async def test_a_call_that_finished_before_the_stop_keeps_its_result() -> None:
    slow = Gate()
    stage = Stage(ScriptedModel([call("look"), call("double", '{"number": 4}')]), looking(slow), double)
    async with stage.playing():
        await slow.entered.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stage.turn.stop("enough")
    assert stage.results()["look"].outcome == "cancelled"
    assert stage.results()["double"].text == "8"


async def test_the_last_step_sums_up_without_tools() -> None:
    again = [call("double", '{"number": 1}')]
    stage = Stage(ScriptedModel(again, again, "I doubled twice."), double, max_steps=2)
    assert await stage.play() == Ended("completed")
    last = stage.model.requests[-1]
    assert last.text_only
    assert isinstance(last.transcript[-1], SystemNote)


async def test_a_model_error_ends_the_turn_in_words() -> None:
    stage = Stage(ScriptedModel(ModelError("auth", "the key was refused")))
    assert await stage.play() == Ended("failed", "the key was refused")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (call("nothing"), "Unknown tool 'nothing'"),
        (call("double", "{not json"), "Invalid arguments"),
        (call("double", '{"number": "many"}'), "number"),
        (call("double", '{"number": 1, "colour": "red"}'), "colour"),
        (call("burn"), "it is wet"),
    ],
)
async def test_a_bad_call_fails_in_words_and_the_turn_goes_on(wanted: Call, says: str) -> None:
    stage = Stage(ScriptedModel([wanted], "I see."), double, burn)
    assert await stage.play() == Ended("completed")
    assert stage.results()[wanted.name].outcome == "failed"
    assert says in stage.results()[wanted.name].text


async def test_a_hundred_calls_at_once_each_have_one_result() -> None:
    calls = [call("double", f'{{"number": {number}}}') for number in range(100)]
    stage = Stage(ScriptedModel(calls, "Many."), double)
    await stage.play()
    ends = [entry for entry in stage.journal.entries if isinstance(entry, CallEnded)]
    assert [end.text for end in ends] == [str(2 * number) for number in range(100)]
    assert len({end.call_id for end in ends}) == 100


async def test_a_resumed_turn_does_not_run_again_what_may_have_run() -> None:
    gate = Gate()
    calls = (Call("a", "write", "{}"), Call("b", "write", "{}"))
    left = [MessagesRead(1, (UserMessage(1, "Ann", "go"),)), ModelAnswered(1, calls), CallStarted("a"), Resumed()]
    stage = Stage(ScriptedModel("I will check."), writing(gate), entries=left)
    assert await stage.play() == Ended("completed")
    assert not gate.entered.is_set()
    outcomes = {entry.call_id: entry for entry in stage.journal.entries if isinstance(entry, CallEnded)}
    assert outcomes["a"].text.startswith("unknown: interrupted by a restart")
    assert outcomes["b"].outcome == "skipped"


async def test_a_turn_that_restarts_keep_interrupting_is_given_up() -> None:
    left = [MessagesRead(1, (UserMessage(1, "Ann", "go"),)), *[Resumed()] * 5]
    stage = Stage(ScriptedModel("never asked"), entries=left)
    ended = await stage.play()
    assert ended is not None
    assert ended.outcome == "failed"
    assert stage.model.requests == []


async def test_restarts_between_which_something_was_done_do_not_add_up() -> None:
    done: list[Entry] = []
    for step in range(1, 4):
        done += [ModelAnswered(step, (Call(f"c{step}", "double", '{"number": 1}'),)), CallStarted(f"c{step}")]
        done += [CallEnded(f"c{step}", "done", "2"), Resumed(), Resumed()]
    stage = Stage(ScriptedModel("At last."), double, entries=[MessagesRead(1, (UserMessage(1, "Ann", "go"),)), *done])
    assert await stage.play() == Ended("completed")


def asking(question: str = "Which colour?", *options: str) -> Call:
    return Call("x", "ask_user", json.dumps({"question": question, "options": options}))


async def test_a_question_parks_the_turn_and_the_next_words_answer_it() -> None:
    stage = Stage(ScriptedModel([asking(), call("double", '{"number": 1}')]), ask_user, double)
    assert await stage.play() is None
    entries = stage.journal.entries
    assert isinstance(entries[-1], CallStarted)
    stage.journal.say("blue")
    later = Stage(ScriptedModel("Blue it is."), ask_user, double, entries=entries)
    later.journal.say("blue")
    assert await later.play() == Ended("completed")
    assert {name: result.outcome for name, result in later.results().items()} == {
        "ask_user": "done",
        "double": "skipped",
    }
    *_, results, heard = later.model.requests[0].transcript
    assert isinstance(results, Results)
    assert isinstance(heard, MessagesRead)
    assert heard.messages[0].text == "blue"


async def test_a_parked_turn_that_is_taken_up_too_early_stays_parked() -> None:
    left = [MessagesRead(1, (UserMessage(1, "Ann", "go"),)), ModelAnswered(1, (asking(),)), CallStarted("x")]
    stage = Stage(ScriptedModel("never asked"), ask_user, entries=left)
    assert await stage.play() is None
    assert stage.journal.entries == left


async def test_what_comes_while_a_question_is_being_asked_answers_it() -> None:
    stage = Stage(ScriptedModel([asking()], "Blue it is."), ask_user)
    stage.on_start = lambda: stage.journal.say("blue")
    assert await stage.play() == Ended("completed")
    assert stage.results()["ask_user"].outcome == "done"


async def test_a_message_before_a_question_skips_it_and_is_no_answer_to_it() -> None:
    looks = Gate()
    model = ScriptedModel([call("look"), asking(), Call("y", "unknown", "{}")], "Fine")
    stage = Stage(model, looking(looks), ask_user)
    async with stage.playing():
        await looks.entered.wait()
        stage.journal.say("blue, whatever you look at")
    results = stage.results()
    assert {name: result.outcome for name, result in results.items()} == {
        "look": "cancelled",
        "ask_user": "skipped",
        "unknown": "skipped",
    }
    assert not [entry for entry in stage.journal.entries if entry == CallStarted("x")], "nobody was asked"


async def test_a_stop_ends_a_parked_turn() -> None:
    left = [MessagesRead(1, (UserMessage(1, "Ann", "go"),)), ModelAnswered(1, (asking(),)), CallStarted("x")]
    stage = Stage(ScriptedModel("never asked"), ask_user, entries=left)
    stage.turn.stop("you asked to stop")
    assert await stage.play() == Ended("stopped", "you asked to stop")
    assert stage.results()["ask_user"].outcome == "cancelled"


async def test_a_question_that_cannot_be_read_fails_and_does_not_park() -> None:
    stage = Stage(ScriptedModel([Call("x", "ask_user", "{}")], "Never mind."), ask_user)
    assert await stage.play() == Ended("completed")
    assert stage.results()["ask_user"].outcome == "failed"


async def test_an_abandoned_turn_writes_no_end() -> None:
    stage = Stage(ScriptedModel(["One", asyncio.Event()]))
    running = asyncio.create_task(stage.turn.run())
    await stage.until_told("One")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not any(isinstance(entry, Ended) for entry in stage.journal.entries)


def test_every_call_in_a_transcript_has_a_result_whatever_the_log_lacks() -> None:
    calls = (Call("a", "write", "{}"), Call("b", "write", "{}"))
    entries = [MessagesRead(1, (UserMessage(1, "Ann", "go"),)), ModelAnswered(1, calls), CallStarted("a")]
    (results,) = [item for item in transcript(entries) if isinstance(item, Results)]
    assert [result.outcome for result in results.results] == ["unknown", "skipped"]


async def test_a_file_that_was_sent_lies_in_the_workspace_when_tools_run(tmp_path: Path) -> None:
    @tool(effect="read")
    async def read(context: ToolContext, path: str) -> str:
        """Reads."""
        return (context.workspace / path).read_text()

    media = MemoryMedia()
    attachment = await media.put(b"1,2,3", "../my data.csv")
    heard = MessagesRead(1, (UserMessage(1, "Ann", "what is in it?", (attachment,)),))
    path = workspace_path(attachment)
    journal = MemoryJournal()
    model = ScriptedModel([call("read", json.dumps({"path": path}))], "Numbers.")

    async def emit(event: Event) -> None:
        pass

    turn = Turn(Agent(model, media, tmp_path, (read,)), journal, emit, id="turn", entries=(heard,))
    assert await turn.run() == Ended("completed")
    (end,) = [entry for entry in journal.entries if isinstance(entry, CallEnded)]
    assert end.text == "1,2,3"
    assert path.startswith("received/")
    assert path.endswith("-my data.csv")
