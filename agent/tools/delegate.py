"""The delegate tool: a task for a turn of its own, waited for or left to go on in the background."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.background import DelegatedTask
from agent.tool import ToolContext, tool
from agent.tool_result import ToolResult

LONGEST = 240
"""Minutes that a task may be given."""

BEGUN = (
    "The task goes on as {handle}, and its answer will come as a message. You need not wait for it: go on with what "
    "else there is to do, or tell the person that you will get back to them."
)

_Name = Annotated[str, Field(min_length=1, max_length=100)]


# Repeatable, since the call's id finds the same turn again; steered, only the waiting for it ends.
@tool(effect="external", on_steer="background", repeatable=True, timeout=60.0 * (LONGEST + 5))
async def delegate(
    context: ToolContext,
    task: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            description="What to do and what to answer with, complete: nothing of this conversation is known there.",
        ),
    ],
    background: Annotated[
        bool, Field(description="Go on at once; the answer comes later, as a message. Several run side by side.")
    ] = False,
    tools: Annotated[
        list[_Name] | None,
        Field(max_length=100, description="Names of the tools it may use; all of yours if left out."),
    ] = None,
    model: Annotated[_Name | None, Field(description="Another model, by its name; yours if left out.")] = None,
    minutes: Annotated[int, Field(ge=1, le=LONGEST, description="When its time is up, it is stopped.")] = 30,
) -> ToolResult:
    """Gives a task to a helper that works on it by itself, with a context of its own, and returns its answer.

    Use it for what is large and can be described in full: research, a search through many files, a self-contained
    piece of work. It cannot ask people anything.
    """
    delegated = DelegatedTask(task, None if tools is None else tuple(tools), model or "", 60.0 * minutes)
    if not background:
        return await context.background.delegate(context.call_id, delegated, context.progress)
    handle = await context.background.start(context.call_id, delegated)
    return ToolResult(BEGUN.format(handle=handle))
