"""Scheduled tasks: listed, made and cancelled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from agent.schedules import MAX_TASK, ScheduleError, checked_task, time_of
from gateway.api.bodies import CLIENT_ID
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.events import Person
from gateway.api.ids import conversation_id, session_of
from gateway.api.places import find_place, find_place_to_write
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.schedules import Schedule as StoredSchedule


class Schedule(BaseModel):
    """A task of the `owner`, which the agent does in the conversation when it is `due`, and then by `cron` ("": once)
    in the `timezone` ("": that of the machine)."""

    id: str
    conversation: str
    owner: Person
    task: str
    due: datetime
    cron: str
    timezone: str
    created_at: datetime


class Schedules(BaseModel):
    """The next one first."""

    schedules: list[Schedule]


class NewSchedule(BaseModel, extra="forbid"):
    """When it is due is said by one of `at` (a date and time, like "2026-12-24T09:00"), `in_minutes` and `cron`."""

    client_id: str = Field(pattern=CLIENT_ID)
    task: str = Field(min_length=1, max_length=MAX_TASK)
    at: str | None = Field(default=None, max_length=40)
    in_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    cron: str | None = Field(default=None, max_length=100)
    timezone: str = Field(default="", max_length=64, description="An IANA name, like Europe/Berlin.")


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["schedules"])

    @routes.get("/schedules")
    async def every_schedule(caller: Reader) -> Schedules:
        """The scheduled tasks of all conversations that the caller sees."""
        found = await gateway.store.every_schedule()
        return Schedules(schedules=[_shown(each) for each in found if caller.sees(conversation_id(each.session))])

    @routes.get("/conversations/{conversation}/schedules")
    async def schedules(caller: Reader, conversation: str) -> Schedules:
        """Those of one conversation, which may not have begun yet."""
        session = session_of(conversation)
        found = await gateway.schedules.of(session) if caller.sees(conversation_id(session)) else ()
        if not found:
            await find_place(gateway, caller, conversation)
        return Schedules(schedules=list(map(_shown, found)))

    @routes.post("/conversations/{conversation}/schedules", status_code=201)
    async def schedule(caller: Writer, conversation: str, new: NewSchedule) -> Schedule:
        """Schedules a task, once for each `client_id`. At its time it is a message of the caller's."""
        _require_all_agents(caller)
        place = await find_place_to_write(gateway, caller, conversation)
        owner = caller.sender_at(place.address)
        made_by = f"{caller.actor} {place.id} {new.client_id}"
        try:
            task = checked_task(new.task)
            due, timing = time_of(new.at, new.in_minutes, new.cron, new.timezone, datetime.now(UTC))
        except ScheduleError as error:
            raise Problem(422, "invalid_request", str(error)) from error
        try:
            added = await gateway.schedules.add(place.session, place.address, owner, made_by, task, due, timing)
        except ScheduleError as error:
            raise Problem(409, "too_many_schedules", str(error)) from error
        return _shown(added)

    @routes.delete("/conversations/{conversation}/schedules/{schedule}")
    async def cancel(caller: Writer, conversation: str, schedule: str) -> Schedule:
        """Cancels a scheduled task; in a group one of the caller's, unless the key may operate."""
        _require_all_agents(caller)
        session = session_of(conversation)
        found = await gateway.store.find_schedule(schedule) if caller.sees(conversation_id(session)) else None
        if found is None or found.session != session:
            raise _not_found()
        is_free = found.address.kind == "direct" or caller.may("operate")
        if not is_free and caller.sender_at(found.address).id != found.owner.id:
            raise Problem(403, "not_allowed", "Only its owner and operators may cancel it.")
        if await gateway.store.cancel_schedule(session, schedule) is None:
            raise _not_found()
        return _shown(found)

    return routes


def _require_all_agents(caller: Caller) -> None:
    if caller.agents is not None:
        raise Problem(403, "key_limited", "A key for some agents cannot decide on what another may do by then.")


def _not_found() -> Problem:
    return Problem(404, "schedule_not_found", "This conversation has no scheduled task with this id.")


def _shown(schedule: StoredSchedule) -> Schedule:
    task = schedule.task
    return Schedule(
        id=schedule.id,
        conversation=conversation_id(schedule.session),
        owner=Person(id=schedule.owner.id, name=schedule.owner.name),
        task=task.task,
        due=task.due,
        cron=task.timing.cron,
        timezone=task.timing.zone,
        created_at=schedule.created_at,
    )
