"""Audit events of a turn's tool calls: those that are not known to only read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.log import Call, CallStarted, Entry, ModelAnswered
from agent.tool import Effect
from agent.toolset import Toolset
from gateway.store.records import AuditEvent, Turn
from gateway.turns.budgets import person_on

MAX_ARGUMENTS = 10_000
"""Characters of a call's arguments in the audit log."""


class AuditedCalls:
    """Knows the calls that the model has asked for, and says which of those that start have effects."""

    def __init__(self, turn: Turn, tools: Toolset) -> None:
        self._turn = turn
        self._tools = tools
        self._calls: dict[str, Call] = {}
        self._learn(turn.entries)

    def events(self, entries: Iterable[Entry]) -> tuple[AuditEvent, ...]:
        """The events of entries that are about to be added to the log."""
        entries = tuple(entries)
        self._learn(entries)
        return tuple(self._started(entries))

    def _learn(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if isinstance(entry, ModelAnswered):
                self._calls |= {call.id: call for call in entry.calls}

    def _started(self, entries: Iterable[Entry]) -> Iterator[AuditEvent]:
        for entry in entries:
            call = self._calls.get(entry.call_id) if isinstance(entry, CallStarted) else None
            if isinstance(entry, CallStarted) and call is not None:
                tool = entry.tool or call.name
                effect = self._effect(tool)
                if effect != "read":
                    yield self._event(tool, effect, entry.arguments or call.arguments)

    def _effect(self, name: str) -> Effect:
        return next((tool.effect for tool in self._tools if tool.name == name), "external")

    def _event(self, tool: str, effect: Effect, arguments: str) -> AuditEvent:
        turn = self._turn
        detail = {"tool": tool, "effect": effect, "arguments": arguments[:MAX_ARGUMENTS], "turn": turn.id}
        actor = person_on(turn.address, turn.principal)
        return AuditEvent("tool_call", actor, turn.principal.name, turn.session, detail)
