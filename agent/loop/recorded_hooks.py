"""Hooks that note how often they were asked, how long that took and what they decided, for the entries of the log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from agent.hook import HookContext, Hooks, Point, Ruled, Subject, ToolCall, ToolEnd
from agent.log import ApprovalRequested, CallEnded, Entry, HookAsked, ModelAnswered

S = TypeVar("S", bound=Subject)


class RecordedHooks:
    """Implements `agent.hook.Hooks` for one turn."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._asked: dict[tuple[str, str], HookAsked] = {}

    def active(self, point: Point) -> bool:
        return self._hooks.active(point)

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        if not self._hooks.active(point):
            return subject, None
        begun = time.monotonic()
        changed, ruled = await self._hooks.ask(point, context, subject)
        self._note(point, subject, time.monotonic() - begun, ruled, is_changed=changed != subject)
        return changed, ruled

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        self._hooks.observe(context, event)

    def attached(self, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """The entries with what was noted since the last: of a call with its request for approval or its result, of the
        model with its answer."""
        return tuple(map(self._attached, entries))

    def _attached(self, entry: Entry) -> Entry:
        match entry:
            case ModelAnswered():
                return self._with(entry, {key for key in self._asked if not key[1]})
            case ApprovalRequested(id=call_id) | CallEnded(call_id=call_id):
                return self._with(entry, {key for key in self._asked if key[1] == call_id})
            case _:
                return entry

    def left(self) -> tuple[HookAsked, ...]:
        """What was noted and belongs to no entry: for the end of the turn."""
        found = tuple(self._asked.values())
        self._asked.clear()
        return found

    def _with(self, entry: ModelAnswered | ApprovalRequested | CallEnded, keys: set[tuple[str, str]]) -> Entry:
        found = tuple(self._asked.pop(key) for key in list(self._asked) if key in keys)
        return replace(entry, hooks=(*entry.hooks, *found)) if found else entry

    def _note(self, point: Point, subject: Subject, seconds: float, ruled: Ruled | None, *, is_changed: bool) -> None:
        """Several questions at one point about the same are one note, with the last decision."""
        call = subject.call_id if isinstance(subject, ToolCall | ToolEnd) else ""
        before = self._asked.get((point, call), HookAsked(point, call_id=call))
        self._asked[point, call] = replace(
            before,
            times=before.times + 1,
            seconds=round(before.seconds + seconds, 3),
            ruling=before.ruling if ruled is None else type(ruled.ruling).__name__.lower(),
            by=before.by if ruled is None else ruled.hook,
            changed=before.changed or is_changed,
        )
