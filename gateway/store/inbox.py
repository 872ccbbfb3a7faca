"""The inbox: what becomes of a message in the one transaction that keeps it, and of the messages that still wait."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import assert_never

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert

from agent.log import Said
from agent.media import Attachment
from channels.address import Address
from channels.message import FileRef, InboundMessage
from gateway.store.encoding import (
    address_from_json,
    address_to_json,
    attachments_from_json,
    attachments_to_json,
    files_from_json,
    files_to_json,
)
from gateway.store.records import Arrival, Changed, Unfetched
from gateway.store.schema import (
    AnyRow,
    clean,
    inbox,
    is_message,
    is_refused,
    is_running,
    is_waiting,
    media_uses,
    sessions,
    turns,
)

ALBUM = "part of an album"
UNCHANGED = "nothing changed"
CHANGED = "changed a message that was still waiting"
TOO_LATE_TO_EDIT = "the message was edited after it had been answered"
UNKNOWN_EDITED = "the edited message is not known here"
WITHDRAWN = "withdrawn by its sender"
WITHDREW = "withdrew a message that was still waiting"
TOO_LATE_TO_WITHDRAW = "the message was withdrawn after it had been read"
UNKNOWN_WITHDRAWN = "the withdrawn message is not known here"

_new_session = insert(sessions).values(
    key=bindparam("key"),
    channel=bindparam("channel"),
    address=bindparam("address"),
    created_at=bindparam("now"),
    last_at=bindparam("now"),
)
_keep_session = _new_session.on_conflict_do_update(
    index_elements=["key"], set_={"last_at": _new_session.excluded.last_at}
).returning(sessions.c.generation)

_keep_message = (
    insert(inbox)
    .values(
        {column.name: bindparam(column.name) for column in inbox.c if column.name not in ("id", "turn", "step")},
    )
    .on_conflict_do_nothing(index_elements=["channel", "event_id"])
    .returning(inbox.c.id)
)

_same_event = select(inbox.c.id, inbox.c.session, inbox.c.state, inbox.c.reason).where(
    inbox.c.channel == bindparam("channel"), inbox.c.event_id == bindparam("event_id")
)

_refused_before = (
    select(inbox.c.id)
    .where(
        inbox.c.channel == bindparam("channel"),
        inbox.c.sender_id == bindparam("sender_id"),
        is_refused,
        inbox.c.id < bindparam("row"),
    )
    .limit(1)
)

_first_waiting = (
    select(inbox.c.ready, inbox.c.kind)
    .where(inbox.c.session == bindparam("session"), is_waiting)
    .order_by(inbox.c.id)
    .limit(1)
)

_count_waiting = (
    select(func.count()).select_from(inbox).where(inbox.c.session == bindparam("session"), is_waiting, is_message)
)

_waiting = (
    select(
        inbox.c.id,
        inbox.c.kind,
        inbox.c.ready,
        inbox.c.address,
        inbox.c.message_id,
        inbox.c.sender_id,
        inbox.c.sender_name,
        inbox.c.sender_handle,
        inbox.c.text,
        inbox.c.attachments,
        inbox.c.note,
    )
    .where(inbox.c.session == bindparam("session"), is_waiting)
    .order_by(inbox.c.id)
)

_consume = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_message, inbox.c.id <= bindparam("last"))
    .values(
        state="consumed",
        turn=bindparam("of_turn"),
        step=bindparam("at_step"),
        generation=bindparam("of_generation"),
    )
)

_album_carrier = (
    select(inbox.c.id, inbox.c.text, inbox.c.note, inbox.c.files)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.album == bindparam("album"),
        inbox.c.id < bindparam("own"),
        is_waiting,
        is_message,
        inbox.c.ready.is_(False),
    )
    .order_by(inbox.c.id)
    .limit(1)
)

_meant = (
    select(
        inbox.c.id, inbox.c.message_id, inbox.c.text, inbox.c.state, func.coalesce(is_running, False).label("running")
    )
    .select_from(inbox.outerjoin(turns, turns.c.id == inbox.c.turn))
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.message_id == bindparam("message_id"),
        inbox.c.kind.in_(["new", "edited"]),
        inbox.c.state.in_(["waiting", "consumed"]),
        inbox.c.id < bindparam("own"),
    )
    .order_by(inbox.c.id.desc())
    .limit(1)
)

_end = update(inbox).where(inbox.c.id == bindparam("row")).values(state=bindparam("end"), reason=bindparam("why"))
_set_text = update(inbox).where(inbox.c.id == bindparam("row")).values(text=bindparam("words"))
_set_note = update(inbox).where(inbox.c.id == bindparam("row")).values(note=bindparam("words"))
_grow_album = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(text=bindparam("words"), note=bindparam("remark"), files=bindparam("all_files"))
)

_withdraw_waiting = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_message, inbox.c.id < bindparam("upto"))
    .values(state="withdrawn", reason=bindparam("why"))
)

_row_to_fetch = select(inbox.c.id, inbox.c.session, inbox.c.address, inbox.c.files, inbox.c.album, inbox.c.note).where(
    inbox.c.id == bindparam("row"), is_waiting, is_message, inbox.c.ready.is_(False)
)

_make_ready = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(ready=True, attachments=bindparam("found"), note=bindparam("remark"))
)

_use_media = insert(media_uses).values(hash=bindparam("hash"), inbox=bindparam("row"))


def accept(connection: Connection, message: InboundMessage, session: str, refused: str | None) -> Arrival:
    """Keeps the message and does what it asks of earlier ones. A second delivery of the same event changes nothing."""
    generation = keep_session(connection, session, message.address)
    own = _keep(connection, message, session, generation, refused)
    if own is None:
        return _duplicate(connection, message)
    if refused is not None:
        first = not _was_refused_before(connection, message, own)
        return Arrival(own, session, state="refused", reason=refused, first_refusal=first)
    match message.kind:
        case "new":
            return _accept_new(connection, message, session, own)
        case "command":
            return Arrival(own, session, command=True)
        case "edited":
            return _accept_edit(connection, message, session, own)
        case "withdrawn":
            return _accept_withdrawal(connection, message, session, own)
        case _:
            assert_never(message.kind)


def keep_session(connection: Connection, session: str, address: Address) -> int:
    """The session's generation; the session is made if this is the first that is heard of it."""
    values = {
        "key": session,
        "channel": address.channel,
        "address": address_to_json(address),
        "now": datetime.now(UTC),
    }
    return int(connection.execute(_keep_session, values).scalar_one())


