"""Conversations: those that the caller may see, on every channel; what goes on there, their history, settings and
files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from agent.decisions.external_tools import pending
from agent.model import Reasoning, reasoning_from
from channels.message import BusyMode
from channels.web.parse import clean_name, clean_text
from gateway.api.caller import Caller, Reader, Writer, scope_missing
from gateway.api.decisions import Decision, open_requests
from gateway.api.file_response import StoredFileResponse
from gateway.api.history import History, read_history
from gateway.api.ids import conversation_id
from gateway.api.listing import list_conversations, list_earlier
from gateway.api.places import Place, find_place, find_place_to_change, find_place_to_write, require_agent
from gateway.api.problems import Problem
from gateway.api.runs import File, file_of
from gateway.api.uploads import BODY, receive_upload
from gateway.app import Gateway
from gateway.bus import TitleChanged
from gateway.outbound.export import write_export
from gateway.store.records import AuditEvent, DeletionRequest, ModelChoice, StoredConversation
from gateway.turns.agents import next_choice

MAX_LISTED = 1000
MAX_GENERATION = 2**31 - 1

Name = Annotated[str, Field(max_length=500)]
"""Of a model, an agent, or of how much to reason."""

IN_MEMORY = 10_000_000
"""Bytes of an export; a larger one is written to a temporary file."""

CHUNK = 256 * 1024


class Conversation(BaseModel):
    """`running`: a turn runs there. `archived`: it is listed only where that is asked for, until something happens
    there. `generation` counts how often `/new` began it anew; in lists, it is the number of one that `/new` ended, and
    null for those in which people write."""

    id: str
    channel: str
    kind: Literal["direct", "group"]
    title: str
    last_at: datetime
    running: bool
    archived: bool
    generation: int | None = None


class Conversations(BaseModel):
    """`before` leads to those before these; null: there are none."""

    conversations: list[Conversation]
    before: str | None


class RunningTurn(BaseModel):
    """The turn that runs. `calls` are the tools that run now; without any, the model is answering."""

    turn: str
    agent: str
    step: int
    calls: list[str]
    began_by: str
    since: datetime


class ParkedTurn(BaseModel):
    """The turn that waits. `waits_for`: "decision" (see `decisions`), "results" of calls, or "" for an answer."""

    turn: str
    waits_for: Literal["decision", "results", ""]
    decisions: list[Decision]


class ContextUse(BaseModel):
    """The share of the model's context window of so many tokens that is used, 1 for all of it."""

    share: float
    window: int


class Background(BaseModel):
    name: str
    title: str


class ConversationInfo(Conversation):
    """`model`, `agent` and `reasoning` are those of the next task; `busy` is what messages do to a running one. `cost`
    is in dollars, of the whole conversation. `workspace` is the folder of the agent, for callers with the scope
    `operate`."""

    generation: int
    created_at: datetime
    turn: RunningTurn | None
    parked: ParkedTurn | None
    queued: int
    background: list[Background]
    agent: str
    model: str
    reasoning: Reasoning | None
    busy: BusyMode
    context: ContextUse | None
    cost: float
    workspace: str | None


class Changes(BaseModel, extra="forbid"):
    """What is not named stays. Null: `model`, `agent` and `busy` are again as the settings say."""

    title: str = Field(default="", min_length=1, max_length=200)
    archived: bool = False
    busy: BusyMode | None = None
    model: Name | None = None
    reasoning: Name | None = None
    agent: Name | None = None


class Deleted(BaseModel):
    conversations: int
    messages: int
    turns: int
    files: int


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["conversations"])
    _add_list(routes, gateway)
    _add_one(routes, gateway)
    _add_files(routes, gateway)
    return routes


