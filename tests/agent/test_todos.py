"""The to-do list: kept by its own last call, shown as one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.log import Call, CallEnded, Entry, ModelAnswered, Outcome
from agent.testing import MemoryMedia
from agent.tool import ToolContext, ToolError
from agent.tool_result import ToolResult
from agent.tools.todos import latest_todos, todos


async def keep(*items: tuple[str, str]) -> ToolResult:
    async def progress(text: str) -> None: ...

    return await todos.call(ToolContext(Path("."), MemoryMedia(), progress), arguments(*items))


def arguments(*items: tuple[str, str]) -> str:
    return json.dumps({"items": [{"text": text, "state": state} for text, state in items]})


def log(*calls: tuple[str, Outcome | None]) -> tuple[Entry, ...]:
    """A step for each call, given by its arguments and how it ended, if it did."""
    entries: list[Entry] = []
    for number, (words, outcome) in enumerate(calls):
        entries.append(ModelAnswered(number, (Call(f"c{number}", "todos", words),)))
        if outcome is not None:
            entries.append(CallEnded(f"c{number}", outcome, ""))
    return tuple(entries)


async def test_a_list_is_kept_without_a_line_for_its_call() -> None:
    result = await keep(("read", "done"), ("write", "doing"), ("test", "pending"))
    assert result == ToolResult("The list is stored: 1 of 3 done; now: write.", silent=True)
    assert (await keep()).text == "The list is empty."


@pytest.mark.parametrize("items", [[("x", "begun")], [("", "done")], [("x" * 201, "done")], [("x", "done")] * 51])
async def test_a_list_that_does_not_fit_is_refused(items: list[tuple[str, str]]) -> None:
    with pytest.raises(ToolError, match="Invalid arguments for todos"):
        await keep(*items)


def test_the_line_says_how_much_is_done_and_what_is_being_done() -> None:
    items = (("read\nall", "done"), ("write\nit", "doing"), ("test", "doing"), ("show", "pending"))
    found = latest_todos(log((arguments(*items), "done")))
    assert found is not None
    assert found.summary() == "1 of 4 done; now: write it, test"
    assert found.as_text() == "[x] read all\n[>] write it\n[>] test\n[ ] show"


def test_the_last_valid_call_counts() -> None:
    kept, begun = arguments(("read", "doing")), arguments(("write", "doing"))
    found = latest_todos(
        log((begun, "done"), (kept, "done"), ("nonsense", "failed"), (begun, "skipped"), (begun, None))
    )
    assert found is not None
    assert found.summary() == "0 of 1 done; now: read"


def test_a_list_that_was_cleared_is_none() -> None:
    assert latest_todos(log((arguments(("read", "doing")), "done"), (arguments(), "done"))) is None
    assert latest_todos(()) is None
