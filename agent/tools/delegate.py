"""The delegate tool: runs a task in a turn of its own, awaited or in the background."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.background import DelegatedTask
from agent.tool import ToolContext, tool
from agent.tool_result import ToolResult

MAX_MINUTES = 240
"""The longest time limit of a task."""

STARTED = (
    "The task runs in the background as {handle}; its answer will arrive as a message. Do not wait for it: continue "
    "with other work, or tell the person that you will get back to them."
)

_Name = Annotated[str, Field(min_length=1, max_length=100)]


# Repeatable, since the call's id finds the same turn again. Steering ends only the waiting, not the task.
@tool(effect="external", on_steer="background", repeatable=True, timeout=60.0 * (MAX_MINUTES + 5))
async def delegate(
    context: ToolContext,
    task: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            description="What to do and what to answer, in full: the task does not see this conversation.",
        ),
    ],
    background: Annotated[
        bool,
        Field(description="Return at once; the answer arrives later, as a message. Several tasks run in parallel."),
    ] = False,
    tools: Annotated[
        list[_Name] | None,
        Field(max_length=100, description="Names of the tools it may use; default: all of yours."),
    ] = None,
    model: Annotated[_Name | None, Field(description="Name of another model; default: yours.")] = None,
    agent: Annotated[
        _Name | None, Field(description="Name of another agent that you may delegate to; default: one like you.")
    ] = None,
    minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES, description="Time limit; the task is stopped then.")] = 30,
) -> ToolResult:
    """Delegates a task to a subagent, which works on it with a context of its own, and returns its answer.

    Use it for large tasks that can be described in full: research, a search through many files, a self-contained
    piece of work. The subagent cannot ask people anything.
    """
    delegated = DelegatedTask(task, None if tools is None else tuple(tools), model or "", 60.0 * minutes, agent or "")
    if not background:
        return await context.background.delegate(context.call_id, delegated, context.progress)
    handle = await context.background.start(context.call_id, delegated)
    return ToolResult(STARTED.format(handle=handle))
