"""The command that says how the last answer was made: `/how`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from agent.log import SAMPLING, Call, CallEnded, Entry, ModelAnswered, Spent
from agent.log_state import calls_of
from agent.tools.titles import call_title
from gateway.outbound.call_lines import code, one_line
from gateway.outbound.wording import dollars
from gateway.store.records import Command, Turn, UsageTotals
from gateway.turns.agents import MAIN, Agents
from gateway.turns.budgets import UsageStore

NOTHING = "There is no answer yet in this conversation."

MAX_CALLS = 30
MAX_LENGTH = 500
"""Characters of what a call was asked for, and of how its result was made."""


class HowStore(UsageStore, Protocol):
    async def newest_turn(self, session: str) -> str | None: ...
    async def turn(self, turn_id: str) -> Turn: ...


class HowCommand:
    def __init__(self, store: HowStore, agents: Agents) -> None:
        self._store = store
        self._agents = agents

    async def how(self, command: Command) -> str:
        """The agent, the models, the tools with what they were asked for and how they made it, and the cost. Calls that
        people are not shown are not named here either."""
        newest = await self._store.newest_turn(command.session)
        if newest is None:
            return NOTHING
        turn, spent = await self._store.turn(newest), await self._store.spent(turn=newest)
        lines = list(_lines(turn.entries, spent))
        name = self._agents.pick(turn.agent, turn.address, turn.principal)
        if lines and name != MAIN:
            lines.insert(0, f"- the agent {code(name)}")
        return "The last answer was made by:\n\n" + "\n".join(lines) if lines else NOTHING


def _lines(entries: Sequence[Entry], spent: UsageTotals) -> Iterator[str]:
    yield from _models(entries)
    ends = {entry.call_id: entry for entry in entries if isinstance(entry, CallEnded)}
    calls = [call for call in calls_of(entries) if (end := ends.get(call.id)) is None or not end.silent]
    yield from (_call(call, ends.get(call.id)) for call in calls[-MAX_CALLS:])
    if len(calls) > MAX_CALLS:
        yield f"- {len(calls) - MAX_CALLS} earlier calls"
    if calls or spent.calls:
        yield f"\nIt cost {dollars(spent.cost)}."


def _models(entries: Sequence[Entry]) -> Iterator[str]:
    answers = [entry.model for entry in entries if isinstance(entry, ModelAnswered) and entry.model]
    for model in dict.fromkeys(answers):
        steps = answers.count(model)
        yield f"- the model {code(model)}, in {steps} step{'' if steps == 1 else 's'}"
    asked = [entry.model for entry in entries if isinstance(entry, Spent) and entry.purpose == SAMPLING]
    for model in dict.fromkeys(asked):
        times = asked.count(model)
        yield f"- the model {code(model)}, which a tool asked {times} time{'' if times == 1 else 's'}"


def _call(call: Call, end: CallEnded | None) -> str:
    asked = code(one_line(call_title(call.name, call.arguments), MAX_LENGTH))
    if end is None:
        return f"- {asked}: running"
    outcome = "" if end.outcome == "done" else f": {end.outcome}"
    how = f" ({code(one_line(end.how, MAX_LENGTH))})" if end.how else ""
    return f"- {asked}{outcome}{how}"
