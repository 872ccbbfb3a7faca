"""What an edited or deleted message does to the message that it means, and to the turn that has read it."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, select, update

from channels.message import InboundMessage
from gateway.store.albums import Part, album_of, part_of
from gateway.store.encoding import foreign_to_json, join_lines
from gateway.store.inbox import (
    TOO_LATE_TO_WITHDRAW,
    busy_unless_blocked,
    is_update,
    waiting_busy,
)
from gateway.store.records import Arrival, MessageChange
from gateway.store.schema import AnyRow, clean, inbox, is_running, turns
from gateway.store.turns import stop_turn

UNCHANGED = "nothing changed"
CHANGED = "changed a message that was still waiting"
UPDATED = "added to a message that was still waiting"
COMPLETED = (
    "Their app completed an earlier message, such as by a preview or a new position; they wrote nothing new. Now:"
)
TOO_LATE_TO_EDIT = "the message was edited after it had been answered"
UNKNOWN_EDITED = "the edited message is not known here"
WITHDRAWN = "withdrawn by its sender"
WITHDREW = "withdrew a message that was still waiting"
STOPPED = "stopped the turn that worked on it"
DELETED = "its message was deleted"
UNKNOWN_WITHDRAWN = "the withdrawn message is not known here"

MAX_ID = 2**63 - 1
"""Beyond the ids of all rows."""

_rows = (
    select(
        inbox.c.id,
        inbox.c.message_id,
        inbox.c.text,
        inbox.c.album,
        inbox.c.files,
        inbox.c.note,
        inbox.c.foreign,
        is_update.label("is_update"),
        inbox.c.ready,
        inbox.c.state,
        inbox.c.turn,
        func.coalesce(is_running, False).label("running"),
    )
    .select_from(inbox.outerjoin(turns, turns.c.id == inbox.c.turn))
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.kind.in_(["new", "edited"]),
        inbox.c.state.in_(["waiting", "consumed"]),
        inbox.c.id < bindparam("own"),
    )
    .limit(1)
)
_target = _rows.where(inbox.c.message_id == bindparam("message_id")).order_by(inbox.c.id.desc())
_edited = _target.where(inbox.c.follows.is_(None))
_carrier = _rows.where(inbox.c.album == bindparam("album")).order_by(inbox.c.id)

_any_row = (
    select(inbox.c.id)
    .where(inbox.c.session == bindparam("session"), inbox.c.message_id == bindparam("message_id"))
    .limit(1)
)

_deleted = select(inbox.c.message_id).where(
    inbox.c.session == bindparam("session"),
    inbox.c.kind == "withdrawn",
    inbox.c.state.in_(["waiting", "consumed"]),
    inbox.c.message_id.is_not(None),
)
_other_messages = (
    select(inbox.c.id)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.turn == bindparam("of_turn"),
        inbox.c.kind.in_(["new", "edited"]),
        inbox.c.source == "person",
        inbox.c.message_id != bindparam("message_id"),
        inbox.c.message_id.not_in(_deleted),
    )
    .limit(1)
)

_end = update(inbox).where(inbox.c.id == bindparam("row")).values(state=bindparam("end"), reason=bindparam("why"))
_set_content = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(text=bindparam("new_text"), note=bindparam("new_note"), foreign=bindparam("new_foreign"))
)
_set_note = update(inbox).where(inbox.c.id == bindparam("row")).values(note=bindparam("new_note"))


def as_new(connection: Connection, message: InboundMessage, session: str) -> InboundMessage | None:
    """The edit as a new message, if it is one: it makes the message one for the bot, which had not got it; or, in a
    direct chat, it changes a message that was answered already."""
    if message.is_update or message.message_id is None or not message.addressed:
        return None
    if connection.execute(_any_row, {"session": session, "message_id": message.message_id}).first() is None:
        return replace(message, kind="new")
    target = _find_edited(connection, message, session, MAX_ID)
    if target is None or target.state == "waiting" or target.running or message.address.kind != "direct":
        return None
    part = _part_of(connection, target, message, session)
    if part.text == clean(message.text):
        return None
    before = f'They edited this message after it had been answered. Before: "{part.text}"'
    return replace(message, kind="new", note=join_lines(before, message.note))


def accept_edit(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    """A waiting message gets the new text; a running turn that has read the message reads the edit."""
    target = _find_edited(connection, message, session, own)
    if target is None:
        return answered(connection, session, own, UNKNOWN_EDITED)
    if message.is_update:
        return _accept_update(connection, message, session, own, target)
    if target.state == "waiting" and target.is_update:
        # The running turn reads it as an edit now.
        connection.execute(_end, {"row": target.id, "end": "answered", "why": UPDATED})
        return accept_edit(connection, message, session, own)
    part = _part_of(connection, target, message, session)
    if part.text == clean(message.text):
        return answered(connection, session, own, UNCHANGED)
    if target.state == "waiting":
        part.edit(connection, target.id, message.text)
        changed = MessageChange(target.id, target.message_id, "waiting")
        return answered(connection, session, own, CHANGED, changed=changed)
    if not target.running:
        return answered(connection, session, own, TOO_LATE_TO_EDIT)
    before = f'They edited an earlier message. Before: "{part.text}"'
    connection.execute(_set_note, {"row": own, "new_note": join_lines(before, message.note)})
    return Arrival(own, session, wakes=busy_unless_blocked(connection, session, own, "steer"))


def _accept_update(connection: Connection, message: InboundMessage, session: str, own: int, target: AnyRow) -> Arrival:
    """Completes a message that waits. A turn that works on the message reads the update at its next step, if there is
    one; nothing is interrupted, and no turn begins because of it."""
    foreign = [each for each in foreign_to_json(message.foreign) or () if each not in (target.foreign or ())]
    if target.text == clean(message.text) and not foreign and clean(message.note) in target.note:
        return answered(connection, session, own, UNCHANGED)
    if target.state == "waiting":
        note = target.note if clean(message.note) in target.note else join_lines(target.note, message.note)
        content = {
            "new_text": message.text,
            "new_note": note,
            "new_foreign": [*(target.foreign or ()), *foreign] or None,
        }
        connection.execute(_set_content, {"row": target.id, **content})
        return answered(connection, session, own, UPDATED)
    connection.execute(_set_note, {"row": own, "new_note": join_lines(COMPLETED, message.note)})
    return Arrival(own, session, wakes=busy_unless_blocked(connection, session, own, "work"))


def accept_withdrawal(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    """A waiting message is withdrawn; a running turn that has read the message stops or reads the deletion."""
    target = _find_target(connection, message, session, own)
    if target is None:
        return answered(connection, session, own, UNKNOWN_WITHDRAWN)
    if target.state != "waiting":
        return _withdraw_read(connection, message, session, own, target)
    is_arriving = False
    changed = None
    while target is not None and target.state == "waiting":
        is_arriving |= not target.ready
        connection.execute(_end, {"row": target.id, "end": "withdrawn", "why": WITHDRAWN})
        changed = MessageChange(target.id, target.message_id, "withdrawn", WITHDRAWN)
        target = _find_target(connection, message, session, own)
    if target is not None and target.running:
        # The waiting row was an edit, or the late files, of a message that the running turn has read.
        return replace(_withdraw_read(connection, message, session, own, target), changed=changed)
    arrival = answered(connection, session, own, WITHDREW, changed=changed)
    # It may have blocked the messages behind it, and a turn may wait for its files.
    return replace(arrival, wakes=waiting_busy(connection, session) or ("work" if is_arriving else None))


def answered(
    connection: Connection,
    session: str,
    own: int,
    reason: str,
    *,
    changed: MessageChange | None = None,
    stop_reason: str = "",
) -> Arrival:
    """Ends the arrived row `own`: it has had its effect, and no turn reads it."""
    connection.execute(_end, {"row": own, "end": "answered", "why": reason})
    return Arrival(own, session, state="answered", reason=reason, changed=changed, stop_reason=stop_reason)


def _withdraw_read(connection: Connection, message: InboundMessage, session: str, own: int, target: AnyRow) -> Arrival:
    """The turn that has read the message stops. If it has read others too, it goes on and is told what to leave out."""
    if not target.running:
        return answered(connection, session, own, TOO_LATE_TO_WITHDRAW)
    values = {"session": session, "of_turn": target.turn, "message_id": message.message_id}
    if connection.execute(_other_messages, values).first() is None:
        stop_turn(connection, target.turn, DELETED)
        return answered(connection, session, own, STOPPED, stop_reason=DELETED)
    note = f'They deleted an earlier message; do nothing about it any more. It was: "{target.text}"'
    connection.execute(_set_note, {"row": own, "new_note": note})
    return Arrival(own, session, wakes=busy_unless_blocked(connection, session, own, "steer"))


def is_known_target(connection: Connection, session: str, message_id: str | None) -> bool:
    """Whether the message waits or a turn has read it."""
    values = {"session": session, "message_id": message_id, "own": MAX_ID}
    return message_id is not None and connection.execute(_target, values).first() is not None


def is_in_work(connection: Connection, session: str, message_id: str | None) -> bool:
    """Whether the message waits or a running turn has read it. A position of long ago may be updated for hours."""
    values = {"session": session, "message_id": message_id, "own": MAX_ID}
    target = None if message_id is None else connection.execute(_edited, values).first()
    return target is not None and (target.state == "waiting" or bool(target.running))


def _find_edited(connection: Connection, message: InboundMessage, session: str, own: int) -> AnyRow | None:
    """The row of the edited message, or the one that carries its text."""
    values = {"session": session, "message_id": message.message_id, "own": own}
    target = connection.execute(_edited, values).first() if message.message_id else None
    album = None if target or not message.message_id else album_of(connection, session, message.message_id)
    if album is None:
        return target
    return connection.execute(_carrier, {"session": session, "album": album, "own": own}).first()


def _part_of(connection: Connection, target: AnyRow, message: InboundMessage, session: str) -> Part:
    return part_of(connection, target, session, message.message_id or "")


def _find_target(connection: Connection, message: InboundMessage, session: str, own: int) -> AnyRow | None:
    """The newest row of the message that is meant, if it waits or a turn has read it."""
    if message.message_id is None:
        return None
    values = {"session": session, "message_id": message.message_id, "own": own}
    return connection.execute(_target, values).first()