def _keep(
    connection: Connection, message: InboundMessage, session: str, generation: int, refused: str | None
) -> int | None:
    """The new row's id, None if the event was kept before. An edit's files are those of the message it edits."""
    files = message.files if message.kind == "new" else ()
    values = {
        "channel": message.address.channel,
        "event_id": message.event_id,
        "session": session,
        "generation": generation,
        "address": address_to_json(message.address),
        "kind": message.kind,
        "message_id": message.message_id,
        "sender_id": message.sender.id,
        "sender_name": message.sender.name,
        "sender_handle": message.sender.handle,
        "text": message.text,
        "note": message.note,
        "command": message.command,
        "files": files_to_json(files),
        "attachments": [],
        "album": message.album if message.kind == "new" else None,
        "ready": not files,
        "state": "waiting" if refused is None else "refused",
        "reason": refused or "",
        "sent_at": message.sent_at,
        "received_at": datetime.now(UTC),
    }
    return connection.execute(_keep_message, values).scalar()


def _duplicate(connection: Connection, message: InboundMessage) -> Arrival:
    values = {"channel": message.address.channel, "event_id": message.event_id}
    row = connection.execute(_same_event, values).one()
    return Arrival(row.id, row.session, duplicate=True, state=row.state, reason=row.reason)


def _was_refused_before(connection: Connection, message: InboundMessage, own: int) -> bool:
    values = {"channel": message.address.channel, "sender_id": message.sender.id, "row": own}
    return connection.execute(_refused_before, values).first() is not None


