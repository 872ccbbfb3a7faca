"""Audit events of a turn's tool calls: of those that are not known to only read, and of those that ask the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.log import SAMPLING, Call, CallEnded, CallStarted, Entry, ModelAnswered, Spent
from agent.tool import Effect
from agent.toolset import Toolset
from gateway.store.records import AuditEvent, AuditKind, Turn
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
        return (*self._started(entries), *self._asked(entries))

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

    def _asked(self, entries: Iterable[Entry]) -> Iterator[AuditEvent]:
        """What calls have asked the model is logged with it just before their results."""
        asked: list[str] = []
        for entry in entries:
            match entry:
                case Spent(purpose=purpose) if purpose == SAMPLING:
                    asked.append(entry.model)
                case CallEnded() if asked:
                    call = self._calls.get(entry.call_id)
                    for model in dict.fromkeys(asked):
                        detail = {"tool": call.name if call else "", "model": model, "requests": asked.count(model)}
                        yield self._audited("model_asked", detail)
                    asked = []
                case _:
                    pass

    def _effect(self, name: str) -> Effect:
        return next((tool.effect for tool in self._tools if tool.name == name), "external")

    def _event(self, tool: str, effect: Effect, arguments: str) -> AuditEvent:
        return self._audited("tool_call", {"tool": tool, "effect": effect, "arguments": arguments[:MAX_ARGUMENTS]})

    def _audited(self, kind: AuditKind, detail: Mapping[str, object]) -> AuditEvent:
        turn = self._turn
        actor = person_on(turn.address, turn.principal)
        return AuditEvent(kind, actor, turn.principal.name, turn.session, {**detail, "turn": turn.id})
