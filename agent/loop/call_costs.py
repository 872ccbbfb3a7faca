"""What the tool calls of a turn cost: reserved before they run, recorded while they run, logged with their results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from agent.budget import Budget
from agent.decisions.approvals import limit_extensions
from agent.log import Entry, Spent, Usage
from agent.log_state import step_of
from agent.tool import Charge, ToolError


class CallCosts:
    def __init__(self, budget: Budget, entries: Sequence[Entry]) -> None:
        """`entries` is the turn's log, which grows meanwhile."""
        self._budget = budget
        self._entries = entries
        self._spent: defaultdict[str, list[Spent]] = defaultdict(list)

    @asynccontextmanager
    async def reserved(self, call_id: str, cost: float) -> AsyncIterator[None]:
        """The call runs inside. Raises `ToolError` if its approximate cost would exceed a limit."""
        if not cost:
            yield
            return
        limit = await self._budget.reserve_call(call_id, cost, limit_extensions(self._entries))
        try:
            if limit is not None:
                raise ToolError(f"Not run: {limit}")
            yield
        finally:
            self._budget.release_call(call_id)

    def charge_for(self, call_id: str, purpose: str = "tool") -> Charge:
        """Records costs of this call until they are taken."""
        return partial(self._add, call_id, purpose)

    def take(self, call_id: str) -> tuple[Spent, ...]:
        """The entries of what this call has cost since they were taken last, for the log."""
        return tuple(self._spent.pop(call_id, ()))

    def take_all(self) -> tuple[Spent, ...]:
        return tuple(spent for call_id in list(self._spent) for spent in self.take(call_id))

    def _add(self, call_id: str, purpose: str, usage: Usage, name: str) -> None:
        self._spent[call_id].append(Spent(max(1, step_of(self._entries) - 1), usage, name, purpose))