def _add_list(routes: APIRouter, gateway: Gateway) -> None:
    @routes.get("/conversations")
    async def get_conversations(
        caller: Reader,
        search: Annotated[str, Query(max_length=200, description="Words of the title or of people's messages.")] = "",
        channel: Annotated[str, Query(description="Only those of this channel.")] = "",
        archived: Annotated[bool, Query(description="Archived ones instead of the others.")] = False,
        earlier: Annotated[
            bool, Query(description="The newest of those that /new ended, instead of the others.")
        ] = False,
        before: Annotated[
            str, Query(max_length=500, description="`before` of the newer page, or a time: only those before it.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
    ) -> Conversations:
        """The newest first, page by page."""
        names, words = [name for name in gateway.channels if channel in ("", name)], search.strip()
        if earlier:
            found = await list_earlier(gateway, caller, names, limit, words=words, before=before)
        else:
            found = await list_conversations(
                gateway, caller, names, limit, archived=archived, words=words, before=before
            )
        return Conversations(conversations=list(map(_listed, found.conversations)), before=found.before)


def _add_one(routes: APIRouter, gateway: Gateway) -> None:
    @routes.get("/conversations/{conversation}")
    async def get_conversation(caller: Reader, conversation: str) -> ConversationInfo:
        """What goes on there."""
        return await _info(gateway, caller, await find_place(gateway, caller, conversation))

    @routes.patch("/conversations/{conversation}")
    async def change_conversation(caller: Writer, conversation: str, changes: Changes) -> ConversationInfo:
        """Changes what is given, and nothing else."""
        # Whoever chooses an agent there needs to be allowed that one, see `_change`.
        find = find_place if "agent" in changes.model_fields_set else find_place_to_change
        place = await find(gateway, caller, conversation)
        await _change(gateway, caller, place, changes)
        return await _info(gateway, caller, place)

    @routes.delete("/conversations/{conversation}")
    async def delete_conversation(caller: Writer, conversation: str) -> Deleted:
        """For good, with all that belongs to it. Its running task is stopped. Needs the scope `operate`, except of a
        person whom a proxy has signed in for their own."""
        place = await find_place_to_change(gateway, caller, conversation)
        if not caller.may("operate") and not caller.owns(place.address):
            raise scope_missing(caller, "operate")
        report = await gateway.deletion.delete(DeletionRequest("conversation", place.session, by=caller.actor))
        return Deleted(
            conversations=report.conversations, messages=report.messages, turns=report.turns, files=report.files
        )

    @routes.get("/conversations/{conversation}/history")
    async def get_history(
        caller: Reader,
        conversation: str,
        before: Annotated[str | None, Query(description="`before` of the later page.", max_length=100)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        generation: Annotated[
            int | None, Query(ge=0, le=MAX_GENERATION, description="An earlier conversation there.")
        ] = None,
    ) -> History:
        """The newest messages and replies, oldest first; page by page back to the beginning."""
        place = await find_place(gateway, caller, conversation)
        return await read_history(gateway, place.session, limit, before=before, generation=generation)

    @routes.get(
        "/conversations/{conversation}/export",
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def export_conversation(caller: Reader, conversation: str) -> Response:
        """All of it as a zip file: JSON Lines, Markdown and files."""
        place = await find_place(gateway, caller, conversation)
        exported = await gateway.store.exported(place.session, None)
        file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115  # closed when it is sent
        await write_export([] if exported is None else [exported], gateway.media.read, file)
        await gateway.store.record_audit(AuditEvent("exported", caller.actor, caller.sender.name, place.session))
        headers = {"Content-Disposition": 'attachment; filename="export.zip"', "Cache-Control": "no-store"}
        return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


def _add_files(routes: APIRouter, gateway: Gateway) -> None:
    @routes.post(
        "/conversations/{conversation}/files",
        status_code=201,
        openapi_extra=BODY,
    )
    async def upload_file(
        caller: Writer,
        conversation: str,
        request: Request,
        name: Annotated[str, Query(max_length=500, description="Of the file, if the body is not a form.")] = "",
    ) -> File:
        """For a message that names it within an hour: the `file` of a form, or the body itself."""
        place = await find_place_to_write(gateway, caller, conversation)
        attachment = await receive_upload(request, gateway.media, name)
        await gateway.store.add_upload(place.session, attachment)
        return file_of(place.id, attachment)

    @routes.get(
        "/conversations/{conversation}/files/{hash}/{name:path}",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    )
    async def get_file(caller: Reader, conversation: str, hash: str, name: str) -> Response:
        """The bytes of a file of this conversation, or the range of them that is asked for."""
        place = await find_place(gateway, caller, conversation)
        name = clean_name(name)
        found = await gateway.store.find_file(place.session, hash, name)
        if found is None:
            raise Problem(404, "file_not_found", "This conversation has no such file.")
        return StoredFileResponse(found, gateway.media)


def _listed(stored: StoredConversation) -> Conversation:
    return Conversation(
        id=conversation_id(stored.session),
        channel=stored.address.channel,
        kind=stored.address.kind,
        title=stored.title,
        last_at=stored.last_at,
        running=stored.running,
        archived=stored.archived,
        generation=stored.generation,
    )


async def _info(gateway: Gateway, caller: Caller, place: Place) -> ConversationInfo:
    store, session, address = gateway.store, place.session, place.address
    info = await store.session_info(session)
    if info is None:
        raise Problem(404, "conversation_not_found", "There is no conversation with this id.")
    sender = caller.sender_at(address)
    choice = await next_choice(store, gateway.agents, session, address, sender)
    context = await gateway.context.of(session, address, sender)
    folder = await gateway.workspace(session, sender, choice.agent) if caller.may("operate") else None
    named = (await store.places([session])).get(session)
    running = await _running(gateway, place)
    return ConversationInfo(
        id=place.id,
        channel=address.channel,
        kind=address.kind,
        title="" if named is None else named.title,
        last_at=info.last_at,
        running=running is not None,
        archived=info.archived_at is not None,
        generation=info.generation,
        created_at=info.created_at,
        turn=running,
        parked=None if running is not None else await _parked(gateway, place),
        queued=await store.count_waiting(session),
        background=[
            Background(name=item.handle, title=item.title)
            for item in await gateway.background.items(session)
            if item.state == "running"
        ],
        agent=choice.agent,
        model=choice.model or gateway.agents.default_model(choice.agent, address.channel),
        reasoning=choice.reasoning,
        busy=_mode(info.busy or gateway.access.busy(address.channel)),
        context=None if context is None else ContextUse(share=context.share, window=context.window),
        cost=(await store.spent(session=session)).cost,
        workspace=None if folder is None else str(folder),
    )


def _mode(busy: str) -> BusyMode:
    return busy if busy in ("queue", "collect", "interrupt") else "steer"  # type: ignore[return-value]  # one of them


async def _running(gateway: Gateway, place: Place) -> RunningTurn | None:
    running = await gateway.running.of(place.session)
    if running is None:
        return None
    record = running.record
    return RunningTurn(
        turn=record.id,
        agent=gateway.agents.pick(record.agent, record.address, record.principal),
        step=running.step,
        calls=list(running.calls),
        began_by=record.principal.id,
        since=datetime.now(UTC) - timedelta(seconds=running.seconds),
    )


async def _parked(gateway: Gateway, place: Place) -> ParkedTurn | None:
    for asking in await gateway.store.asking_turns(place.session):
        turn, _ = asking
        decisions = list(open_requests(gateway, asking))
        if decisions:
            return ParkedTurn(turn=turn.id, waits_for="decision", decisions=decisions)
        return ParkedTurn(turn=turn.id, waits_for="results" if pending(turn.entries) else "", decisions=[])
    return None


async def _change(gateway: Gateway, caller: Caller, place: Place, changes: Changes) -> None:
    """Checks all before it changes anything."""
    store, given, address = gateway.store, changes.model_fields_set, place.address
    sender = caller.sender_at(address)
    role = gateway.access.role_of(address.channel, sender)
    level = gateway.access.roles.level(role)
    if "agent" in given:
        if changes.agent is not None and (
            changes.agent not in gateway.agents.named or not gateway.access.roles.may_choose_agent(role, changes.agent)
        ):
            raise Problem(422, "unknown_agent", f"There is no agent {changes.agent} that you may choose.")
        require_agent(caller, changes.agent or gateway.agents.pick("", address, sender))
    if changes.model is not None and changes.model not in gateway.access.roles.models(level, gateway.models):
        raise Problem(422, "unknown_model", f"There is no model {changes.model} that you may choose.")
    title = " ".join(clean_text(changes.title).split())
    if "title" in given and not title:
        raise Problem(422, "invalid_request", "title: expected words to show.")
    reasoning = None if changes.reasoning is None else reasoning_from(changes.reasoning)
    if changes.reasoning is not None and reasoning is None:
        raise Problem(422, "invalid_request", "reasoning: expected off, low, medium, high, or a number of tokens.")
    if "agent" in given:
        await store.set_agent(place.session, changes.agent or "")
    if given & {"model", "reasoning"}:
        now = await store.model_of(place.session)
        model = (changes.model or "") if "model" in given else now.model
        await store.set_model(place.session, ModelChoice(model, reasoning if "reasoning" in given else now.reasoning))
    if "busy" in given:
        await store.set_busy(place.session, changes.busy)
    if "archived" in given:
        await store.archive(place.session, archived=changes.archived)
    if "title" in given:
        await store.set_title(place.session, title)
        gateway.bus.publish(TitleChanged(place.session))


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk
