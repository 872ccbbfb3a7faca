"""The tools for background tasks, as a model calls them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.background import Background, BackgroundError, BackgroundItem, DelegatedTask, NoBackground, no_output
from agent.media import Attachment
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.tools import load_tools

FILE = Attachment("ab" * 32, "words.csv", "text/csv", 12)


class FakeBackground:
    """Records the calls and runs nothing."""

    def __init__(self, *items: BackgroundItem) -> None:
        self.delegated: list[tuple[str, DelegatedTask]] = []
        self.deltas: list[tuple[str, str]] = []
        self._items = items

    async def adopt(self, title: str, running: asyncio.Task[ToolResult], shown: Callable[[], str] = no_output) -> str:
        raise BackgroundError("nothing is kept here")

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        await progress("step 1")
        self.delegated.append((call_id, delegated))
        return ToolResult("There are 12.", (FILE,))

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        self.delegated.append((call_id, delegated))
        return "w7"

    async def items(self) -> tuple[BackgroundItem, ...]:
        return self._items

    async def stop(self, handle: str) -> bool:
        return any(item.handle == handle and item.state == "running" for item in self._items)

    async def steer(self, handle: str, words: str) -> bool:
        self.deltas.append((handle, words))
        return await self.stop(handle)


RUNNING = BackgroundItem("w1", "shell: make test", "running", "12 %\nof all")
DONE = BackgroundItem("w2", "count the words", "done", "There are 12.")
SILENT = BackgroundItem("w3", "wait", "running")


async def use(name: str, work: Background, shown: list[str] | None = None, **arguments: object) -> ToolResult:
    (tool,) = load_tools([name])

    async def progress(text: str) -> None:
        if shown is not None:
            shown.append(text)

    context = ToolContext(Path(), MemoryMedia(), progress, call_id="call-1", background=work)
    return await tool.call(context, json.dumps(arguments))


async def test_a_delegated_task_is_waited_for_and_its_answer_and_files_are_the_result() -> None:
    fake, shown = FakeBackground(), list[str]()
    result = await use("delegate", fake, shown, task="count the words")
    assert shown == ["step 1"]
    assert (result.text, result.attachments) == ("There are 12.", (FILE,))
    assert fake.delegated == [("call-1", DelegatedTask("count the words"))]


async def test_a_task_may_be_given_tools_a_model_and_time() -> None:
    fake = FakeBackground()
    await use("delegate", fake, task="count", tools=["shell"], model="demo:small", minutes=5)
    await use("delegate", fake, task="think", tools=[])
    assert [delegated for _, delegated in fake.delegated] == [
        DelegatedTask("count", ("shell",), "demo:small", 300),
        DelegatedTask("think", ()),
    ]


async def test_a_task_in_the_background_is_named_at_once() -> None:
    result = await use("delegate", FakeBackground(), task="count", background=True)
    assert "w7" in result.text


@pytest.mark.parametrize("arguments", [{}, {"task": ""}, {"task": "x", "minutes": 0}, {"task": "x", "minutes": 241}])
async def test_a_task_that_cannot_be_given_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ToolError, match="delegate"):
        await use("delegate", FakeBackground(), **arguments)


async def test_where_nothing_can_go_on_beside_the_turn_the_model_is_told_so() -> None:
    for background in (False, True):
        with pytest.raises(BackgroundError, match="cannot be delegated here"):
            await use("delegate", NoBackground(), task="count", background=background)
    assert (await use("background", NoBackground(), action="list")).text == "There are no background tasks."


async def test_the_tool_lasts_longer_than_any_task() -> None:
    (delegate,) = load_tools(["delegate"])
    assert delegate.timeout > 240 * 60
    assert delegate.repeatable


async def test_the_list_has_a_line_for_each() -> None:
    result = await use("background", FakeBackground(RUNNING, DONE, SILENT), action="list")
    assert result.text.split("\n") == [
        "w1: running: shell: make test (12 % of all)",
        "w2: done: count the words (There are 12.)",
        "w3: running: wait",
    ]


async def test_a_long_line_is_cut_and_looking_shows_all_of_it() -> None:
    long = BackgroundItem("w1", "count", "running", "word " * 80)
    (line,) = (await use("background", FakeBackground(long), action="list")).text.split("\n")
    assert len(line) < 250
    assert (await use("background", FakeBackground(long), action="look", handle="w1")).text.count("word") == 80


async def test_looking_shows_what_work_showed_last() -> None:
    result = await use("background", FakeBackground(RUNNING, DONE), action="look", handle="w1")
    assert result.text == "w1: running: shell: make test\n\n12 %\nof all"


async def test_what_has_shown_nothing_says_so() -> None:
    assert "no output yet" in (await use("background", FakeBackground(SILENT), action="look", handle="w3")).text


async def test_stopping_says_what_was_stopped_or_that_there_was_nothing() -> None:
    fake = FakeBackground(RUNNING, DONE)
    assert "Stopped w1" in (await use("background", fake, action="stop", handle="w1")).text
    with pytest.raises(ToolError, match="nothing to stop"):
        await use("background", fake, action="stop", handle="w2")


async def test_telling_hands_the_words_on() -> None:
    fake = FakeBackground(RUNNING, DONE)
    assert "w1" in (await use("background", fake, action="tell", handle="w1", message="only verbs")).text
    assert fake.deltas == [("w1", "only verbs")]
    with pytest.raises(ToolError, match="not a running delegated task"):
        await use("background", fake, action="tell", handle="w2", message="only verbs")
    with pytest.raises(ToolError, match="message is empty"):
        await use("background", fake, action="tell", handle="w1")


@pytest.mark.parametrize("action", ["look", "stop", "tell"])
async def test_work_that_is_not_there_is_answered_with_what_is(action: str) -> None:
    with pytest.raises(ToolError, match="w1, w2"):
        await use("background", FakeBackground(RUNNING, DONE), action=action, handle="w9", message="hello")
    with pytest.raises(ToolError, match="Give the task's handle"):
        await use("background", FakeBackground(RUNNING, DONE), action=action, message="hello")
