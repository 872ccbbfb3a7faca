"""Runs: what became of a message, and its answer. A message that another turn has read is followed to its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from agent.log import ModelAnswered
from agent.media import Attachment
from channels.reply import MediaSegment, Reply, TextSegment
from channels.runs import RunState
from gateway.api.bodies import CLIENT_ID, Results
from gateway.api.caller import Caller, Reader, Writer
from gateway.api.ids import conversation_id
from gateway.api.places import Place, find_place, require_agents_there, require_receiving
from gateway.api.problems import Problem
from gateway.api.waiting import MAX_WAIT, within
from gateway.app import Gateway
from gateway.sessions import session_key
from gateway.store.records import FollowedRun, Turn

Until = Literal["parked", "end"]
"""What is waited for: that the run ends or needs somebody (an approval, an answer, results of calls), or only that it
ends."""

Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for the run.")]
WaitUntil = Annotated[Until, Query(description="What to wait for: an end, or also that the run needs somebody.")]


class File(BaseModel):
    """`url` is the path of its bytes on this server. `size` is in bytes."""

    hash: str
    name: str
    media_type: str
    size: int
    url: str


class Call(BaseModel):
    """A call whose result is pending."""

    id: str
    name: str
    arguments: dict[str, Any]


class Tokens(BaseModel):
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int


class Run(BaseModel):
    """`state` is "waiting", "running" or "parked" (it waits for an approval, an answer, or results of `calls`) until
    the run ends; then it is equal to `outcome`. `text` is the Markdown of the whole answer, as far as there is one;
    `files` are those that it shows. `cost` is in dollars, with all that was delegated. `read_by` is the run of the
    message that is answered together with this one, if it began the turn. `model` is the last one that answered."""

    run: str
    conversation: str
    message: int
    state: RunState
    outcome: RunState | None
    reason: str
    text: str
    files: list[File]
    cost: float
    tokens: Tokens
    model: str
    agent: str
    started_at: datetime | None
    ended_at: datetime | None
    read_by: str | None
    calls: list[Call]


class Runs(BaseModel):
    runs: list[Run]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["runs"])

    @routes.get("/runs/{run}")
    async def get_run(caller: Reader, request: Request, run: str, wait: Wait = 0, until: WaitUntil = "parked") -> Run:
        """With `wait`, the answer comes as soon as the run has ended or needs somebody, at the latest after so many
        seconds."""
        found = await find_run(gateway, caller, run)
        if wait and not _is_reached(found, until):
            await wait_for_run(gateway, request, run, wait, until)
            found = await find_run(gateway, caller, run)
        return await describe_run(gateway, found)

    @routes.get("/conversations/{conversation}/runs")
    async def list_runs(caller: Reader, conversation: str, client_id: Annotated[str, Query(pattern=CLIENT_ID)]) -> Runs:
        """The run of the message that a program sent there with this `client_id`."""
        place = await find_place(gateway, caller, conversation)
        run = await gateway.store.run_of_event(place.address.channel, event_of(place, client_id))
        found = [] if run is None else [await find_run(gateway, caller, run)]
        return Runs(runs=[await describe_run(gateway, each) for each in found])

    @routes.post("/runs/{run}/results")
    async def submit_results(caller: Writer, run: str, results: Results) -> Run:
        """Exactly one result for each pending call; the turn goes on."""
        require_receiving(gateway)
        found = await find_run(gateway, caller, run)
        await require_agents_there(gateway, caller, found.run.session)
        await gateway.runs.submit_results(run, [each.result() for each in results.results])
        return await describe_run(gateway, await find_run(gateway, caller, run))

    return routes


def event_of(place: Place, client_id: str) -> str:
    """The id of the event of a program's message. Each conversation has its own."""
    return f"api/{place.session}/{client_id}"


async def find_run(gateway: Gateway, caller: Caller, run: str) -> FollowedRun:
    """Raises a 404 for a run that does not exist, or in a conversation that the caller may not see."""
    found = (await gateway.store.followed_runs([run])).get(run)
    if found is None or not caller.sees(conversation_id(found.run.session)):
        raise Problem(404, "run_not_found", "There is no run with this id.")
    return found


async def wait_for_run(gateway: Gateway, request: Request, run: str, seconds: float, until: Until) -> None:
    await within(request, seconds, gateway.run_waits.wait(run, lambda found: _is_reached(found, until)))


def _is_reached(run: FollowedRun, until: Until) -> bool:
    return run.is_over or (until == "parked" and run.state == "parked")


async def describe_run(gateway: Gateway, found: FollowedRun) -> Run:
    own = found.run
    turn = None if own.turn is None else await gateway.store.turn(own.turn)
    spent = await gateway.store.spent(turn=own.turn or own.run_id)
    reply = None if turn is None else gateway.conversation_view.reply_of(turn)
    calls = await gateway.runs.calls(own) if found.state == "parked" else ()
    return Run(
        run=own.run_id,
        conversation=conversation_id(own.session),
        message=found.row,
        state=found.state,
        outcome=found.state if found.is_over else None,
        reason=found.reason,
        text="" if reply is None else text_of(reply),
        files=[] if reply is None else files_of(reply),
        cost=spent.cost,
        tokens=Tokens(
            input=spent.input,
            output=spent.output,
            cache_read=spent.cache_read,
            cache_write=spent.cache_write,
            reasoning=spent.reasoning,
        ),
        model="" if turn is None else _model_of(turn),
        agent="" if turn is None else gateway.agents.pick(turn.agent, turn.address, turn.principal),
        started_at=found.started_at,
        ended_at=found.ended_at,
        read_by=own.turn if own.turn != own.run_id else None,
        calls=[Call(id=call.id, name=call.name, arguments=call.arguments) for call in calls],
    )


def text_of(reply: Reply) -> str:
    """The Markdown of the answer, without reports on the work."""
    texts = (each.markdown for each in reply.segments if isinstance(each, TextSegment) and not each.secondary)
    return "\n\n".join(filter(str.strip, texts))


def files_of(reply: Reply) -> list[File]:
    conversation = conversation_id(session_key(reply.address))
    return [file_of(conversation, each.attachment) for each in reply.segments if isinstance(each, MediaSegment)]


def file_of(conversation: str, attachment: Attachment) -> File:
    path = f"/api/v1/conversations/{quote(conversation)}/files/{attachment.hash}/{quote(attachment.name, safe='')}"
    return File(
        hash=attachment.hash,
        name=attachment.name,
        media_type=attachment.media_type,
        size=attachment.size,
        url=path,
    )


def files_from(conversation: str, attachments: Sequence[Attachment]) -> list[File]:
    """Those that people sent, without what the gateway took out of them."""
    return [file_of(conversation, each) for each in attachments if each.taken_from is None]


def _model_of(turn: Turn) -> str:
    answers = [entry.model for entry in turn.entries if isinstance(entry, ModelAnswered) and entry.model]
    return answers[-1] if answers else ""
