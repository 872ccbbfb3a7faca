"""The to-do list: the model's plan, stored as its own last call, and shown to people as one line."""

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
    text: Annotated[str, Field(min_length=1, max_length=MAX_ITEM_LENGTH, description="What to do, in a few words.")]
    state: State = "pending"


class _List(BaseModel, extra="forbid"):
    items: Annotated[list[Item], Field(max_length=MAX_ITEMS)]


@dataclass(frozen=True, slots=True)
class TodoList:
    """The current list, in the model's order."""

    items: tuple[Item, ...]

    def summary(self) -> str:
        """One line for people: how many items are done, and what the model is doing now."""
        done = sum(item.state == "done" for item in self.items)
        now = ", ".join(_on_one_line(item) for item in self.items if item.state == "doing")
        count = f"{done} of {len(self.items)} done"
        return f"{count}; now: {now}" if now else count

    def as_text(self) -> str:
        """The whole list for the model, one line per item."""
        return "\n".join(f"{_BOXES[item.state]} {_on_one_line(item)}" for item in self.items)


@tool(effect="read", timeout=10.0)
async def todos(
    context: ToolContext,
    items: Annotated[list[Item], Field(max_length=MAX_ITEMS, description="The whole list, done items too, in order.")],
) -> ToolResult:
    """Replaces your to-do list. People see your progress.

    Use it for work of several steps: write the list first, then mark the current item as doing and finished items as
    done as you go. An empty list clears it.
    """
    stored = TodoList(tuple(items))
    return ToolResult(f"The list is stored: {stored.summary()}." if items else "The list is empty.", silent=True)


def latest_todos(entries: Iterable[Entry]) -> TodoList | None:
    """The list of the turn's last valid call of the tool; None if there is none, or it is empty."""
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
    """The list in a call's arguments; None if they are invalid."""
    try:
        return TodoList(tuple(_List.model_validate_json(arguments or "{}").items))
    except ValidationError:
        return None


def _on_one_line(item: Item) -> str:
    return " ".join(item.text.split())
