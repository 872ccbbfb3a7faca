"""The to-do list: what the model means to do, kept as its own last call, and shown to people as one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from agent.log import CallEnded, Entry, ModelAnswered
from agent.tool import ToolContext, tool
from agent.tool_result import ToolResult

NAME = "todos"
MAX_ITEMS = 50
MAX_ITEM_LENGTH = 200

State = Literal["pending", "doing", "done"]

_BOXES: dict[State, str] = {"pending": "[ ]", "doing": "[>]", "done": "[x]"}


class Item(BaseModel, extra="forbid", frozen=True):
    text: Annotated[
        str, Field(min_length=1, max_length=MAX_ITEM_LENGTH, description="What is to be done, in a few words.")
    ]
    state: State = "pending"


class _List(BaseModel, extra="forbid"):
    items: Annotated[list[Item], Field(max_length=MAX_ITEMS)]


@dataclass(frozen=True, slots=True)
class TodoList:
    """The list as it stands, in the model's order."""

    items: tuple[Item, ...]

    def line(self) -> str:
        """One line for people: how much is done, and what is being done now."""
        done = sum(item.state == "done" for item in self.items)
        now = ", ".join(_on_one_line(item) for item in self.items if item.state == "doing")
        count = f"{done} of {len(self.items)} done"
        return f"{count}; now: {now}" if now else count

    def as_text(self) -> str:
        """All of it for the model, a line each."""
        return "\n".join(f"{_BOXES[item.state]} {_on_one_line(item)}" for item in self.items)


@tool(effect="read", timeout=10.0)
async def todos(
    context: ToolContext,
    items: Annotated[list[Item], Field(max_length=MAX_ITEMS, description="The whole list, done items too, in order.")],
) -> ToolResult:
    """Keeps your to-do list, in place of the one before. People see how far you are.

    Use it for work of several steps: write the list first, mark the item you work on as doing, and what is finished as
    done, as you go. An empty list clears it.
    """
    kept = TodoList(tuple(items))
    return ToolResult(f"The list is kept: {kept.line()}." if items else "The list is empty.", silent=True)


def latest_todos(entries: Iterable[Entry]) -> TodoList | None:
    """The list as the turn's last valid call of the tool left it; None if there is none, or an empty one."""
    ended: set[str] = set()
    answers: list[ModelAnswered] = []
    for entry in entries:
        if isinstance(entry, CallEnded) and entry.outcome == "done":
            ended.add(entry.call_id)
        elif isinstance(entry, ModelAnswered):
            answers.append(entry)
    for answered in reversed(answers):
        for call in reversed(answered.calls):
            if call.name == NAME and call.id in ended and (found := parse_todos(call.arguments)) is not None:
                return found if found.items else None
    return None


def parse_todos(arguments: str) -> TodoList | None:
    """The list in a call's arguments; None if they do not fit."""
    try:
        return TodoList(tuple(_List.model_validate_json(arguments or "{}").items))
    except ValidationError:
        return None


def _on_one_line(item: Item) -> str:
    return " ".join(item.text.split())