def _accept_new(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    if message.album is not None:
        values = {"session": session, "album": message.album, "own": own}
        carrier = connection.execute(_album_carrier, values).first()
        if carrier is not None:
            return _join_album(connection, carrier, message, session, own)
    if message.files:
        return Arrival(own, session, to_fetch=own)
    return Arrival(own, session, wakes=True)


def _join_album(connection: Connection, carrier: AnyRow, message: InboundMessage, session: str, own: int) -> Arrival:
    values = {
        "row": carrier.id,
        "words": _lines(carrier.text, message.text),
        "remark": _lines(carrier.note, message.note),
        "all_files": [*carrier.files, *files_to_json(message.files)],
    }
    connection.execute(_grow_album, values)
    return _absorb(connection, session, own, ALBUM)


def _accept_edit(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    meant = _find_meant(connection, message, session, own)
    if meant is None:
        return _absorb(connection, session, own, UNKNOWN_EDITED)
    if meant.text == clean(message.text):
        return _absorb(connection, session, own, UNCHANGED)
    if meant.state == "waiting":
        connection.execute(_set_text, {"row": meant.id, "words": message.text})
        return _absorb(connection, session, own, CHANGED, changed=Changed(meant.id, meant.message_id, "waiting"))
    if not meant.running:
        return _absorb(connection, session, own, TOO_LATE_TO_EDIT)
    before = f'They edited an earlier message. Before: "{meant.text}"'
    connection.execute(_set_note, {"row": own, "words": _lines(before, message.note)})
    return Arrival(own, session, wakes=True)


def _accept_withdrawal(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    meant = _find_meant(connection, message, session, own)
    if meant is None:
        return _absorb(connection, session, own, UNKNOWN_WITHDRAWN)
    if meant.state != "waiting":
        return _absorb(connection, session, own, TOO_LATE_TO_WITHDRAW)
    connection.execute(_end, {"row": meant.id, "end": "withdrawn", "why": WITHDRAWN})
    changed = Changed(meant.id, meant.message_id, "withdrawn", WITHDRAWN)
    # The message may have been the one whose files kept those behind it waiting.
    wakes = has_waiting(connection, session)
    return _absorb(connection, session, own, WITHDREW, changed=changed, wakes=wakes)


def _find_meant(connection: Connection, message: InboundMessage, session: str, own: int) -> AnyRow | None:
    """The row that carries the newest text of the message meant, as far as a turn has read or will read it."""
    if message.message_id is None:
        return None
    values = {"session": session, "message_id": message.message_id, "own": own}
    return connection.execute(_meant, values).first()


def _absorb(
    connection: Connection,
    session: str,
    own: int,
    reason: str,
    *,
    changed: Changed | None = None,
    wakes: bool = False,
) -> Arrival:
    """The message has had its effect and is not itself read by a turn."""
    connection.execute(_end, {"row": own, "end": "answered", "why": reason})
    return Arrival(own, session, state="answered", reason=reason, changed=changed, wakes=wakes)


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def has_waiting(connection: Connection, session: str) -> bool:
    """Whether a turn could read something now."""
    first = connection.execute(_first_waiting, {"session": session}).first()
    return first is not None and _is_readable(first)


def count_waiting(connection: Connection, session: str) -> int:
    """How many messages wait, those whose files are still being fetched included."""
    return int(connection.execute(_count_waiting, {"session": session}).scalar_one())


def ready_rows(connection: Connection, session: str) -> list[AnyRow]:
    """What a turn may read now, in order.

    Nothing overtakes a message whose files are still being fetched, nor a command that is not answered yet: what was
    said after a stop or a new beginning is read by no turn that these end.
    """
    return list(takewhile(_is_readable, connection.execute(_waiting, {"session": session})))


def _is_readable(row: AnyRow) -> bool:
    return bool(row.ready) and row.kind != "command"


def consume(
    connection: Connection, session: str, rows: Sequence[AnyRow], turn_id: str, step: int, generation: int
) -> tuple[Said, ...]:
    """The `ready_rows` are read by the turn at the step, and belong to the turn's generation."""
    values = {
        "of_session": session,
        "last": rows[-1].id,
        "of_turn": turn_id,
        "at_step": step,
        "of_generation": generation,
    }
    connection.execute(_consume, values)
    return tuple(
        Said(row.id, row.sender_name, row.text, attachments_from_json(row.attachments), row.note) for row in rows
    )


def stop_waiting(connection: Connection, session: str, upto: int, reason: str) -> int:
    """Withdraws the messages that came before row `upto`; how many."""
    values = {"of_session": session, "upto": upto, "why": reason}
    return connection.execute(_withdraw_waiting, values).rowcount


def unfetched(connection: Connection, row_id: int) -> Unfetched | None:
    """The message with the files it has by now; None once it is ready or waits no longer."""
    row = connection.execute(_row_to_fetch, {"row": row_id}).first()
    return None if row is None else unfetched_from(row)


def unfetched_from(row: AnyRow) -> Unfetched:
    return Unfetched(row.id, row.session, address_from_json(row.address), files_from_json(row.files), row.album)


def ready(
    connection: Connection, row_id: int, fetched: Sequence[FileRef], attachments: Sequence[Attachment], note: str
) -> bool:
    """The message may be read; False when its album has grown beyond `fetched` meanwhile."""
    row = connection.execute(_row_to_fetch, {"row": row_id}).first()
    if row is None:
        return True
    if len(row.files) > len(fetched):
        return False
    values = {"row": row_id, "found": attachments_to_json(attachments), "remark": _lines(row.note, note)}
    connection.execute(_make_ready, values)
    if attachments:
        connection.execute(_use_media, [{"hash": attachment.hash, "row": row_id} for attachment in attachments])
    return True
