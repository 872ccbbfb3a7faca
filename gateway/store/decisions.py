"""People's decisions on the request of a turn: written to the turn's log, and a parked turn released to go on.

A turn that is not parked yet finds the decision when it is to be. From its request until then it writes nothing else,
and nobody else writes to the log of a parked turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from agent.decisions.approvals import decision_options, open_decision
from agent.log import ApprovalDecided, ApprovalRequested, Entry, ModelAnswered, Resumed
from channels.address import Sender
from channels.message import InboundMessage
from gateway.store import audit, logs
from gateway.store.decision_words import parse_decision
from gateway.store.inbox import has_answer
from gateway.store.records import AcceptOptions, AuditEvent, DecisionResult
from gateway.store.schema import (
    AnyRow,
    clean,
    inbox,
    is_command,
    is_running,
    is_turn,
    is_waiting,
    turns,
)
from gateway.store.sessions import allow_tool
from gateway.store.turn_rows import level_of

KEY = "d:"
"""Prefix of a decision's id in the key of its question."""

PRESSED = "a decision"

RELEASED = ""
"""The worker of a turn that was parked and may be claimed."""

LAST_ENTRIES = 8
"""Of a log that ends with a request: more than the restarts in a row that a turn survives."""

MAX_TURNS_SEARCHED = 5
"""The newest turns of a session, which are searched for a decision that is no longer open."""

_unfinished = select(
    turns.c.number,
    turns.c.id,
    turns.c.session,
    turns.c.address,
    turns.c.principal,
    turns.c.parked,
    turns.c.stop,
).where(turns.c.session == bindparam("session"), is_turn, is_running)
_press = select(inbox.c.session, inbox.c.sender_id, inbox.c.sender_name).where(
    inbox.c.id == bindparam("row"), is_command, is_waiting
)
_newest = (
    select(turns.c.number)
    .where(turns.c.session == bindparam("session"), is_turn)
    .order_by(turns.c.number.desc())
    .limit(MAX_TURNS_SEARCHED)
)
_answer_press = update(inbox).where(inbox.c.id == bindparam("row")).values(state="answered", reason=PRESSED)

_release = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(parked=False, deadline=None, worker=RELEASED, delivered=False)
)


@dataclass(frozen=True, slots=True)
class _OpenRequest:
    """A turn that waits for a decision, or is about to, with its log."""

    turn: AnyRow
    entries: tuple[Entry, ...]
    asked: ApprovalRequested


def decide(
    connection: Connection, command_id: int, key: str, number: int, may_decide: bool, may_extend: bool = True
) -> DecisionResult:
    """A pressed option decides what the session's turn has asked; if that is parked, it can be claimed.

    `may_decide`: whoever pressed it may decide there, also what other people's turns ask; `may_extend`: and may let a
    turn go beyond a limit. Unless the result is `decided`, the command still waits.
    """
    row = connection.execute(_press, {"row": command_id}).first()
    if row is None:
        return DecisionResult("not_open")
    found = _open_in(connection, _unfinished_turn(connection, row.session))
    if found is None or f"{KEY}{found.asked.id}" != key:
        return _who_decided(connection, row.session, key)
    options = decision_options(found.asked)
    if not 0 <= number < len(options):
        return DecisionResult("not_open", row.session)
    may = may_decide or found.turn.principal["id"] == row.sender_id
    if not may:
        return DecisionResult("not_allowed", row.session)
    if found.asked.subject == "limit" and options[number] == "allowed" and not may_extend:
        return DecisionResult("may_only_stop", row.session)
    if _is_replaced(connection, found.turn, command_id):
        return DecisionResult("not_open", row.session)
    decided = ApprovalDecided(found.asked.id, options[number], row.sender_name or row.sender_id)
    _write(connection, found, decided, Sender(row.sender_id, row.sender_name))
    connection.execute(_answer_press, {"row": command_id})
    return DecisionResult("decided", row.session, decided.by, decided.decision)


