"""Decisions of people on what a parked turn has asked: written to its log, which nobody else writes while it is parked,
and the turn released to go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select, update

from agent.decisions.approvals import open_decision, decision_options
from agent.decisions.external_tools import endings_without_result
from agent.log import ApprovalDecided, ApprovalRequested, Entry, ModelAnswered
from channels.message import InboundMessage
from gateway.store import logs
from gateway.store.decision_words import parse_decision
from gateway.store.records import DecisionResult, AcceptOptions
from gateway.store.schema import (
    AnyRow,
    clean,
    has_deadline,
    inbox,
    is_command,
    is_running,
    is_turn,
    is_waiting,
    sessions,
    turns,
)

KEY = "d:"
"""Before the id of the decision, in the key of its question."""

PRESSED = "a decision"

RELEASED = ""
"""The worker of a turn that was parked and is to go on."""

MOST_LOOKED_AT = 5
"""Turns of a session, the newest, among which a decision that is no longer open is looked for."""

_unfinished = select(
    turns.c.number, turns.c.id, turns.c.session, turns.c.principal, turns.c.parked, turns.c.stop
).where(turns.c.session == bindparam("session"), is_turn, is_running)
_press = select(inbox.c.session, inbox.c.sender_id, inbox.c.sender_name).where(
    inbox.c.id == bindparam("row"), is_command, is_waiting
)
_newest = (
    select(turns.c.number)
    .where(turns.c.session == bindparam("session"), is_turn)
    .order_by(turns.c.number.desc())
    .limit(MOST_LOOKED_AT)
)
_end_press = update(inbox).where(inbox.c.id == bindparam("row")).values(state="answered", reason=PRESSED)

_release = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(parked=False, deadline=None, worker=RELEASED, delivered=False)
)
_allowed = select(sessions.c.allowed).where(sessions.c.key == bindparam("session"))
_allow = update(sessions).where(sessions.c.key == bindparam("of_session")).values(allowed=bindparam("tools"))

_due = (
    select(turns.c.number, turns.c.session)
    .where(has_deadline, turns.c.deadline <= bindparam("now"), is_turn, is_running, turns.c.parked)
    .order_by(turns.c.deadline)
)
_next_deadline = select(func.min(turns.c.deadline)).where(has_deadline, is_turn, is_running, turns.c.parked)


@dataclass(frozen=True, slots=True)
class _Open:
    """A turn that waits for a decision, with its log."""

    turn: AnyRow
    entries: tuple[Entry, ...]
    asked: ApprovalRequested


def decide(connection: Connection, command_id: int, key: str, number: int, allowed: bool, may_extend: bool) -> DecisionResult:
    """A pressed option decides, if its decision is open and whoever pressed it may: because they may decide whatever is
    asked there (`allowed`), or because the turn is theirs. Only who `may_extend` lets it go beyond a limit."""
    row = connection.execute(_press, {"row": command_id}).first()
    if row is None:
        return DecisionResult("not_open")
    found = _open_in(connection, _unfinished_turn(connection, row.session))
    if found is None or f"{KEY}{found.asked.id}" != key:
        return _who_decided(connection, row.session, key)
    options = decision_options(found.asked)
    if not 0 <= number < len(options):
        return DecisionResult("not_open", row.session)
    may = allowed or found.turn.principal["id"] == row.sender_id
    if not may or (found.asked.about == "limit" and options[number] == "allowed" and not may_extend):
        return DecisionResult("not_allowed", row.session)
    if not found.turn.parked:
        return DecisionResult("too_early", row.session)
    decided = ApprovalDecided(found.asked.id, options[number], row.sender_name or row.sender_id)
    _write(connection, found, decided)
    connection.execute(_end_press, {"row": command_id})
    return DecisionResult("decided", row.session, decided.by, decided.decision)


def decide_in_words(
    connection: Connection, session: str, message: InboundMessage, options: AcceptOptions
) -> tuple[str, int] | None:
    """The turn and step in which the message has decided; None: it decides nothing, and is an ordinary one."""
    if options.busy is not None or parse_decision(message.text, "call") is None:
        return None
    turn = _unfinished_turn(connection, session)
    found = _open_in(connection, turn) if turn is not None and turn.parked else None
    if found is None:
        return None
    asked, turn, sender = found.asked, found.turn, message.sender
    spoken = parse_decision(message.text, asked.about)
    if spoken is None or (options.own_turn_only and turn.principal["id"] != clean(sender.id)):
        return None
    if asked.about == "limit" and spoken.decision == "allowed" and not options.may_extend:
        return None
    _write(
        connection, found, ApprovalDecided(asked.id, spoken.decision, sender.name or sender.id, clean(spoken.reason))
    )
    return turn.id, 1 + sum(isinstance(entry, ModelAnswered) for entry in found.entries)


def expire(connection: Connection, now: datetime) -> tuple[str, ...]:
    """Decides what nobody has decided in time, and ends calls whose results nobody supplied; the sessions whose turns
    go on."""
    due = connection.execute(_due, {"now": now}).all()
    for turn in due:
        entries = logs.read(connection, turn.number)
        asked = open_decision(entries)
        ends = endings_without_result(entries, overdue=True) if asked is None else [ApprovalDecided(asked.id, "expired")]
        logs.write(connection, turn.number, len(entries) + 1, ends)
        release(connection, turn.number)
    return tuple(turn.session for turn in due)


def release(connection: Connection, number: int) -> None:
    """The parked turn may be claimed, and goes on."""
    connection.execute(_release, {"turn": number})


def next_deadline(connection: Connection) -> datetime | None:
    """When the next decision expires, or results are overdue."""
    found: datetime | None = connection.execute(_next_deadline).scalar()
    return found


def _unfinished_turn(connection: Connection, session: str) -> AnyRow | None:
    return connection.execute(_unfinished, {"session": session}).first()


def _open_in(connection: Connection, turn: AnyRow | None) -> _Open | None:
    """The decision that the turn has asked for, unless it is to stop anyway."""
    if turn is None or turn.stop is not None:
        return None
    entries = logs.read(connection, turn.number)
    asked = open_decision(entries)
    return None if asked is None else _Open(turn, entries, asked)


def _write(connection: Connection, found: _Open, decided: ApprovalDecided) -> None:
    logs.write(connection, found.turn.number, len(found.entries) + 1, [decided])
    release(connection, found.turn.number)
    if decided.decision == "allowed_always":
        _allow_always(connection, found)


def _allow_always(connection: Connection, found: _Open) -> None:
    """The tool of the call needs no approval any more until the session begins anew."""
    tool = _tool_of(found.asked.id, found.entries)
    allowed = connection.execute(_allowed, {"session": found.turn.session}).scalar() or []
    if tool is not None and tool not in allowed:
        connection.execute(_allow, {"of_session": found.turn.session, "tools": [*allowed, tool]})


def _tool_of(call_id: str, entries: Sequence[Entry]) -> str | None:
    calls = (call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)
    return next((call.name for call in calls if call.id == call_id), None)


def _who_decided(connection: Connection, session: str, key: str) -> DecisionResult:
    for number in connection.execute(_newest, {"session": session}).scalars().all():
        for entry in logs.read(connection, number):
            if isinstance(entry, ApprovalDecided) and f"{KEY}{entry.id}" == key:
                return DecisionResult("not_open", session, entry.by, entry.decision)
    return DecisionResult("not_open", session)
