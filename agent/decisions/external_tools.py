"""External tools: the sender of a message declares them, runs their calls and supplies the results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.log import Call, CallEnded, CallStarted, DeclaredTool, Entry, MessagesRead, ModelAnswered
from agent.tool import AnyArguments, SchemaTool, Tool, ToolContext, ToolError

SUPERSEDED = (
    "Cancelled: a new message arrived before a result was supplied. The call may still have been run, fully or in part."
)
TIMED_OUT = "No result was supplied in time. The call may still have been run, fully or in part."


async def _never_run(context: ToolContext) -> str:
    raise ToolError("this tool runs externally")


@dataclass(frozen=True, slots=True)
class ExternalTool(SchemaTool):
    """A declared tool."""


def external_tool(tool: DeclaredTool) -> ExternalTool:
    """The declared tool as a `Tool` for the loop."""
    return ExternalTool(
        name=tool.name,
        description=tool.description,
        arguments=AnyArguments,
        run=_never_run,
        effect="external",
        on_steer="finish",
        timeout=0.0,
        schema=tool.schema,
    )


def available_tools(own: Sequence[Tool], entries: Iterable[Entry]) -> tuple[Tool, ...]:
    """The agent's tools, and those declared with messages. Of one name, the agent's tool wins, then the newest."""
    declared = {
        tool.name: tool
        for entry in entries
        if isinstance(entry, MessagesRead)
        for message in entry.messages
        for tool in message.tools
    }
    names = {tool.name for tool in own}
    return (*own, *(external_tool(tool) for name, tool in declared.items() if name not in names))


def pending(entries: Sequence[Entry]) -> tuple[Call, ...]:
    """The calls that wait for their results, in the model's order, with the arguments to run them with."""
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    started = {
        entry.call_id: entry.arguments
        for entry in entries
        if isinstance(entry, CallStarted) and entry.until is not None
    }
    calls = (call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)
    return tuple(Call(call.id, call.name, started[call.id]) for call in calls if call.id in started.keys() - ended)


def results_deadline(entries: Sequence[Entry]) -> float | None:
    """When the wait for results ends, in seconds since 1970; None if no call waits."""
    waiting = {call.id for call in pending(entries)}
    times = (entry.until for entry in entries if isinstance(entry, CallStarted) and entry.call_id in waiting)
    return min((until for until in times if until is not None), default=None)


def endings_without_result(entries: Sequence[Entry], *, overdue: bool = False) -> tuple[CallEnded, ...]:
    """The end of each pending call without a result: a message arrived instead, or the time is over (`overdue`)."""
    if overdue:
        return tuple(CallEnded(call.id, "failed", TIMED_OUT) for call in pending(entries))
    return tuple(CallEnded(call.id, "cancelled", SUPERSEDED) for call in pending(entries))


def check_results(supplied: Sequence[str], entries: Sequence[Entry]) -> str:
    """What is wrong with results of these calls, as text; "" if there is exactly one for each pending call."""
    waiting = [call.id for call in pending(entries)]
    ended = {entry.call_id: entry.outcome for entry in entries if isinstance(entry, CallEnded)}
    duplicates = [id for id in dict.fromkeys(supplied) if supplied.count(id) > 1]
    late = [f"{id} ({ended[id]})" for id in dict.fromkeys(supplied) if id in ended]
    unknown = [id for id in dict.fromkeys(supplied) if id not in ended and id not in waiting]
    missing = [id for id in waiting if id not in supplied]
    errors = {
        "no longer pending": late,
        "not a call of this run that waits for a result": unknown,
        "given twice": duplicates,
        "missing": missing,
    }
    return "; ".join(f"{what}: {', '.join(ids)}" for what, ids in errors.items() if ids)
