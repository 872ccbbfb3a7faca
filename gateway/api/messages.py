"""Messages: sent to any conversation, on any channel, once for each `client_id`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter

from agent.media import Attachment
from channels.message import STORED, FileRef, InboundMessage, Receipt
from channels.web.parse import BadPost, Post, clean_name, parse
from gateway.api.bodies import (
    CLIENT_ID,
    MAX_TEXT,
    GivenMessage,
    MessageBodies,
    NewMessage,
    StoredFile,
    declared,
    message_schema,
)
from gateway.api.caller import Caller, Writer
from gateway.api.places import WEB, Place, find_place_to_write
from gateway.api.problems import Problem
from gateway.api.runs import Run, Until, Wait, WaitUntil, describe_run, event_of, find_run, wait_for_run
from gateway.app import Gateway

_ATTACHMENT = TypeAdapter(Attachment)

ANSWERED_WITHIN = 30.0
"""Seconds to wait for the answer of a command that changes the conversation at once."""


class Sent(BaseModel):
    """The message is stored. `duplicate`: it was before, and this changed nothing. `run` is what `GET /runs/{run}` says
    more of; `result` is that, if the request waited for it. `conflicts` are declared tools that were dropped: the agent
    has tools with these names. `reason` is why it is refused. `command` is the command that it was taken as, if any."""

    id: int
    conversation: str
    state: Literal["accepted", "refused"]
    reason: str
    duplicate: bool
    run: str | None
    conflicts: list[str]
    command: str | None = None
    result: Run | None = None


class Command(BaseModel, extra="forbid"):
    """`text` is what a person would write behind the command, if anything."""

    client_id: str = Field(pattern=CLIENT_ID)
    text: str = Field(default="", max_length=MAX_TEXT)


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["messages"])
    bodies = MessageBodies()

    async def send(
        caller: Caller, request: Request, place: Place, given: GivenMessage, wait: float, until: Until
    ) -> Sent:
        sent = await deliver_message(gateway, caller, place, given)
        if not wait or sent.run is None:
            return sent
        await wait_for_run(gateway, request, sent.run, wait, until)
        result = await describe_run(gateway, await find_run(gateway, caller, sent.run))
        return sent.model_copy(update={"result": result})

    @routes.post("/conversations/{conversation}/messages", openapi_extra=message_schema())
    async def post_message(
        caller: Writer, request: Request, conversation: str, wait: Wait = 0, until: WaitUntil = "parked"
    ) -> Sent:
        """Sends a message, as JSON or as a form with files. A conversation `web:local:NAME` that does not exist begins
        with it."""
        place = await find_place_to_write(gateway, caller, conversation)
        return await send(caller, request, place, await bodies.read(request, gateway.media, caller.actor), wait, until)

    @routes.post("/conversations/{conversation}/steer", openapi_extra=message_schema())
    async def steer(
        caller: Writer, request: Request, conversation: str, wait: Wait = 0, until: WaitUntil = "parked"
    ) -> Sent:
        """Sends a message that the running turn reads at once, whatever is set there."""
        place = await find_place_to_write(gateway, caller, conversation)
        given = await bodies.read(request, gateway.media, caller.actor)
        given = replace(given, body=given.body.model_copy(update={"busy": "steer", "as_": "message"}))
        return await send(caller, request, place, given, wait, until)

    def add_command(name: str, description: str, seconds: float) -> None:
        @routes.post(f"/conversations/{{conversation}}/{name}", name=name, description=description)
        async def command(
            caller: Writer,
            request: Request,
            conversation: str,
            body: Command,
            wait: Wait = seconds,
            until: WaitUntil = "parked",
        ) -> Sent:
            text = f"/{name} {body.text}".rstrip()
            given = GivenMessage(
                NewMessage.model_validate({"client_id": body.client_id, "text": text, "as": "command"})
            )
            place = await find_place_to_write(gateway, caller, conversation)
            return await send(caller, request, place, given, wait, until)

    add_command("wrap", "Lets the running turn finish up.", 0)
    add_command("undo", "Removes the last task from what the model sees.", ANSWERED_WITHIN)
    add_command("retry", "Removes the last task and runs it again.", 0)
    add_command("compact", "Summarizes the conversation for the model.", 0)
    return routes


async def deliver_message(gateway: Gateway, caller: Caller, place: Place, given: GivenMessage) -> Sent:
    """Delivers the message of the caller; returns when it is stored. Raises `Problem`."""
    files = await _files_of(gateway, place, given)
    body = given.body
    post = Post(body.client_id, body.text, files, declared(body.tools))
    message, conflicts = _message(gateway, caller, place, body, post)
    receipt = await gateway.deliver(message)
    if receipt is None:
        raise Problem(422, "not_accepted", "The gateway did not take this message.")
    if receipt.differs:
        raise Problem(
            409,
            "client_id_reused",
            f"Another message with the client_id {body.client_id} was sent to this conversation before. This one is "
            "not stored: send it with a new client_id.",
        )
    for file in files if receipt.refused else ():
        # It has no files then, but may be sent again.
        await gateway.store.add_upload(place.session, file)
    return _sent(place, receipt, conflicts)


def _message(
    gateway: Gateway, caller: Caller, place: Place, body: NewMessage, post: Post
) -> tuple[InboundMessage, list[str]]:
    try:
        parsed = parse(post, place.address, datetime.now(UTC))
    except BadPost as error:
        raise Problem(422, "invalid_request", str(error)) from error
    if body.as_ == "command" and parsed.kind != "command":
        raise Problem(422, "not_a_command", "A command begins with a slash and its name, like /status.")
    if body.as_ == "message":
        parsed = replace(parsed, kind="new", command=None, text=body.text.replace("\0", "").replace("\r\n", "\n"))
    if parsed.command == "agent" and caller.agents is not None:
        raise Problem(403, "agent_not_allowed", "Your key is for some agents only: it may not choose one here.")
    own = gateway.runs.tools(place.address) if parsed.tools else frozenset()
    sender = caller.sender_at(place.address)
    message = replace(
        parsed,
        event_id=event_of(place, body.client_id),
        sender=sender,
        # Only pages know the message by this id; elsewhere the platform has no such message.
        message_id=body.client_id if place.address.channel == WEB else None,
        files=tuple(map(_stored_ref, post.attachments)),
        tools=tuple(tool for tool in parsed.tools if tool.name not in own),
        busy=body.busy,
        literal=body.as_ == "message",
        digest=_digest(sender.id, body, post.attachments),
    )
    return message, [tool.name for tool in parsed.tools if tool.name in own]


async def _files_of(gateway: Gateway, place: Place, given: GivenMessage) -> tuple[Attachment, ...]:
    """The stored files of the message, in their order. Raises `Problem`."""
    files: list[Attachment] = []
    for each in given.files:
        files.append(await _known_file(gateway, place, each) if isinstance(each, StoredFile) else each)
    return tuple(files)


async def _known_file(gateway: Gateway, place: Place, file: StoredFile) -> Attachment:
    name = clean_name(file.name)
    found = await gateway.store.find_file(place.session, file.hash, name)
    if found is None:
        raise Problem(404, "file_not_found", f"This conversation has no file {file.hash}. Upload it first.")
    return found


def _stored_ref(file: Attachment) -> FileRef:
    return FileRef(f"{STORED}{_ATTACHMENT.dump_json(file).decode()}", file.name, file.media_type, file.size)


def _digest(sender: str, body: NewMessage, files: Sequence[Attachment]) -> str:
    """Of all that makes two messages the same."""
    said = body.model_dump(mode="json", by_alias=True, exclude={"files"})
    said["sender"] = sender
    said["files"] = [(file.hash, file.name) for file in files]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode("utf-8", "replace")).hexdigest()


def _sent(place: Place, receipt: Receipt, conflicts: list[str]) -> Sent:
    return Sent(
        id=receipt.id,
        conversation=place.id,
        state="refused" if receipt.refused else "accepted",
        reason=receipt.refused or "",
        duplicate=receipt.duplicate,
        run=receipt.run,
        conflicts=conflicts,
        command=receipt.command or None,
    )
