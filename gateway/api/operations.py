"""What an operator sees and does: what runs now, channels, replies that were not delivered, settings, log, reload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import unquote

from fastapi import APIRouter
from pydantic import BaseModel

from agent.log import ModelAnswered
from channels.address import Address, Sender
from gateway.api.caller import Admin, Caller, Operator, Reader
from gateway.api.freshness import Fresh
from gateway.api.ids import conversation_id
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.lifecycle.recent_log import LogLine
from gateway.sessions import conversation_of, is_child
from gateway.store import overview
from gateway.store.overview import OpenTurn, WaitsFor
from gateway.store.records import AuditEvent, TurnKind
from gateway.turns import running
from gateway.turns.budgets import midnight, person_on

NOW_SECONDS = 0.5
"""How old the answer of /now may be: it is computed once for all who watch."""


class Person(BaseModel):
    """`id` is the channel's name and the platform's user id: "telegram:7"."""

    id: str
    name: str


class Place(BaseModel):
    """Where something takes place. `title` may be empty."""

    conversation: str
    channel: str
    kind: Literal["direct", "group"]
    title: str


class RunningTurn(BaseModel):
    """A turn that runs. `tools` are the calls that run at the moment; without any, the model is answering. `delegated`:
    it works on a task of another turn of this conversation. `model` is "" if its name is not known. `cost` is in
    dollars, of the turn with all that it delegated."""

    turn: str
    kind: TurnKind
    place: Place
    person: Person
    agent: str
    model: str
    step: int
    tools: list[str]
    since: datetime
    cost: float
    delegated: bool


class ParkedTurn(BaseModel):
    """A turn that waits for people: for an approval, an answer, or the results of external tools. `asked_by` is the
    tool that it waits for, "limit" for the approval to exceed a limit. After `deadline` it goes on without."""

    turn: str
    place: Place
    person: Person
    agent: str
    since: datetime
    waits_for: WaitsFor
    asked_by: str
    deadline: datetime | None
    cost: float
    delegated: bool


class Queue(BaseModel):
    """Messages that no turn has read yet. `oldest` is when the first of them was received."""

    place: Place
    messages: int
    oldest: datetime


class Now(BaseModel):
    """What goes on. `undelivered` counts replies, `cost_today` is in dollars since midnight UTC."""

    at: datetime
    running: list[RunningTurn]
    parked: list[ParkedTurn]
    queues: list[Queue]
    undelivered: int
    cost_today: float


class ChannelState(BaseModel):
    """`problem` says what is wrong and what to do, "" if nothing is. `people`: others than the owner use it."""

    name: str
    works: bool
    problem: str
    people: bool


class Channels(BaseModel):
    """`parts` are the problems of other parts, by part: skills, own tools, MCP servers."""

    channels: list[ChannelState]
    parts: dict[str, str]


class UndeliveredReply(BaseModel):
    """`id` is for the redelivery. `at` is when its turn began."""

    id: str
    place: Place
    reason: str
    at: datetime


class Undelivered(BaseModel):
    replies: list[UndeliveredReply]


class Redelivery(BaseModel):
    """The reply is being sent again."""

    id: str


class Setting(BaseModel):
    """`value` is as in the settings file; secrets are hidden."""

    key: str
    value: str
    is_default: bool


class Settings(BaseModel):
    settings: list[Setting]


class Line(BaseModel):
    at: datetime
    level: str
    logger: str
    text: str


class Log(BaseModel):
    """Oldest first."""

    lines: list[Line]


class Reloaded(BaseModel):
    """`text` is Markdown. If the reload is refused, everything has stayed as it was."""

    text: str
    refused: bool


class Health(BaseModel):
    """`problems` by part: a channel, skills, own tools, MCP servers."""

    ok: bool
    problems: dict[str, str]


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """What the gateway itself does not know: the settings in force, without secrets, and the last lines of the log."""

    settings: Callable[[], Iterable[Setting]] = tuple
    log_lines: Callable[[], Sequence[LogLine]] = tuple


NO_FACTS = OperatorFacts()


def router(gateway: Gateway, facts: OperatorFacts) -> APIRouter:
    routes = APIRouter(tags=["operations"])
    now = Fresh(lambda: _now(gateway), NOW_SECONDS)

    @routes.get("/now")
    async def what_goes_on(caller: Operator) -> Now:
        """What runs, what waits for people, and what waits to be read. For live views: the events say when to ask
        again."""
        found = await now()
        return found if caller.conversations is None else await _seen_by(gateway, caller, found)

    @routes.get("/channels")
    async def channels(caller: Operator) -> Channels:
        """Every channel, and what is wrong with it."""
        states = [
            ChannelState(
                name=name,
                works=not problem,
                problem=gateway.mask(problem),
                people=gateway.access.has_settings(name),
            )
            for name, problem in gateway.channel_states().items()
        ]
        return Channels(channels=states, parts=_parts(gateway))

    @routes.get("/undelivered")
    async def undelivered(caller: Operator) -> Undelivered:
        """Replies that a platform did not take, or not all of them, oldest first."""
        found = await gateway.store.undelivered(None)
        places = await _places(gateway, {each.session for each in found})
        seen = [each for each in found if caller.sees(conversation_id(each.session))]
        return Undelivered(
            replies=[
                UndeliveredReply(id=each.turn, place=places[each.session], reason=gateway.mask(each.reason), at=each.at)
                for each in seen
            ]
        )

    @routes.post("/undelivered/{reply}/redeliver", status_code=202)
    async def redeliver(reply: str, caller: Operator) -> Redelivery:
        """Tries again to show a reply that a platform did not take. What was shown of it stays."""
        known = {each.turn: each.session for each in await gateway.store.undelivered(None)}
        session = known.get(reply)
        if session is not None and caller.sees(conversation_id(session)):
            event = AuditEvent("redelivered", caller.actor, caller.sender.name, session)
            if await gateway.stored_replies.show_one(reply, event):
                return Redelivery(id=reply)
        raise Problem(404, "reply_not_found", "No reply with this id is undelivered.")

    @routes.get("/settings")
    async def read_settings(caller: Admin) -> Settings:
        """The settings in force. Secrets are hidden."""
        return Settings(
            settings=[each.model_copy(update={"value": gateway.mask(each.value)}) for each in facts.settings()]
        )

    @routes.get("/logs")
    async def log(caller: Admin) -> Log:
        """The last lines of the gateway's log, without secrets."""
        return Log(
            lines=[Line(at=each.at, level=each.level, logger=each.logger, text=each.text) for each in facts.log_lines()]
        )

    @routes.post("/reload")
    async def reload(caller: Admin) -> Reloaded:
        """Loads the settings and own tools anew: they take effect without a restart, all of them or none."""
        reloaded = await gateway.reload()
        return Reloaded(text=reloaded.text, refused=reloaded.is_refused)

    @routes.get("/health")
    async def health(caller: Reader) -> Health:
        """Whether every part works."""
        problems = {name: gateway.mask(problem) for name, problem in gateway.problems().items()} | _parts(gateway)
        if not caller.may("operate"):
            problems = dict.fromkeys(problems, "")
        return Health(ok=not problems, problems=problems)

    return routes