def decide_in_words(
    connection: Connection, session: str, own: int, message: InboundMessage, options: AcceptOptions
) -> tuple[str, int] | None:
    """The turn and step in which the message in the row `own` has decided; None: it decides nothing, and is an ordinary
    message."""
    if options.busy is not None or parse_decision(message.text, "call") is None:
        return None
    turn = _unfinished_turn(connection, session)
    found = _open_in(connection, turn) if turn is not None and _ends_with_request(connection, turn) else None
    if found is None or _is_replaced(connection, found.turn, own):
        return None
    asked, turn, sender = found.asked, found.turn, message.sender
    parsed = parse_decision(message.text, asked.subject)
    if parsed is None or (options.own_turn_only and turn.principal["id"] != clean(sender.id)):
        return None
    if asked.subject == "limit" and parsed.decision == "allowed" and not options.may_extend:
        return None
    decided = ApprovalDecided(asked.id, parsed.decision, sender.name or sender.id, clean(parsed.reason))
    _write(connection, found, decided, sender)
    return turn.id, 1 + sum(isinstance(entry, ModelAnswered) for entry in found.entries)


def release(connection: Connection, number: int) -> None:
    """The parked turn may be claimed."""
    connection.execute(_release, {"turn": number})


def _unfinished_turn(connection: Connection, session: str) -> AnyRow | None:
    return connection.execute(_unfinished, {"session": session}).first()


def _open_in(connection: Connection, turn: AnyRow | None) -> _OpenRequest | None:
    """The decision that the turn has requested, unless it is to stop anyway."""
    if turn is None or turn.stop is not None:
        return None
    entries = logs.read(connection, turn.number)
    asked = open_decision(entries)
    return None if asked is None else _OpenRequest(turn, entries, asked)


def _ends_with_request(connection: Connection, turn: AnyRow) -> bool:
    """Without reading the whole log: words like "yes" are said to turns that ask nothing, too."""
    last = (each for each in logs.newest(connection, turn.number, LAST_ENTRIES) if not isinstance(each, Resumed))
    return isinstance(next(last, None), ApprovalRequested)


def _is_replaced(connection: Connection, turn: AnyRow, own: int) -> bool:
    """Whether a message before the row `own` has come instead of a decision: the turn drops its request for it."""
    return has_answer(connection, turn.session, level_of(turn), awaits_decision=True, before=own)


def _write(connection: Connection, found: _OpenRequest, decided: ApprovalDecided, by: Sender) -> None:
    logs.write(connection, found.turn.number, len(found.entries) + 1, [decided])
    if found.turn.parked:
        release(connection, found.turn.number)
    tool = found.asked.tool or _tool_of(found.asked.id, found.entries)
    if decided.decision == "allowed_always" and tool is not None:
        allow_tool(connection, found.turn.session, tool)
    audit.record(connection, _audit_event(found, decided, by, tool))


def _audit_event(found: _OpenRequest, decided: ApprovalDecided, by: Sender, tool: str | None) -> AuditEvent:
    channel = found.turn.address["channel"]
    subject = {"tool": tool, "arguments": found.asked.shown_arguments} if tool else {"limit": found.asked.id}
    detail = {
        **subject,
        "decision": decided.decision,
        "turn": found.turn.id,
        "began_by": f"{channel}:{found.turn.principal['id']}",
    }
    is_allowed = decided.decision in ("allowed", "allowed_always")
    actor = audit.actor_of(channel, by)
    return AuditEvent("approved" if is_allowed else "denied", actor, by.name, found.turn.session, detail)


def _tool_of(call_id: str, entries: Sequence[Entry]) -> str | None:
    calls = (call for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls)
    return next((call.name for call in calls if call.id == call_id), None)


def _who_decided(connection: Connection, session: str, key: str) -> DecisionResult:
    for number in connection.execute(_newest, {"session": session}).scalars().all():
        for entry in logs.read(connection, number):
            if isinstance(entry, ApprovalDecided) and f"{KEY}{entry.id}" == key:
                return DecisionResult("not_open", session, entry.by, entry.decision)
    return DecisionResult("not_open", session)
