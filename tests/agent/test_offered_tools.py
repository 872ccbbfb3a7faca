"""Many tools: the model is described the first ones, and searches for the others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.agent import Agent
from agent.hook import HookContext, Hooks, ModelRequest, NoHooks, Point, Ruled
from agent.log import (
    Call,
    CallEnded,
    CallStarted,
    DeclaredTool,
    Entry,
    MessagesRead,
    ModelAnswered,
    Resumed,
    UserMessage,
)
from agent.loop.memory_journal import MemoryJournal
from agent.loop.offered_tools import MAX_DESCRIBED, MAX_REMEMBERED, described_tools, find_tools, search_tools
from agent.loop.turn import Turn
from agent.model import Answer, Request
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, tool
from agent.toolset import Changed, Combined, Filtered, Toolset


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


def many(number: int) -> tuple[Tool, ...]:
    made = (
        replace(look, name=f"plain_{index}", description=f"Does the plain thing {index}.") for index in range(number)
    )
    return (*made, replace(look, name="send_invoice", description="Sends a bill to a customer."))


class Asked:
    """A model that answers from a script and remembers the tools that it was described."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.described: list[list[str]] = []

    async def answer(self, request: Request, on_delta: Any) -> Answer:
        self.described.append([each.name for each in request.tools])
        return self._answers.pop(0)


def calls(name: str, arguments: str = "{}") -> Answer:
    return Answer((Call("1", name, arguments),), finish="calls")


BEGUN = MessagesRead(1, (UserMessage(1, "Ann", "go"),))


async def play(
    tmp_path: Any, model: Asked, tools: Toolset, hooks: Hooks | None = None, log: tuple[Entry, ...] = (BEGUN,)
) -> list[Entry]:
    journal = MemoryJournal()
    agent = Agent(model, MemoryMedia(), tmp_path, tools, hooks=hooks or NoHooks())

    async def emit(event: object) -> None:
        pass

    turn = Turn(agent, journal, emit, id="a" * 32, entries=log)
    await turn.run()
    return list(turn.entries)


def endings(entries: list[Entry]) -> list[tuple[str, str]]:
    return [(entry.outcome, entry.text) for entry in entries if isinstance(entry, CallEnded)]


async def test_up_to_the_limit_all_tools_are_described(tmp_path: Any) -> None:
    model = Asked(Answer(()))
    tools = many(MAX_DESCRIBED - 1)
    await play(tmp_path, model, tools)
    assert model.described == [[each.name for each in tools]]


async def test_beyond_the_limit_the_model_finds_a_tool_and_calls_it(tmp_path: Any) -> None:
    model = Asked(calls("find_tools", '{"query": "bill a customer"}'), calls("send_invoice"), Answer(()))
    entries = await play(tmp_path, model, many(200))
    first, second, third = model.described
    assert len(first) == MAX_DESCRIBED
    assert first[-1] == "find_tools"
    assert "send_invoice" not in first
    assert "send_invoice" in second
    assert "send_invoice" in third
    found, done = endings(entries)
    assert "- send_invoice: Sends a bill to a customer." in found[1]
    assert done == ("done", "seen")


async def test_a_search_that_a_restart_interrupted_is_repeated(tmp_path: Any) -> None:
    search = Call("1", "find_tools", '{"query": "bill a customer"}')
    interrupted = (BEGUN, ModelAnswered(1, (search,)), CallStarted("1"), Resumed())
    entries = await play(tmp_path, Asked(Answer(())), many(200), log=interrupted)
    ((outcome, text),) = endings(entries)
    assert outcome == "done"
    assert "send_invoice" in text


async def test_a_declared_tool_with_the_name_of_the_search_gives_way_to_it(tmp_path: Any) -> None:
    declared = DeclaredTool(find_tools.name, "Finds something else.", {"type": "object"})
    begun = MessagesRead(1, (UserMessage(1, "Ann", "go", tools=(declared,)),))
    model = Asked(calls("find_tools", '{"query": "bill a customer"}'), Answer(()))
    entries = await play(tmp_path, model, many(200), log=(begun,))
    assert [names.count("find_tools") for names in model.described] == [1, 1]
    assert [outcome for outcome, _ in endings(entries)] == ["done"]