async def _now(gateway: Gateway) -> Now:
    store = gateway.store
    turns = await gateway.running.everywhere()
    parked, queues = await store.parked_turns(), await store.queues()
    records = [each.record for each in turns]
    places = await _places(
        gateway,
        [*(each.session for each in records), *(each.session for each in parked), *(each.session for each in queues)],
    )
    costs = await store.costs_of_turns([each.root or each.id for each in records])
    today = await store.total_usage(midnight())
    return Now(
        at=datetime.now(UTC),
        running=[_running(gateway, each, places, costs) for each in turns],
        parked=[_parked(gateway, each, places) for each in parked],
        queues=[Queue(place=places[each.session], messages=each.messages, oldest=each.oldest) for each in queues],
        undelivered=len(await store.undelivered(None)),
        cost_today=today.cost,
    )


def _running(
    gateway: Gateway, turn: running.RunningTurn, places: Mapping[str, Place], costs: Mapping[str, float]
) -> RunningTurn:
    record, entries = turn.record, turn.entries
    agent = gateway.agents.pick(record.agent, record.address, record.principal)
    answered = next((each.model for each in reversed(entries) if isinstance(each, ModelAnswered) and each.model), "")
    return RunningTurn(
        turn=record.id,
        kind=record.kind,
        place=places[record.session],
        person=_person(record.address, record.principal),
        agent=agent,
        model=answered or record.model or gateway.agents.default_model(agent, record.address.channel),
        # A call belongs to the step whose answer asked for it.
        step=turn.step,
        tools=list(turn.calls),
        since=record.started_at,
        cost=costs.get(record.root or record.id, 0.0),
        delegated=is_child(record.session),
    )


def _parked(gateway: Gateway, turn: OpenTurn, places: Mapping[str, Place]) -> ParkedTurn:
    return ParkedTurn(
        turn=turn.id,
        place=places[turn.session],
        person=_person(turn.address, turn.person),
        agent=gateway.agents.pick(turn.agent, turn.address, turn.person),
        since=turn.started_at,
        waits_for=turn.waits_for,
        asked_by=turn.asked_by,
        deadline=turn.deadline,
        cost=turn.cost,
        delegated=is_child(turn.session),
    )


def _person(address: Address, sender: Sender) -> Person:
    return Person(id=person_on(address, sender), name=sender.name)


async def _places(gateway: Gateway, sessions: Collection[str]) -> dict[str, Place]:
    """By session. That of a delegated task is the conversation in which it was given."""
    of = {session: conversation_of(session) for session in sessions}
    found = await gateway.store.places(set(of.values()))
    return {session: _place(key, found.get(key)) for session, key in of.items()}


def _place(session: str, found: overview.Place | None) -> Place:
    return Place(
        conversation=conversation_id(session),
        channel=unquote(session.partition("/")[0]),
        kind="direct" if found is None else found.address.kind,
        title="" if found is None else found.title,
    )


async def _seen_by(gateway: Gateway, caller: Caller, now: Now) -> Now:
    """What goes on in the conversations that the caller may see."""
    undelivered = await gateway.store.undelivered(None)
    costs = await gateway.store.usage_by("conversation", midnight(), None)
    return now.model_copy(
        update={
            "running": [each for each in now.running if caller.sees(each.place.conversation)],
            "parked": [each for each in now.parked if caller.sees(each.place.conversation)],
            "queues": [each for each in now.queues if caller.sees(each.place.conversation)],
            "undelivered": sum(caller.sees(conversation_id(each.session)) for each in undelivered),
            "cost_today": sum(each.totals.cost for each in costs if caller.sees(conversation_id(each.key))),
        }
    )


def _parts(gateway: Gateway) -> dict[str, str]:
    """The problems of parts that are no channels."""
    problems = {name: text for name, text in gateway.problems().items() if name not in gateway.channels}
    return {name: gateway.mask(text) for name, text in (problems | dict(gateway.tool_problems())).items()}
