"""Tools that are run outside: those who write a message declare them, and give the results of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from agent.log import Call, CallEnded, CallStarted, DeclaredTool, Entry, MessagesRead, ModelAnswered
from agent.model import ToolSpec
from agent.tool import Tool, ToolContext, ToolError

SUPERSEDED = (
    "Cancelled: a new message arrived before a result was supplied. The call may still have been run, fully or in part."
)
TIMED_OUT = "No result was supplied in time. The call may still have been run, fully or in part."


class _Anything(BaseModel):
    """Arguments that only whoever runs the tool can check."""

    model_config = ConfigDict(extra="allow")


async def _never_run(context: ToolContext) -> str:
    raise ToolError("this tool runs externally")


@dataclass(frozen=True, slots=True)
class ExternalTool(Tool):
    """A declared tool among the others. `check` only makes sure that the arguments are a JSON object."""

    schema: dict[str, Any] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", ToolSpec(self.name, self.description, self.schema))


@dataclass(frozen=True, slots=True)
class ExternalResult:
    """What somebody says is the result of a call."""

    call_id: str
    text: str
    failed: bool = False


def external_tool(tool: DeclaredTool) -> ExternalTool:
    """The tool as the loop knows tools."""
    return ExternalTool(
        name=tool.name,
        description=tool.description,
        arguments=_Anything,
        run=_never_run,
        effect="external",
        on_steer="finish",
        timeout=0.0,
        schema=tool.schema,
    )


def available_tools(own: Sequence[Tool], entries: Iterable[Entry]) -> tuple[Tool, ...]:
    """Our own tools, and those that were declared with what the turn has heard: of one name ours, else the newest."""
    found = {
        tool.name: tool
        for entry in entries
        if isinstance(entry, MessagesRead)
        for said in entry.messages
        for tool in said.tools
    }
    names = {tool.name for tool in own}
    return (*own, *(external_tool(tool) for name, tool in found.items() if name not in names))


def pending(entries: Sequence[Entry]) -> tuple[Call, ...]:
    """The calls whose results are waited for, in the order in which they were asked for, with the arguments that they
    are to be run with."""
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    begun = {
        entry.call_id: entry.arguments
        for entry in entries
        if isinstance(entry, CallStarted) and entry.until is not None
    }
    calls = (call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)
    return tuple(Call(call.id, call.name, begun[call.id]) for call in calls if call.id in begun.keys() - ended)


def results_deadline(entries: Sequence[Entry]) -> float | None:
    """Until when the results are waited for, in seconds since 1970; None if none are."""
    waiting = {call.id for call in pending(entries)}
    times = (entry.until for entry in entries if isinstance(entry, CallStarted) and entry.call_id in waiting)
    return min((until for until in times if until is not None), default=None)


def endings_without_result(entries: Sequence[Entry], *, overdue: bool = False) -> tuple[CallEnded, ...]:
    """The end of each call that gets no result: as something was said instead, or as nobody gave it in time."""
    if overdue:
        return tuple(CallEnded(call.id, "failed", TIMED_OUT) for call in pending(entries))
    return tuple(CallEnded(call.id, "cancelled", SUPERSEDED) for call in pending(entries))


def check(results: Sequence[ExternalResult], entries: Sequence[Entry]) -> str:
    """What is wrong with the results, in words; "" if there is exactly one for each call that waits for one."""
    waiting = [call.id for call in pending(entries)]
    given = [result.call_id for result in results]
    over = {entry.call_id: entry.outcome for entry in entries if isinstance(entry, CallEnded)}
    twice = [id for id in dict.fromkeys(given) if given.count(id) > 1]
    late = [f"{id} ({over[id]})" for id in dict.fromkeys(given) if id in over]
    foreign = [id for id in dict.fromkeys(given) if id not in over and id not in waiting]
    missing = [id for id in waiting if id not in given]
    wrong = {
        "no longer pending": late,
        "not a call of this run that waits for a result": foreign,
        "given twice": twice,
        "missing": missing,
    }
    return "; ".join(f"{what}: {', '.join(ids)}" for what, ids in wrong.items() if ids)
