"""Forks: a new conversation with the history of another one up to a turn. All of it is copied, so that each of the two
can be changed and deleted by itself. Costs stay with the original."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from agent.log import Compacted, InputEnded, MessagesRead, dump, load
from channels.address import Address
from gateway.sessions import session_key
from gateway.store import upsert
from gateway.store.encoding import address_to_json
from gateway.store.records import ModelChoice
from gateway.store.schedules import schedule_of
from gateway.store.schema import AnyRow, inbox, is_ended, is_turn, media_uses, sessions, turn_log, turns
from gateway.store.sessions import current_generation

MAX_TURNS = 1000
"""Turns that are copied, the newest ones. Of so many a model is shown the older ones as a summary, if at all."""

ForkOutcome = Literal["forked", "exists", "not_found", "not_ended"]
"""`exists`: there is a conversation at the new address. `not_found`: the original has no such message or run.
`not_ended`: no turn has read the message, the turn runs or waits, or none has ended there."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The conversation at the new `address` is to begin with the history of `session` up to and including the turn that
    read the message with this inbox id, or that of the run; without either, up to the last turn that has ended. The
    turn may have been undone. What is chosen in the new one is `choice`."""

    session: str
    address: Address
    message: int | None = None
    run: str | None = None
    title: str = ""
    choice: ModelChoice = field(default_factory=ModelChoice)


@dataclass(frozen=True, slots=True)
class _Copies:
    """The new conversation, and what is new for each copied turn and message, by what is old."""

    session: str
    address: dict[str, Any]
    ids: Mapping[str, str]
    """Of turns."""
    numbers: Mapping[int, int]
    """Of turns."""
    rows: Mapping[int, int]
    """Of messages."""


COPIED = "fork/"
"""Begins the event ids of copied messages."""

_of_session = bindparam("session", type_=sessions.c.key.type)
_read_by = select(inbox.c.turn).where(inbox.c.session == _of_session, inbox.c.id == bindparam("message"))
_of_run = select(inbox.c.turn).where(inbox.c.session == _of_session, inbox.c.run == bindparam("run"))
_turn = select(turns).where(turns.c.session == _of_session, turns.c.id == bindparam("turn_id"))
_newest = (
    select(turns)
    .where(turns.c.session == _of_session, turns.c.generation == current_generation, is_turn, is_ended, ~turns.c.undone)
    .order_by(turns.c.number.desc())
    .limit(1)
)
_history = (
    select(turns)
    .where(
        turns.c.session == _of_session,
        turns.c.generation == bindparam("of_generation"),
        is_turn,
        is_ended,
        turns.c.number <= bindparam("last"),
        or_(~turns.c.undone, turns.c.number == bindparam("last")),
    )
    .order_by(turns.c.number.desc())
    .limit(bindparam("most"))
)
_messages = select(inbox).where(inbox.c.turn.in_(bindparam("ids", expanding=True))).order_by(inbox.c.id)
_uses = select(media_uses).where(
    or_(
        media_uses.c.turn.in_(bindparam("turns", expanding=True)),
        media_uses.c.inbox.in_(bindparam("rows", expanding=True)),
    )
)
_any_copy = (
    select(inbox.c.id)
    .where(inbox.c.session == _of_session, inbox.c.event_id.startswith(COPIED, autoescape=True))
    .limit(1)
)
_log = select(turn_log).where(turn_log.c.turn == bindparam("turn")).order_by(turn_log.c.n)
_follow = update(inbox).where(inbox.c.id == bindparam("row")).values(follows=bindparam("followed"))

_REFERRING = ('"messages_read"', '"input_ended"', '"compacted"')
"""Kinds of entries that name messages or turns."""


def fork(connection: Connection, wanted: Fork, most: int = MAX_TURNS) -> ForkOutcome:
    """Makes the new conversation, with the newest `most` turns of the history. Approvals that hold for the whole
    conversation and running work stay behind."""
    last = _last_turn(connection, wanted)
    if isinstance(last, str):
        return last
    of_history = {"session": wanted.session, "of_generation": last.generation, "last": last.number, "most": most}
    found = connection.execute(_history, of_history).all()[::-1]
    if not _begin(connection, wanted, found):
        return "exists"
    copies = _copy_rows(connection, wanted, found)
    _copy_uses(connection, copies)
    for old, new in copies.numbers.items():
        _copy_log(connection, old, new, copies)
    return "forked"


def is_fork(connection: Connection, session: str) -> bool:
    """Whether the conversation has copies of messages."""
    return connection.execute(_any_copy, {"session": session}).first() is not None


def _last_turn(connection: Connection, wanted: Fork) -> AnyRow | ForkOutcome:
    """The turn up to which the history is copied, or why there is none."""
    of_session = {"session": wanted.session}
    if wanted.message is None and wanted.run is None:
        return connection.execute(_newest, of_session).first() or "not_ended"
    if wanted.message is not None:
        read = connection.execute(_read_by, {**of_session, "message": wanted.message}).first()
    else:
        read = connection.execute(_of_run, {**of_session, "run": wanted.run}).first()
    if read is not None and read.turn is None:
        return "not_ended"
    turn_id = wanted.run if read is None else read.turn
    turn = connection.execute(_turn, {**of_session, "turn_id": turn_id}).first()
    if turn is None:
        return "not_found"
    return "not_ended" if turn.state == "running" else turn


def _begin(connection: Connection, wanted: Fork, found: Sequence[AnyRow]) -> bool:
    """Whether there was no conversation at the new address. As old as its oldest part: what is older than the settings
    allow is found by that."""
    settings = connection.execute(select(sessions.c.busy).where(sessions.c.key == wanted.session)).one()
    now = datetime.now(UTC)
    values = {
        "key": session_key(wanted.address),
        "channel": wanted.address.channel,
        "address": address_to_json(wanted.address),
        "busy": settings.busy,
        "model": wanted.choice.model or None,
        "reasoning": None if wanted.choice.reasoning is None else str(wanted.choice.reasoning),
        "agent": wanted.choice.agent or None,
        "title": wanted.title or None,
        "created_at": min((turn.started_at for turn in found), default=now),
        "last_at": now,
    }
    statement = upsert.insert(sessions).values(values).on_conflict_do_nothing(index_elements=["key"])
    return connection.execute(statement.returning(sessions.c.key)).first() is not None


def _copy_rows(connection: Connection, wanted: Fork, found: Sequence[AnyRow]) -> _Copies:
    """Copies the turns without their logs, and the messages that they read. Those keep the channel of their senders,
    under which all that a person has written is found."""
    ids = {turn.id: uuid4().hex for turn in found}
    session, address = session_key(wanted.address), address_to_json(wanted.address)
    own = {"session": session, "generation": 0, "address": address}
    if found:
        connection.execute(insert(turns), [_turn_values(turn, ids) | own for turn in found])
    made = select(turns.c.id, turns.c.number).where(turns.c.session == session)
    new_numbers: dict[str, int] = dict(connection.execute(made).all())
    read = connection.execute(_messages, {"ids": list(ids)}).all()
    events = {row.id: _copied_event(row.event_id) for row in read}
    if read:
        connection.execute(insert(inbox), [_message_values(row, ids, events) | own for row in read])
    stored = select(inbox.c.event_id, inbox.c.id).where(inbox.c.session == session)
    new_rows: dict[str, int] = dict(connection.execute(stored).all())
    rows = {old: new_rows[event] for old, event in events.items()}
    following = [{"row": rows[row.id], "followed": rows[row.follows]} for row in read if row.follows in rows]
    if following:
        connection.execute(_follow, following)
    numbers = {turn.number: new_numbers[ids[turn.id]] for turn in found}
    return _Copies(session, address, ids, numbers, rows)


def _turn_values(turn: AnyRow, ids: Mapping[str, str]) -> dict[str, Any]:
    """All of it is delivered: it was in the original conversation, as far as it could be."""
    values = dict(turn._mapping) | {
        "id": ids[turn.id],
        "parked": False,
        "stop": None,
        "deadline": None,
        "undone": False,
        "delivered": True,
        "undeliverable": None,
        "draft": None,
        "asks": None,
    }
    del values["number"]
    return values


def _copied_event(event_id: str) -> str:
    """A new event; a copy of a scheduled task's message says so, too."""
    schedule = schedule_of(event_id)
    return f"{COPIED}{uuid4().hex}{'' if schedule is None else f':schedule:{schedule}'}"


def _message_values(row: AnyRow, ids: Mapping[str, str], events: Mapping[int, str]) -> dict[str, Any]:
    values = dict(row._mapping) | {
        "event_id": events[row.id],
        "run": None if row.run is None else ids.get(row.run) or uuid4().hex,
        "turn": ids[row.turn],
        "follows": None,
        "digest": None,
    }
    del values["id"]
    return values


def _copy_uses(connection: Connection, copies: _Copies) -> None:
    used = connection.execute(_uses, {"turns": list(copies.numbers), "rows": list(copies.rows)})
    values = [
        {"hash": use.hash, "turn": copies.numbers.get(use.turn), "inbox": copies.rows.get(use.inbox)} for use in used
    ]
    if values:
        connection.execute(insert(media_uses), values)


def _copy_log(connection: Connection, old: int, new: int, copies: _Copies) -> None:
    lines = [
        {"turn": new, "n": line.n, "entry": _renamed(line.entry, copies), "at": line.at}
        for line in connection.execute(_log, {"turn": old})
    ]
    if lines:
        connection.execute(insert(turn_log), lines)


def _renamed(line: str, copies: _Copies) -> str:
    """The entry with the copies of the messages and turns that it names. A summary up to a turn that is not copied
    covers none of those that are."""
    if not any(kind in line for kind in _REFERRING):
        return line
    (entry,) = load([line])
    match entry:
        case MessagesRead(messages=messages):
            named = tuple(replace(message, id=copies.rows.get(message.id, 0)) for message in messages)
            return dump(replace(entry, messages=named))
        case InputEnded(message=message):
            return dump(replace(entry, message=copies.rows.get(message, 0)))
        case Compacted(through=through):
            return dump(replace(entry, through=copies.ids.get(through, "")))
        case _:
            return line
