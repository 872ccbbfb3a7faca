"""The background tool: lists, shows, steers and stops background tasks."""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from agent.background import BackgroundItem
from agent.tool import ToolContext, ToolError, tool

MAX_LINE_OUTPUT = 200
"""Characters of a task's last output in the list."""


@tool(effect="write")
async def background(
    context: ToolContext,
    action: Annotated[
        Literal["list", "look", "stop", "tell"],
        Field(description="list all background tasks, look at one, stop it, or tell a delegated task something."),
    ],
    handle: Annotated[str | None, Field(max_length=20, description='The handle of the task, like "w3".')] = None,
    message: Annotated[str | None, Field(max_length=20_000, description="The message to the delegated task.")] = None,
) -> str:
    """Manages background tasks: tool calls that continue in the background, and delegated tasks.

    Results arrive as messages by themselves; do not poll with this tool.
    """
    match action:
        case "list":
            items = await context.background.items()
            return "\n".join(map(_line, items)) or "There are no background tasks."
        case "look":
            return _details(await _item(context, handle))
        case "stop":
            item = await _item(context, handle)
            if not await context.background.stop(item.handle):
                raise ToolError(f"{item.handle} is not running any more: there is nothing to stop.")
            return f"Stopped {item.handle}. There will be no result."
        case "tell":
            if not (message or "").strip():
                raise ToolError("The message is empty.")
            item = await _item(context, handle)
            if not await context.background.steer(item.handle, message or ""):
                raise ToolError(f"{item.handle} is not a running delegated task and cannot get messages.")
            return f"{item.handle} gets the message at once."
        case _:
            assert_never(action)


async def _item(context: ToolContext, handle: str | None) -> BackgroundItem:
    items = await context.background.items()
    for item in items:
        if item.handle == handle:
            return item
    known = ", ".join(item.handle for item in items) or "none"
    raise ToolError(f"There is no task {handle!r}; known tasks: {known}." if handle else "Give the task's handle.")


def _line(item: BackgroundItem) -> str:
    shown = " ".join(item.shown.split())
    if len(shown) > MAX_LINE_OUTPUT:
        shown = f"{shown[:MAX_LINE_OUTPUT]}…"
    return f"{item.handle}: {item.state}: {item.title}" + (f" ({shown})" if shown else "")


def _details(item: BackgroundItem) -> str:
    return f"{item.handle}: {item.state}: {item.title}\n\n{item.shown or 'There is no output yet.'}"
