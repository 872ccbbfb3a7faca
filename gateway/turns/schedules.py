"""The scheduled tasks of conversations, as turns, people and programs make and cancel them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Protocol

from agent.schedules import NoSchedules, ScheduledTask, ScheduleError, Schedules, Timing
from channels.address import Address, Sender
from gateway.outbound.wording import escaped
from gateway.sessions import is_child
from gateway.store.records import Turn
from gateway.store.schedules import MAX_TASKS, Schedule

NOT_THERE = "There is no scheduled task {handle} in this conversation."
TOO_MANY = f"This conversation has {MAX_TASKS} scheduled tasks, as many as it may have. Cancel one first."
NOT_YOURS = "Only {name} and admins can cancel the scheduled task {handle}."


class ScheduleStore(Protocol):
    async def add_schedule(
        self,
        session: str,
        address: Address,
        owner: Sender,
        made_by: str,
        task: str,
        due: datetime,
        timing: Timing,
    ) -> Schedule | None: ...
    async def schedules_of(self, session: str) -> tuple[Schedule, ...]: ...
    async def cancel_schedule(self, session: str, id: str) -> Schedule | None: ...


class ScheduledTasks:
    """All methods raise `StoreError`."""

    def __init__(self, store: ScheduleStore) -> None:
        self._store = store
        self.changed = asyncio.Event()
        """Set when a task was scheduled by this process."""

    async def add(
        self, session: str, address: Address, owner: Sender, made_by: str, task: str, due: datetime, timing: Timing
    ) -> Schedule:
        """Schedules a task for its owner, with the rights of now; the same `made_by` finds what it has made before.
        Raises `ScheduleError`."""
        added = await self._store.add_schedule(session, address, owner, made_by, task, due, timing)
        if added is None:
            raise ScheduleError(TOO_MANY)
        self.changed.set()
        return added

    async def of(self, session: str) -> tuple[Schedule, ...]:
        """Those of the conversation, the next one first."""
        return await self._store.schedules_of(session)

    async def cancel(self, session: str, handle: str, person: str | None) -> Schedule:
        """Cancels a task of this person, None: of anybody. Raises `ScheduleError`."""
        found = next((each for each in await self.of(session) if each.id == handle), None)
        if found is not None and person not in (None, found.owner.id):
            raise ScheduleError(NOT_YOURS.format(name=escaped(found.owner.name), handle=handle))
        cancelled = None if found is None else await self._store.cancel_schedule(session, handle)
        if cancelled is None:
            raise ScheduleError(NOT_THERE.format(handle=handle))
        return cancelled

    def of_turn(self, record: Turn) -> Schedules:
        """Those of the turn's conversation; a side question and a delegated task schedule nothing."""
        return NoSchedules() if record.kind != "turn" or is_child(record.session) else TurnSchedules(self, record)


class TurnSchedules:
    """Implements `agent.schedules.Schedules` for whoever began the turn."""

    def __init__(self, all_tasks: ScheduledTasks, record: Turn) -> None:
        self._all = all_tasks
        self._record = record

    async def add(self, call_id: str, task: str, due: datetime, timing: Timing) -> ScheduledTask:
        record, made_by = self._record, f"{self._record.id} {call_id}"
        added = await self._all.add(record.session, record.address, record.principal, made_by, task, due, timing)
        return added.task

    async def tasks(self) -> tuple[ScheduledTask, ...]:
        return tuple(each.task for each in await self._all.of(self._record.session))

    async def cancel(self, handle: str) -> ScheduledTask:
        record = self._record
        person = None if record.address.kind == "direct" else record.principal.id
        return (await self._all.cancel(record.session, handle, person)).task
