"""Budgets: the operator's spending limits for turns and people, checked before each model call, and before tool calls
that cost something."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar
from uuid import uuid4

from agent.interrupt import cancel_and_wait
from agent.model import Request
from channels.address import Address, Sender
from gateway.lifecycle.retry import until_reached
from gateway.lifecycle.supervision import supervised
from gateway.outbound.wording import dollars
from gateway.sessions import is_child
from gateway.store.errors import StoreError
from gateway.store.records import Exceeded, SpendingCaps, Turn, UsageTotals

log = logging.getLogger(__name__)

T = TypeVar("T")

EVERYBODY = ""

RETRY = 1.0
"""Seconds until the next attempt to end reservations in the store."""

WHOSE = {
    "turn": "This task",
    "person": "What you asked for today",
    "everybody": "What everybody asked for today",
}


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

    def caps(self, times: int) -> SpendingCaps | None:
        """Each limit of a cost taken `times` times; None if there is none."""
        limits = (self.turn, self.person_daily, self.daily)
        if limits == (None, None, None):
            return None
        return SpendingCaps(*(None if limit is None else times * limit for limit in limits))


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


class SharedReservations(Protocol):
    """Those of all workers of a database. Raises `StoreError`."""

    async def reserve_spending(
        self,
        id: str,
        turn: str,
        person: str,
        cost: float,
        caps: SpendingCaps,
        today: datetime,
        ended: Collection[str] = (),
    ) -> Exceeded | None: ...
    async def release_spending(self, ids: Collection[str]) -> None: ...
    async def reserved_spending(self, person: str | None = None) -> float: ...


@dataclass(frozen=True, slots=True)
class Reservation:
    """`turn` is the one that all was delegated from."""

    id: str
    turn: str
    person: str
    cost: float


class Budgets:
    """`estimate` gives what a request may cost, in dollars, that is for a model if it names none. Reservations for
    running calls count as spent: they are in memory, or in `shared`, where several workers have the same limits. Use
    as `async with` then: what is released is ended there meanwhile."""

    def __init__(
        self,
        store: UsageStore,
        limits: SpendingLimits,
        estimate: Callable[[Request, str], float],
        shared: SharedReservations | None = None,
    ) -> None:
        self._store = store
        self._limits = limits
        self._estimate = estimate
        self._shared = shared
        self._reserved: defaultdict[str, float] = defaultdict(float)
        self._released: set[str] = set()
        self._news = asyncio.Event()
        self._releasing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Budgets:
        if self._shared is not None:
            self._releasing = asyncio.create_task(supervised(partial(self._release_shared, self._shared)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._releasing is not None:
            await cancel_and_wait(self._releasing)

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
            if bill.cost + (reserved := await self._reserved_by(person)) >= limits.person_daily:
                return _words(Exceeded("person", bill, reserved, limits.person_daily))
        if limits.daily is not None:
            bill = await self._store.spent(since=today)
            if bill.cost + (reserved := await self._reserved_by(EVERYBODY)) >= limits.daily:
                return _words(Exceeded("everybody", bill, reserved, limits.daily))
        return None

    async def _reserved_by(self, person: str) -> float:
        if self._shared is not None:
            return await self._shared.reserved_spending(None if person == EVERYBODY else person)
        return self._reserved.get(person, 0.0)

    async def reserve(
        self,
        limits: SpendingLimits,
        turn: str,
        person: str,
        model: str,
        request: Request,
        extensions: int,
        task: str | None,
    ) -> tuple[str | None, Reservation | None]:
        """The limit that the request would exceed, in words, or what is reserved for it."""
        if not limits:
            return None, None
        if used_up := await self._used_up(limits.task_tokens, turn, task):
            return used_up, None
        return await self.reserve_cost(limits, turn, person, self._estimate(request, model), extensions)

    async def reserve_cost(
        self, limits: SpendingLimits, turn: str, person: str, cost: float, extensions: int
    ) -> tuple[str | None, Reservation | None]:
        """The limit that this cost would exceed, in words, or what is reserved for it."""
        caps = limits.caps(1 + extensions)
        if caps is None:
            return None, None
        wanted = Reservation(uuid4().hex, turn, person, cost)
        exceeded = await (self._reserve_here(wanted, caps) if self._shared is None else self._reserve(wanted, caps))
        return (None, wanted) if exceeded is None else (_words(exceeded), None)

    async def _reserve_here(self, wanted: Reservation, caps: SpendingCaps) -> Exceeded | None:
        # Reserved before the first await, so that two concurrent calls cannot both take the rest.
        self._add_reserved(wanted, wanted.cost)
        is_held = False
        try:
            exceeded = await self._exceeded(caps, wanted.turn, wanted.person)
            is_held = exceeded is None
        finally:
            # Also on cancellation.
            if not is_held:
                self._add_reserved(wanted, -wanted.cost)
        return exceeded

    async def _reserve(self, wanted: Reservation, caps: SpendingCaps) -> Exceeded | None:
        assert self._shared is not None
        ended = frozenset(self._released)
        try:
            exceeded = await self._shared.reserve_spending(
                wanted.id, wanted.turn, wanted.person, wanted.cost, caps, midnight(), ended
            )
        except BaseException:
            # It may have been reserved, or still be.
            self.release(wanted)
            raise
        self._released -= ended
        return exceeded

    async def _used_up(self, limit: int | None, turn: str, task: str | None) -> str | None:
        """Why the delegated task may not go on, if it has used all its tokens."""
        if limit is None or task is None:
            return None
        bill = await self._store.spent(turn=turn, task=task)
        used = bill.input + bill.output
        return None if used < limit else f"This task has used {used:,} tokens, and the limit is {limit:,}."

    async def _exceeded(self, caps: SpendingCaps, turn: str, person: str) -> Exceeded | None:
        """The limit exceeded by costs and reservations."""
        today = midnight()
        if caps.turn is not None:
            bill = await self._store.spent(turn=turn)
            if bill.cost + self._reserved[turn] > caps.turn:
                return Exceeded("turn", bill, self._reserved[turn], caps.turn)
        if caps.person_daily is not None:
            bill = await self._store.spent(person=person, since=today)
            if bill.cost + self._reserved[person] > caps.person_daily:
                return Exceeded("person", bill, self._reserved[person], caps.person_daily)
        if caps.daily is not None:
            bill = await self._store.spent(since=today)
            if bill.cost + self._reserved[EVERYBODY] > caps.daily:
                return Exceeded("everybody", bill, self._reserved[EVERYBODY], caps.daily)
        return None

    def release(self, reservation: Reservation) -> None:
        if self._shared is None:
            self._add_reserved(reservation, -reservation.cost)
        else:
            self._released.add(reservation.id)
            self._news.set()

    async def _release_shared(self, shared: SharedReservations) -> None:
        """Until cancelled; what is left then ends with the worker."""
        while True:
            await self._news.wait()
            self._news.clear()
            if not (released := frozenset(self._released)):
                continue
            try:
                await shared.release_spending(released)
            except StoreError as error:
                log.warning("%d reservations of costs cannot be ended yet, trying again: %s", len(released), error)
                self._news.set()
                await asyncio.sleep(RETRY)
            else:
                self._released -= released

    def _add_reserved(self, reservation: Reservation, cost: float) -> None:
        for key in (reservation.turn, reservation.person, EVERYBODY):
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
        self._held: Reservation | None = None
        self._held_for: dict[str, Reservation | None] = {}

    async def reserve(self, request: Request, extensions: int) -> str | None:
        limit, self._held = await self._reserve(request, extensions)
        return limit

    async def _reserve(self, request: Request, extensions: int) -> tuple[str | None, Reservation | None]:
        return await self._until_reached(
            lambda: self._budgets.reserve(
                self._limits, self._turn, self._person, self._model, request, extensions, self._task
            )
        )

    async def _until_reached(self, reserve: Callable[[], Awaitable[T]]) -> T:
        return await until_reached(reserve, f"turn {self._turn}")

    def release(self) -> None:
        self._release(self._held)
        self._held = None

    async def reserve_call(self, call_id: str, cost: float, extensions: int) -> str | None:
        limit, self._held_for[call_id] = await self._until_reached(
            lambda: self._budgets.reserve_cost(self._limits, self._turn, self._person, cost, extensions)
        )
        return limit

    async def reserve_request(self, call_id: str, request: Request, extensions: int) -> str | None:
        limit, self._held_for[call_id] = await self._reserve(request, extensions)
        return limit

    def release_call(self, call_id: str) -> None:
        self._release(self._held_for.pop(call_id, None))

    def _release(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            self._budgets.release(reservation)


def person_on(address: Address, sender: Sender) -> str:
    """The key of a person's costs: one per channel and sender id."""
    return f"{address.channel}:{sender.id}"


def _words(exceeded: Exceeded) -> str:
    bill, limit = exceeded.bill, exceeded.limit
    to_come = "" if bill.cost >= limit else f" what comes next costs about {dollars(exceeded.reserved)},"
    return f"{WHOSE[exceeded.whose]} has cost {dollars(bill.cost)},{to_come} and the limit is {dollars(limit)}."


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
