"""Budgets: the operator's spending limits for turns and people, checked before each model call, and before tool calls
that cost something."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from agent.model import Request
from channels.address import Address, Sender
from gateway.outbound.wording import dollars
from gateway.sessions import is_child
from gateway.store.records import Turn, UsageTotals

EVERYBODY = ""


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """In dollars, except `task_tokens`, the limit of each delegated task; None is no limit. Days begin at midnight
    UTC."""

    turn: float | None = None
    person_daily: float | None = None
    daily: float | None = None
    task_tokens: int | None = None

    def __bool__(self) -> bool:
        return (self.turn, self.person_daily, self.daily, self.task_tokens) != (None, None, None, None)


class UsageStore(Protocol):
    async def spent(
        self,
        *,
        turn: str | None = None,
        session: str | None = None,
        person: str | None = None,
        since: datetime | None = None,
        task: str | None = None,
    ) -> UsageTotals: ...


class Budgets:
    """`estimate` gives what a request may cost, in dollars, that is for a model if it names none. Reservations for
    running calls count as spent."""

    def __init__(self, store: UsageStore, limits: SpendingLimits, estimate: Callable[[Request, str], float]) -> None:
        self._store = store
        self._limits = limits
        self._estimate = estimate
        self._reserved: defaultdict[str, float] = defaultdict(float)

    def use(self, limits: SpendingLimits, estimate: Callable[[Request, str], float]) -> None:
        """For all turns that begin from now on."""
        self._limits = limits
        self._estimate = estimate

    def of(
        self, turn: Turn, person_daily: float | None = None, turn_cost: float | None = None, model: str = ""
    ) -> TurnBudget:
        """`person_daily`: the limit of the person who began it, `turn_cost`: that of the turn with its delegated tasks,
        if they are others than those of everybody. `model` is the model of requests that name none."""
        limits = self._of_person(person_daily)
        limits = limits if turn_cost is None else replace(limits, turn=turn_cost)
        task = turn.id if is_child(turn.session) else None
        return TurnBudget(self, limits, turn.root, person_on(turn.address, turn.principal), model, task)

    def _of_person(self, person_daily: float | None) -> SpendingLimits:
        return self._limits if person_daily is None else replace(self._limits, person_daily=person_daily)

    async def used_up_today(self, address: Address, sender: Sender, person_daily: float | None = None) -> str | None:
        """The limit for a day that is used up, in words: the person's (`person_daily`: see `of`) or everybody's."""
        limits, today = self._of_person(person_daily), midnight()
        person = person_on(address, sender)
        if limits.person_daily is not None:
            bill = await self._store.spent(person=person, since=today)
            if bill.cost + (reserved := self._reserved.get(person, 0.0)) >= limits.person_daily:
                return _words("What you asked for today", bill, reserved, limits.person_daily)
        if limits.daily is not None:
            bill = await self._store.spent(since=today)
            if bill.cost + (reserved := self._reserved.get(EVERYBODY, 0.0)) >= limits.daily:
                return _words("What everybody asked for today", bill, reserved, limits.daily)
        return None

    async def reserve(
        self,
        limits: SpendingLimits,
        turn: str,
        person: str,
        model: str,
        request: Request,
        extensions: int,
        task: str | None,
    ) -> tuple[str | None, float]:
        """The limit that the request would exceed, in words, or the amount reserved for it."""
        if not limits:
            return None, 0.0
        if used_up := await self._used_up(limits.task_tokens, turn, task):
            return used_up, 0.0
        return await self.reserve_cost(limits, turn, person, self._estimate(request, model), extensions)

    async def reserve_cost(
        self, limits: SpendingLimits, turn: str, person: str, cost: float, extensions: int
    ) -> tuple[str | None, float]:
        """The limit that this cost would exceed, in words, or the amount reserved for it."""
        # Reserved before the first await, so that two concurrent calls cannot both take the rest.
        self._add_reserved(turn, person, cost)
        held = 0.0
        try:
            passed = await self._passed(limits, turn, person, 1 + extensions)
            held = cost if passed is None else 0.0
        finally:
            # Also on a refusal and on cancellation.
            self._add_reserved(turn, person, held - cost)
        return passed, held

    async def _used_up(self, limit: int | None, turn: str, task: str | None) -> str | None:
        """Why the delegated task may not go on, if it has used all its tokens."""
        if limit is None or task is None:
            return None
        bill = await self._store.spent(turn=turn, task=task)
        used = bill.input + bill.output
        return None if used < limit else f"This task has used {used:,} tokens, and the limit is {limit:,}."

    async def _passed(self, limits: SpendingLimits, turn: str, person: str, times: int) -> str | None:
        """The limit exceeded by costs and reservations, with each limit taken `times` times."""
        today = midnight()
        if limits.turn is not None:
            bill = await self._store.spent(turn=turn)
            if bill.cost + self._reserved[turn] > times * limits.turn:
                return _words("This task", bill, self._reserved[turn], times * limits.turn)
        if limits.person_daily is not None:
            bill = await self._store.spent(person=person, since=today)
            if bill.cost + self._reserved[person] > times * limits.person_daily:
                return _words("What you asked for today", bill, self._reserved[person], times * limits.person_daily)
        if limits.daily is not None:
            bill = await self._store.spent(since=today)
            if bill.cost + self._reserved[EVERYBODY] > times * limits.daily:
                return _words("What everybody asked for today", bill, self._reserved[EVERYBODY], times * limits.daily)
        return None

    def release(self, turn: str, person: str, cost: float) -> None:
        self._add_reserved(turn, person, -cost)

    def _add_reserved(self, turn: str, person: str, cost: float) -> None:
        for key in (turn, person, EVERYBODY):
            self._reserved[key] += cost
            if math.isclose(self._reserved[key], 0, abs_tol=1e-9):
                del self._reserved[key]


class TurnBudget:
    """Implements `agent.budget.Budget` for one turn."""

    def __init__(
        self, budgets: Budgets, limits: SpendingLimits, turn: str, person: str, model: str, task: str | None
    ) -> None:
        self._budgets = budgets
        self._limits = limits
        self._turn = turn
        self._person = person
        self._model = model
        self._task = task
        self._held = 0.0
        self._held_for: dict[str, float] = {}

    async def reserve(self, request: Request, extensions: int) -> str | None:
        limit, self._held = await self._reserve(request, extensions)
        return limit

    async def _reserve(self, request: Request, extensions: int) -> tuple[str | None, float]:
        return await self._budgets.reserve(
            self._limits, self._turn, self._person, self._model, request, extensions, self._task
        )

    def release(self) -> None:
        self._budgets.release(self._turn, self._person, self._held)
        self._held = 0.0

    async def reserve_call(self, call_id: str, cost: float, extensions: int) -> str | None:
        limit, self._held_for[call_id] = await self._budgets.reserve_cost(
            self._limits, self._turn, self._person, cost, extensions
        )
        return limit

    async def reserve_request(self, call_id: str, request: Request, extensions: int) -> str | None:
        limit, self._held_for[call_id] = await self._reserve(request, extensions)
        return limit

    def release_call(self, call_id: str) -> None:
        self._budgets.release(self._turn, self._person, self._held_for.pop(call_id, 0.0))


def person_on(address: Address, sender: Sender) -> str:
    """The key of a person's costs: one per channel and sender id."""
    return f"{address.channel}:{sender.id}"


def _words(whose: str, bill: UsageTotals, next_cost: float, limit: float) -> str:
    to_come = "" if bill.cost >= limit else f" what comes next costs about {dollars(next_cost)},"
    return f"{whose} has cost {dollars(bill.cost)},{to_come} and the limit is {dollars(limit)}."


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
