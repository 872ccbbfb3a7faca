"""Stopping what runs in a conversation, and its queue."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from channels.message import InboundMessage, MessageStatus
from gateway.api.bodies import MAX_TEXT
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.places import Place, find_place, find_place_to_change, require_receiving
from gateway.api.problems import Problem
from gateway.api.runs import File, files_from
from gateway.app import Gateway
from gateway.bus import MessagesChanged
from gateway.inbound.task_commands import NotAllowed
from gateway.store.inbox import MAX_ROW_ID
from gateway.store.queue import QueuedMessage
from gateway.store.records import Busy, Command

REMOVED = "removed from the queue"


class Stopped(BaseModel):
    """What was stopped: `turn` is null if none ran; `step` and `calls` say where it was, `task` the same in words.
    `withdrawn` is the number of queued messages that nobody reads now, `background` are the names of background tasks.
    `ended` is false while the turn has not come to its end yet."""

    turn: str | None
    agent: str
    step: int | None
    calls: list[str]
    task: str
    withdrawn: int
    background: list[str]
    ended: bool


class Queued(BaseModel):
    """A message that waits. `busy` is what it does to the running turn. `ready`: its files are here."""

    id: int
    sender: str
    sender_name: str
    text: str
    files: list[File]
    busy: Busy
    ready: bool
    at: datetime


class Queue(BaseModel):
    messages: list[Queued]


class NewText(BaseModel, extra="forbid"):
    text: str = Field(min_length=1, max_length=MAX_TEXT)


class Cleared(BaseModel):
    withdrawn: int


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["control"])

    @routes.post("/conversations/{conversation}/stop")
    async def stop(
        caller: Writer,
        conversation: str,
        background: bool = Query(default=False, description="Also background tasks."),
    ) -> Stopped:
        """Stops the running or waiting turn, and withdraws the queued messages. Works while the gateway stops, too."""
        place = await find_place_to_change(gateway, caller, conversation)
        sender = caller.sender_at(place.address)
        command = Command(MAX_ROW_ID, place.session, place.address, sender, None, "stop", "")
        try:
            stopped = await gateway.tasks.stop_now(command, background=background)
        except NotAllowed as error:
            raise Problem(403, "not_allowed", str(error)) from error
        turn = stopped.turn
        return Stopped(
            turn=None if turn is None else turn.id,
            agent="" if turn is None else gateway.agents.pick(turn.agent, turn.address, turn.principal),
            step=stopped.step,
            calls=list(stopped.calls),
            task=stopped.task,
            withdrawn=stopped.withdrawn,
            background=list(stopped.background),
            ended=stopped.has_ended,
        )

    @routes.get("/conversations/{conversation}/queue")
    async def get_queue(caller: Reader, conversation: str) -> Queue:
        """The messages that no turn has read yet, in their order."""
        place = await find_place(gateway, caller, conversation)
        return Queue(messages=[_queued(place, each) for each in await gateway.store.queued(place.session)])

    @routes.patch("/conversations/{conversation}/queue/{message}")
    async def edit_queued(caller: Writer, conversation: str, message: int, new: NewText) -> Queue:
        """Changes the text of a message of the caller's that waits. The running turn goes on."""
        require_receiving(gateway)
        place, found = await _find(gateway, caller, conversation, message)
        sender = caller.sender_at(place.address)
        if found.sender.id != sender.id:
            raise Problem(403, "not_allowed", "Only whoever wrote a message may change it.")
        if found.row.message_id is None:
            raise Problem(409, "not_editable", "The channel cannot change this message: remove it, and send another.")
        event = f"api/edit/{uuid4().hex}"
        await gateway.deliver(
            InboundMessage(event, place.address, sender, found.row.at, "edited", found.row.message_id, new.text)
        )
        return await get_queue(caller, conversation)

    @routes.delete("/conversations/{conversation}/queue/{message}")
    async def remove_queued(caller: Writer, conversation: str, message: int) -> Queue:
        """Nobody reads the message. The running turn goes on."""
        place, found = await _find(gateway, caller, conversation, message)
        own = found.sender.id == caller.sender_at(place.address).id
        if not own and not gateway.access.may_stop_any(place.address, caller.sender_at(place.address)):
            raise Problem(403, "not_allowed", "Only admins and whoever wrote a message may remove it.")
        change = await gateway.store.remove_queued(place.session, message, REMOVED)
        if change is None:
            raise _not_queued()
        status = MessageStatus(place.address, change.id, change.message_id, change.state, None, change.reason)
        gateway.delivery.show_status(status)
        gateway.bus.publish(MessagesChanged(place.session, place.address, (change.id,), change.state, REMOVED))
        # It may have blocked the messages behind it.
        busy = await gateway.store.waiting_busy(place.session)
        if busy is not None:
            gateway.bus.wake(place.session, busy)
        return await get_queue(caller, conversation)

    @routes.delete("/conversations/{conversation}/queue")
    async def clear_queue(caller: Writer, conversation: str) -> Cleared:
        """Nobody reads the messages that wait; in a group, a key without the scope `operate` removes its own only. The
        running turn goes on."""
        place = await find_place_to_change(gateway, caller, conversation)
        sender = caller.sender_at(place.address)
        only = None if gateway.access.may_stop_any(place.address, sender) else sender.id
        withdrawn = await gateway.dispatcher.withdraw_waiting(
            place.address, before=MAX_ROW_ID, reason=REMOVED, sender=only
        )
        return Cleared(withdrawn=withdrawn)

    return routes


async def _find(gateway: Gateway, caller: Caller, conversation: str, message: int) -> tuple[Place, QueuedMessage]:
    place = await find_place_to_change(gateway, caller, conversation)
    queue = await gateway.store.queued(place.session)
    found = next((each for each in queue if each.row.id == message), None)
    if found is None:
        raise _not_queued()
    return place, found


def _not_queued() -> Problem:
    return Problem(404, "message_not_queued", "No message with this id waits in this conversation.")


def _queued(place: Place, each: QueuedMessage) -> Queued:
    return Queued(
        id=each.row.id,
        sender=each.sender.id,
        sender_name=each.sender.name,
        text=each.row.text,
        files=files_from(place.id, each.row.attachments),
        busy=each.busy,
        ready=each.ready,
        at=each.row.at,
    )
