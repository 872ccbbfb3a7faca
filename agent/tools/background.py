"""The background tool: what goes on beside the conversation, looked at, steered and stopped."""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from agent.background import BackgroundItem
from agent.tool import ToolContext, ToolError, tool

LINE = 200
"""Characters of what work showed last that fit into a list."""


@tool(effect="write")
async def background(
    context: ToolContext,
    action: Annotated[
        Literal["list", "look", "stop", "tell"],
        Field(description="list all work, look at one, stop it, or tell a delegated task something."),
    ],
    handle: Annotated[str | None, Field(max_length=20, description='Which one, like "w3".')] = None,
    words: Annotated[str | None, Field(max_length=20_000, description="What to tell it.")] = None,
) -> str:
    """Looks after work in the background: calls that went on by themselves, and delegated tasks.

    Results come as messages without being asked for; do not call this again and again to wait for one.
    """
    match action:
        case "list":
            items = await context.background.items()
            return "\n".join(map(_line, items)) or "Nothing was begun in the background."
        case "look":
            return _whole(await _item(context, handle))
        case "stop":
            item = await _item(context, handle)
            if not await context.background.stop(item.handle):
                raise ToolError(f"{item.handle} does not run any more: there was nothing to stop.")
            return f"Stopped {item.handle}. It brings no result."
        case "tell":
            if not (words or "").strip():
                raise ToolError("There are no words to tell it.")
            item = await _item(context, handle)
            if not await context.background.steer(item.handle, words or ""):
                raise ToolError(f"{item.handle} is not a delegated task that runs, and can be told nothing.")
            return f"{item.handle} reads it at once."
        case _:
            assert_never(action)


async def _item(context: ToolContext, handle: str | None) -> BackgroundItem:
    items = await context.background.items()
    for item in items:
        if item.handle == handle:
            return item
    known = ", ".join(item.handle for item in items) or "none"
    raise ToolError(f"There is no work named {handle!r}; there are: {known}." if handle else "Name the work's handle.")


def _line(item: BackgroundItem) -> str:
    shown = " ".join(item.shown.split())
    if len(shown) > LINE:
        shown = f"{shown[:LINE]}…"
    return f"{item.handle}: {item.state}: {item.title}" + (f" ({shown})" if shown else "")


def _whole(item: BackgroundItem) -> str:
    return f"{item.handle}: {item.state}: {item.title}\n\n{item.shown or 'It has shown nothing yet.'}"