def searched(*queries: str) -> list[Entry]:
    return [
        ModelAnswered(step, (Call(str(step), "find_tools", json.dumps({"query": query})),))
        for step, query in enumerate(queries, start=1)
    ]


def test_the_tools_of_the_latest_searches_are_described_and_those_that_were_called() -> None:
    tools = (*many(200), find_tools)
    numbers = range(100, 101 + MAX_REMEMBERED)
    entries = searched(*(f"plain_{number}" for number in numbers))
    described = {each.name for each in described_tools(tools, (), entries)}
    assert "plain_100" not in described
    assert {f"plain_{number}" for number in numbers[1:]} <= described
    called = [ModelAnswered(1, (Call("c", "plain_100", "{}"),)), *entries]
    assert "plain_100" in {each.name for each in described_tools(tools, (), called)}


def test_a_search_that_was_not_run_describes_nothing() -> None:
    tools = (*many(200), find_tools)
    described = described_tools(tools, (), searched("send_invoice " * 100, ""))
    assert len(described) == MAX_DESCRIBED


async def test_a_tool_that_was_not_described_is_not_run_the_first_time(tmp_path: Any) -> None:
    model = Asked(calls("send_invoice"), calls("send_invoice"), Answer(()))
    entries = await play(tmp_path, model, many(200))
    assert [outcome for outcome, _ in endings(entries)] == ["denied", "done"]
    assert "send_invoice" in model.described[1]


class Hiding(NoHooks):
    """Takes a tool out of every request."""

    def active(self, point: Point) -> bool:
        return point == "before_model"

    async def ask(self, point: Point, context: HookContext, subject: Any) -> tuple[Any, Ruled | None]:
        assert isinstance(subject, ModelRequest)
        return replace(subject, tools=tuple(name for name in subject.tools if name != "send_invoice")), None


async def test_a_tool_that_hooks_hide_cannot_be_called_by_finding_it(tmp_path: Any) -> None:
    model = Asked(calls("find_tools", '{"query": "invoice"}'), calls("send_invoice"), calls("send_invoice"), Answer(()))
    entries = await play(tmp_path, model, many(200), Hiding())
    assert [outcome for outcome, _ in endings(entries)] == ["done", "denied", "denied"]


class Growing:
    """A toolset like that of a server whose tools change."""

    def __init__(self) -> None:
        self.tools = [look]

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)


async def test_a_toolset_is_asked_anew_at_each_step(tmp_path: Any) -> None:
    growing = Growing()

    @tool(effect="write")
    async def grow(context: ToolContext) -> str:
        """Adds a tool."""
        growing.tools.append(replace(look, name="glance"))
        return "grown"

    model = Asked(calls("grow"), calls("glance"), Answer(()))
    entries = await play(tmp_path, model, Combined((grow,), growing))
    assert endings(entries) == [("done", "grown"), ("done", "seen")]


def test_of_two_tools_with_one_name_the_first_counts() -> None:
    other = replace(look, description="Another.")
    assert [each.description for each in Combined((look,), (other,))] == ["Looks."]


def test_tools_are_changed_once_and_filtered() -> None:
    changed = Changed((look,), lambda each: replace(each, approval="always"))
    (first,), (second,) = changed, changed
    assert first is second
    assert first.approval == "always"
    assert list(Filtered(changed, lambda each: each.approval == "never")) == []


@pytest.mark.parametrize(
    ("query", "found"), [("INVOICE", ["send_invoice"]), ("sendInvoice", ["send_invoice"]), ("zebra", []), ("", [])]
)
def test_search(query: str, found: list[str]) -> None:
    assert [each.name for each in search_tools(many(5), query)] == found


def test_a_search_finds_no_more_than_the_model_can_read() -> None:
    assert len(search_tools(many(200), "plain thing")) == 8
    assert find_tools.effect == "read"
