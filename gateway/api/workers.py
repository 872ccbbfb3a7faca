"""The processes that work on the database, and the end of one of them."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Annotated, assert_never

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from gateway.api.caller import Caller, Operator
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.store.process import WorkerState, state_of
from gateway.store.records import AuditEvent

log = logging.getLogger(__name__)


class Worker(BaseModel):
    """`lease` is in seconds: without another beat, others go on with its work after them; null if it is the only
    process that the database can have. It runs `turns` of at most `room`. `connectors` are what it listens on, and
    the webhooks that it sends to, for all. `asked`: it is the one that answers this request."""

    id: str
    host: str
    pid: int
    version: str
    since: datetime
    state: WorkerState
    lease: float | None
    turns: int
    room: int
    connectors: list[str]
    asked: bool


class Workers(BaseModel):
    """Oldest first."""

    workers: list[Worker]


class Draining(BaseModel):
    """The worker takes nothing new, and ends after its `turns`."""

    id: str
    turns: int


def _unlimited(caller: Operator) -> Caller:
    if not caller.is_unlimited:
        raise Problem(403, "key_limited", "A key for some conversations or agents cannot do what concerns all of them.")
    return caller


Unlimited = Annotated[Caller, Depends(_unlimited)]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["operations"])

    @routes.get("/workers")
    async def workers(caller: Unlimited) -> Workers:
        """The processes that work on the database."""
        return Workers(workers=await _workers(gateway))

    @routes.post("/workers/{worker}/drain", status_code=202)
    async def drain(worker: str, caller: Unlimited) -> Draining:
        """Ends a worker after its running turns. Others listen in its place, and go on with what does not end. The last
        one that works is not ended."""
        found = await _workers(gateway)
        wanted = next((each for each in found if each.id == worker and each.state != "dead"), None)
        if wanted is None:
            raise Problem(404, "worker_not_found", "No worker has this id.")
        if not any(each.state == "works" for each in found if each.id != worker):
            raise _last()
        if wanted.state == "works":
            await _drain(gateway, caller, wanted)
        return Draining(id=worker, turns=wanted.turns)

    return routes


async def _drain(gateway: Gateway, caller: Caller, worker: Worker) -> None:
    detail = {"worker": worker.id, "host": worker.host}
    event = AuditEvent("worker_drained", caller.actor, caller.sender.name, detail=detail)
    match await gateway.store.drain_worker(worker.id, event):
        case "told":
            pass
        case "gone":
            raise Problem(404, "worker_not_found", "The worker has ended already.")
        case "last":
            raise _last()
        case outcome:
            assert_never(outcome)
    log.info("worker %s is told to end by %s", worker.id, caller.actor)


def _last() -> Problem:
    return Problem(409, "last_worker", "No other worker would go on. Start another one first.")


async def _workers(gateway: Gateway) -> list[Worker]:
    turns, room = gateway.running_turns()
    found = []
    for each in await gateway.store.list_workers():
        # What a worker last said of itself is some seconds old, and on SQLite it says nothing.
        own = each.id == gateway.store.worker
        found.append(
            Worker(
                id=each.id,
                host=each.host,
                pid=each.pid,
                version=each.version,
                since=each.started_at,
                state=state_of(each),
                lease=None if each.left is None else round(max(each.left, 0.0), 1),
                turns=turns if own else each.running,
                room=room if own else each.room,
                connectors=list(each.connectors),
                asked=own,
            )
        )
    return found
