"""What goes on, for operators: running and waiting turns, the inbox, replies that were not delivered, conversations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BindParameter, Connection, Select, bindparam, func, select

from agent.decisions.approvals import open_decision
from agent.decisions.external_tools import pending
from agent.log import Call, Entry
from agent.log_state import step_of, unresolved
from channels.address import Address, Sender
from gateway.sessions import account_of
from gateway.store import delivery, logs
from gateway.store.encoding import address_from_json, sender_from_json
from gateway.store.reading import shown_title, turns_by_id
from gateway.store.records import Turn, TurnKind, UndeliveredReply, UsageTotals
from gateway.store.schema import (
    AnyRow,
    inbox,
    is_running,
    is_running_work,
    is_turn,
    is_undelivered,
    is_waiting,
    sessions,
    turns,
    usage,
    work,
)
from gateway.store.usage import costs_of_turns, total_usage

MAX_TURNS = 200
"""Turns that are read with their logs; the others are counted."""

MAX_CONVERSATIONS = 1000

WaitsFor = Literal["", "approval", "answer", "results"]
"""What a parked turn waits for: a decision, an answer to its question, the results of external tools; "" for one that
is not parked."""


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that has not ended. `session` may be that of a delegated task. `calls` are the tool calls that have
    started, by name; without one, the model is answering. `asked_by` is the tool for which approval is asked ("limit"
    for a limit), or that waits. `deadline`: what it waits for is refused then."""

    id: str
    session: str
    kind: TurnKind
    address: Address
    person: Sender
    agent: str
    started_at: datetime
    step: int
    calls: tuple[str, ...] = ()
    waits_for: WaitsFor = ""
    asked_by: str = ""
    deadline: datetime | None = None
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Inbox:
    """The unread messages: how many, in how many conversations, and when the oldest was received."""

    messages: int = 0
    conversations: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A conversation with its title, or else the beginning of its first message."""

    address: Address
    title: str


@dataclass(frozen=True, slots=True)
class Queue:
    """The unread messages of one conversation: how many, and when the oldest was received."""

    session: str
    messages: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """`turns` are the oldest `MAX_TURNS` that have not ended, of `open` in all; `pending` replies are being delivered;
    `today` is what was used since midnight UTC."""

    turns: tuple[OpenTurn, ...]
    open: int
    inbox: Inbox
    background: int
    pending: int
    undelivered: tuple[UndeliveredReply, ...]
    today: UsageTotals


_accounts = select(sessions.c.key, sessions.c.last_at).where(
    sessions.c.channel == bindparam("of_channel"), sessions.c.parent.is_(None)
)

ConversationState = Literal["running", "parked", "waiting", "idle"]
"""A turn runs, a turn waits for people, messages wait to be read, or nothing."""


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """`title` is the conversation's title, or the beginning of its first message; `waiting` counts unread messages,
    `cost` is in dollars, of all its turns and delegated tasks."""

    session: str
    address: Address
    title: str
    last_at: datetime
    state: ConversationState
    waiting: int
    cost: float


_open = select(turns).where(is_running).order_by(turns.c.number).limit(MAX_TURNS)
_parked = _open.where(turns.c.parked)
_elsewhere = (
    select(turns.c.id)
    .where(is_running, ~turns.c.parked, turns.c.worker != bindparam("own"))
    .order_by(turns.c.number)
    .limit(MAX_TURNS)
)
_running_beside = (
    select(func.count())
    .select_from(turns.join(sessions, sessions.c.key == turns.c.session))
    .where(is_turn, is_running, ~turns.c.parked, sessions.c.parent.is_(None), sessions.c.key != bindparam("but"))
)
_inbox = select(func.count(), func.count(func.distinct(inbox.c.session)), func.min(inbox.c.received_at)).where(
    is_waiting
)
_places = select(sessions.c.key, sessions.c.address, shown_title.label("title")).where(
    sessions.c.key.in_(bindparam("keys", expanding=True))
)
_queues = (
    select(inbox.c.session, func.count().label("messages"), func.min(inbox.c.received_at).label("oldest"))
    .where(is_waiting)
    .group_by(inbox.c.session)
    .order_by(func.min(inbox.c.received_at))
    .limit(MAX_TURNS)
)
_keys: BindParameter[str] = bindparam("keys", expanding=True)
_newest = (
    select(sessions.c.key)
    .where(sessions.c.parent.is_(None))
    .order_by(sessions.c.last_at.desc())
    .limit(bindparam("size"))
)
_newest_rows = (
    select(sessions.c.key, sessions.c.address, shown_title.label("title"), sessions.c.last_at)
    .where(sessions.c.key.in_(_keys))
    .order_by(sessions.c.last_at.desc())
)
_waiting = select(inbox.c.session, func.count()).where(is_waiting, inbox.c.session.in_(_keys)).group_by(inbox.c.session)
_unfinished = select(turns.c.session, turns.c.parked).where(is_running, is_turn, turns.c.session.in_(_keys))
_costs = select(usage.c.session, func.sum(usage.c.cost)).where(usage.c.session.in_(_keys)).group_by(usage.c.session)


def overview(connection: Connection, midnight: datetime) -> Overview:
    """What goes on now."""
    messages, conversations, oldest = connection.execute(_inbox).one()
    return Overview(
        turns=_open_turns(connection, _open),
        open=_count(connection, select(func.count()).select_from(turns).where(is_running)),
        inbox=Inbox(messages, conversations, oldest),
        background=_count(connection, select(func.count()).select_from(work).where(is_running_work)),
        pending=_count(connection, select(func.count()).select_from(turns).where(is_undelivered)),
        undelivered=delivery.undelivered(connection),
        today=total_usage(connection, midnight),
    )


def parked_turns(connection: Connection) -> tuple[OpenTurn, ...]:
    """The turns that wait for people, the oldest `MAX_TURNS`."""
    return _open_turns(connection, _parked)


def running_elsewhere(connection: Connection, worker: str) -> tuple[Turn, ...]:
    """The turns that run and that this worker does not run, the oldest `MAX_TURNS`."""
    return turns_by_id(connection, list(connection.execute(_elsewhere, {"own": worker}).scalars()))


def count_running_beside(connection: Connection, session: str) -> int:
    """How many turns of other conversations run, in any worker."""
    return int(connection.execute(_running_beside, {"but": session}).scalar_one())


def queues(connection: Connection) -> tuple[Queue, ...]:
    """The conversations with unread messages, those first that wait longest; at most `MAX_TURNS`."""
    return tuple(Queue(row.session, row.messages, row.oldest) for row in connection.execute(_queues))


def places(connection: Connection, keys: Collection[str]) -> dict[str, Place]:
    """The conversations with these session keys, those that exist."""
    return {
        row.key: Place(address_from_json(row.address), " ".join((row.title or "").split()))
        for row in connection.execute(_places, {"keys": list(keys)})
    }


def accounts(connection: Connection, channel: str) -> dict[str, datetime]:
    """The accounts of the channel in which there are conversations, each with the time of the newest one."""
    newest: dict[str, datetime] = {}
    for key, last_at in connection.execute(_accounts, {"of_channel": channel}):
        account = account_of(key)
        newest[account] = max(last_at, newest.get(account, last_at))
    return newest


def _open_turns(connection: Connection, query: Select[Any]) -> tuple[OpenTurn, ...]:
    rows = connection.execute(query).all()
    costs = costs_of_turns(connection, [row.id for row in rows])
    return tuple(_open_turn(connection, row, costs.get(row.id, 0.0)) for row in rows)


def conversation_rows(connection: Connection, limit: int = MAX_CONVERSATIONS) -> tuple[ConversationRow, ...]:
    """The conversations with the newest messages, newest first."""
    keys = {"keys": connection.execute(_newest, {"size": limit}).scalars().all()}
    found = connection.execute(_newest_rows, keys).all()
    waiting: dict[str, int] = dict(connection.execute(_waiting, keys).all())
    parked: dict[str, bool] = dict(connection.execute(_unfinished, keys).all())
    costs: dict[str, float] = dict(connection.execute(_costs, keys).all())
    return tuple(
        ConversationRow(
            row.key,
            address_from_json(row.address),
            " ".join((row.title or "").split()),
            row.last_at,
            _state(parked.get(row.key), waiting.get(row.key, 0)),
            waiting.get(row.key, 0),
            float(costs.get(row.key, 0.0)),
        )
        for row in found
    )


def _state(parked: bool | None, waiting: int) -> ConversationState:
    """`parked`: whether its unfinished turn is; None if it has none."""
    if parked is None:
        return "waiting" if waiting else "idle"
    return "parked" if parked else "running"


def _open_turn(connection: Connection, row: AnyRow, cost: float) -> OpenTurn:
    entries = logs.read(connection, row.number)
    waits_for, asked_by = _wait(entries) if row.parked else ("", "")
    return OpenTurn(
        id=row.id,
        session=row.session,
        kind=row.kind,
        address=address_from_json(row.address),
        person=sender_from_json(row.principal),
        agent=row.agent or "",
        started_at=row.started_at,
        step=step_of(entries),
        calls=tuple(call.name for call in _running_calls(entries)),
        waits_for=waits_for,
        asked_by=asked_by,
        deadline=row.deadline,
        cost=cost,
    )


def _wait(entries: Sequence[Entry]) -> tuple[WaitsFor, str]:
    """What the parked turn waits for, and `OpenTurn.asked_by`."""
    request = open_decision(entries)
    if request is not None:
        called = {call.id: call.name for call, _ in unresolved(entries)}
        return "approval", request.tool or called.get(request.id, request.subject)
    if pending(entries):
        return "results", ", ".join(call.name for call in _running_calls(entries))
    return "answer", ", ".join(call.name for call in _running_calls(entries))


def _running_calls(entries: Sequence[Entry]) -> list[Call]:
    return [call for call, started in unresolved(entries) if started]


def _count(connection: Connection, query: Select[int]) -> int:
    return int(connection.execute(query).scalar_one())
