"""The inbox: what becomes of a message in the one transaction that keeps it, and of the messages that still wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, assert_never
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from agent.log import UserMessage
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import FileRef, InboundMessage
from gateway.sessions import parent_key
from gateway.store import decisions, pairs
from gateway.store.encoding import (
    address_from_json,
    address_to_json,
    attachments_from_json,
    attachments_to_json,
    files_from_json,
    files_to_json,
    tools_from_json,
    tools_to_json,
)
from gateway.store.records import Arrival, Busy, MessageChange, AcceptOptions, Unfetched
from gateway.store.schema import (
    AnyRow,
    clean,
    inbox,
    is_command,
    is_message,
    is_refused,
    is_running,
    is_turn,
    is_waiting,
    is_wrap,
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
TOO_LATE_TO_WITHDRAW = "the message was withdrawn after it had been answered"
NOT_PAIRED = "not let in by an admin yet"
STOPPED = "stopped the turn that worked on it"
REPLACED = "the next message replaced it"
DELETED = "its message was deleted"
DECIDED = "answered the question"
TOO_LATE_TO_WRAP = "the task had ended already"
UNKNOWN_WITHDRAWN = "the withdrawn message is not known here"

_NO_END = 2**62
"""A row id that is never reached."""

_STRONGEST_FIRST: tuple[Busy, ...] = ("steer", "wrap", "work", "interrupt", "collect", "queue")

_new_session = insert(sessions).values(
    key=bindparam("key"),
    channel=bindparam("channel"),
    address=bindparam("address"),
    parent=bindparam("parent"),
    created_at=bindparam("now"),
    last_at=bindparam("now"),
)
_keep_session = _new_session.on_conflict_do_update(
    index_elements=["key"], set_={"last_at": _new_session.excluded.last_at}
).returning(sessions.c.generation, sessions.c.busy)
_conversation = select(func.coalesce(sessions.c.parent, sessions.c.key)).where(sessions.c.key == bindparam("session"))

_keep_message = (
    insert(inbox)
    .values(
        {column.name: bindparam(column.name) for column in inbox.c if column.name not in ("id", "turn", "step")},
    )
    .on_conflict_do_nothing(index_elements=["channel", "event_id"])
    .returning(inbox.c.id)
)

_same_event = select(inbox.c.id, inbox.c.session, inbox.c.state, inbox.c.reason, inbox.c.run).where(
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

_said_to_us = (
    select(inbox.c.id)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.kind.in_(["new", "command"]),
        inbox.c.source != "work",
        inbox.c.state.in_(["waiting", "consumed", "answered", "withdrawn"]),
    )
    .limit(1)
)

_first_waiting = (
    select(inbox.c.ready, inbox.c.kind)
    .where(inbox.c.session == bindparam("session"), is_waiting)
    .order_by(inbox.c.id)
    .limit(1)
)
_first_unreadable = (
    select(func.min(inbox.c.id))
    .where(inbox.c.session == bindparam("session"), is_waiting, or_(is_command, inbox.c.ready.is_(False)))
    .scalar_subquery()
)
_readable_busy = (
    select(inbox.c.busy)
    .where(
        inbox.c.session == bindparam("session"),
        is_waiting,
        inbox.c.id < func.coalesce(_first_unreadable, bindparam("no_end")),
    )
    .distinct()
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
        inbox.c.tools,
        inbox.c.note,
        inbox.c.busy,
        inbox.c.source,
        inbox.c.run,
    )
    .where(inbox.c.session == bindparam("session"), is_waiting)
    .order_by(inbox.c.id)
)

_consume = (
    update(inbox)
    .where(inbox.c.id.in_(bindparam("rows", expanding=True)), is_waiting)
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
        inbox.c.id,
        inbox.c.message_id,
        inbox.c.text,
        inbox.c.state,
        inbox.c.turn,
        func.coalesce(is_running, False).label("running"),
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

_deleted = select(inbox.c.message_id).where(
    inbox.c.session == bindparam("session"),
    inbox.c.kind == "withdrawn",
    inbox.c.state.in_(["waiting", "consumed"]),
    inbox.c.message_id.is_not(None),
)
_others_read = (
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
_at_work = select(turns.c.id, turns.c.principal).where(
    turns.c.session == bindparam("session"), is_turn, is_running, ~turns.c.parked
)
_stop_turn = (
    update(turns).where(turns.c.id == bindparam("of_turn"), is_running).values(stop=bindparam("why"), deadline=None)
)
_too_late = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), inbox.c.kind == "withdrawn", is_waiting)
    .values(state="answered", reason=TOO_LATE_TO_WITHDRAW)
)
_let_steer = update(inbox).where(inbox.c.id.in_(bindparam("rows", expanding=True))).values(busy="steer")

_waiting_wraps = select(inbox).where(inbox.c.session == bindparam("session"), is_waiting, is_wrap).order_by(inbox.c.id)
_drop_wraps = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_wrap)
    .values(state="withdrawn", reason=TOO_LATE_TO_WRAP)
)
_decide = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(state="answered", reason=DECIDED, turn=bindparam("of_turn"), step=bindparam("at_step"))
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
    .returning(inbox.c.id, inbox.c.message_id)
)

_row_to_fetch = select(
    inbox.c.id,
    inbox.c.session,
    inbox.c.address,
    inbox.c.files,
    inbox.c.album,
    inbox.c.opening,
    inbox.c.note,
).where(inbox.c.id == bindparam("row"), is_waiting, is_message, inbox.c.ready.is_(False))

_make_ready = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(ready=True, attachments=bindparam("found"), note=bindparam("remark"))
)

_use_media = insert(media_uses).values(hash=bindparam("hash"), inbox=bindparam("row"))


def accept(
    connection: Connection,
    message: InboundMessage,
    session: str,
    refused: str | None,
    options: AcceptOptions,
) -> Arrival | None:
    """Keeps the message and does what it asks of earlier ones. A second delivery of the same event changes nothing.

    None: the door is closed to it, and nobody needs to be told.
    """
    if options.door in ("known", "known and paired") and not knows(connection, session):
        return None
    if options.door in ("paired", "known and paired") and not _is_let_in(connection, message):
        if message.kind == "edited":
            return None
        refused = refused or NOT_PAIRED
    if message.thread_root is not None and knows(connection, session):
        message = replace(message, thread_root=None)
    generation, set_busy = touch_session(connection, session, message.address)
    busy = options.busy or set_busy or options.default_busy
    run = uuid4().hex if message.kind == "new" else None
    own = _keep(connection, message, session, generation, refused, busy, run)
    if own is None:
        return _duplicate(connection, message.address.channel, message.event_id)
    if refused is not None:
        first = not _was_refused_before(connection, message, own)
        return Arrival(own, session, state="refused", reason=refused, first_refusal=first, run=run)
    match message.kind:
        case "new":
            return replace(_accept_new(connection, message, session, own, busy, options), run=run)
        case "command":
            return Arrival(own, session, command=True)
        case "edited":
            return _accept_edit(connection, message, session, own)
        case "withdrawn":
            return _accept_withdrawal(connection, message, session, own)
        case _:
            assert_never(message.kind)


def _is_let_in(connection: Connection, message: InboundMessage) -> bool:
    return pairs.is_approved(connection, message.address.channel, message.sender.id)


def bring(
    connection: Connection,
    session: str,
    address: Address,
    principal: Sender,
    text: str,
    attachments: Sequence[Attachment],
    event_id: str,
    note: str,
    busy: Busy = "work",
) -> Arrival:
    """Keeps a message of work, once per event id: the result of what went on beside the turns of a session, or the task
    of a session of its own, whose key is made from that of the session it was delegated in."""
    generation, _ = touch_session(connection, session, address, _delegated_from(connection, session))
    run = uuid4().hex
    own = connection.execute(
        _keep_message,
        {
            "channel": address.channel,
            "event_id": event_id,
            "session": session,
            "generation": generation,
            "address": address_to_json(address),
            "kind": "new",
            "source": "work",
            "run": run,
            "message_id": None,
            **_sender_values(principal),
            "text": text,
            "note": note,
            "command": None,
            "files": [],
            "attachments": attachments_to_json(attachments),
            "tools": [],
            "album": None,
            "opening": None,
            "busy": busy,
            "ready": True,
            "state": "waiting",
            "reason": "",
            "sent_at": datetime.now(UTC),
            "received_at": datetime.now(UTC),
        },
    ).scalar()
    if own is None:
        return _duplicate(connection, address.channel, event_id)
    use_media(connection, own, attachments)
    return Arrival(own, session, wakes=_unless_blocked(connection, session, busy), run=run)


def _delegated_from(connection: Connection, session: str) -> str | None:
    """The conversation in which the session's task was delegated, however deep; None if people speak in it."""
    outer = parent_key(session)
    return None if outer is None else connection.execute(_conversation, {"session": outer}).scalar()


def _sender_values(sender: Sender) -> dict[str, Any]:
    return {"sender_id": sender.id, "sender_name": sender.name, "sender_handle": sender.handle}


def touch_session(
    connection: Connection, session: str, address: Address, parent: str | None = None
) -> tuple[int, Busy | None]:
    """The session's generation and what its people chose; it is made if this is the first that is heard of it."""
    values = {
        "key": session,
        "channel": address.channel,
        "address": address_to_json(address),
        "parent": parent,
        "now": datetime.now(UTC),
    }
    generation, busy = connection.execute(_keep_session, values).one()
    return generation, busy


def _keep(
    connection: Connection,
    message: InboundMessage,
    session: str,
    generation: int,
    refused: str | None,
    busy: Busy,
    run: str | None,
) -> int | None:
    """The new row's id, None if the event was kept before. An edit's files are those of the message it edits."""
    is_new = message.kind == "new"
    files = message.files if is_new else ()
    opening = message.thread_root if is_new else None
    values = {
        "channel": message.address.channel,
        "event_id": message.event_id,
        "session": session,
        "generation": generation,
        "address": address_to_json(message.address),
        "kind": message.kind,
        "source": "person",
        "run": run,
        "message_id": message.message_id,
        **_sender_values(message.sender),
        "text": message.text,
        "note": message.note,
        "command": message.command,
        "files": files_to_json(files),
        "attachments": [],
        "tools": tools_to_json(message.tools if is_new else ()),
        "album": message.album if is_new else None,
        "opening": opening,
        # What changes a message that a turn has read is for that turn.
        "busy": busy if is_new else "steer",
        "ready": not files and opening is None,
        "state": "waiting" if refused is None else "refused",
        "reason": refused or "",
        "sent_at": message.sent_at,
        "received_at": datetime.now(UTC),
    }
    return connection.execute(_keep_message, values).scalar()


def _duplicate(connection: Connection, channel: str, event_id: str) -> Arrival:
    row = connection.execute(_same_event, {"channel": channel, "event_id": event_id}).one()
    return Arrival(row.id, row.session, duplicate=True, state=row.state, reason=row.reason, run=row.run)


def _was_refused_before(connection: Connection, message: InboundMessage, own: int) -> bool:
    values = {"channel": message.address.channel, "sender_id": message.sender.id, "row": own}
    return connection.execute(_refused_before, values).first() is not None


def _accept_new(
    connection: Connection, message: InboundMessage, session: str, own: int, busy: Busy, options: AcceptOptions
) -> Arrival:
    if message.album is not None:
        values = {"session": session, "album": message.album, "own": own}
        carrier = connection.execute(_album_carrier, values).first()
        if carrier is not None:
            return _join_album(connection, carrier, message, session, own)
    if not message.files and message.thread_root is None:
        decided = decisions.decide_in_words(connection, session, message, options)
        if decided is not None:
            turn_id, step = decided
            connection.execute(_decide, {"row": own, "of_turn": turn_id, "at_step": step})
            return Arrival(own, session, state="answered", reason=DECIDED, decided=True)
    stops = ""
    if busy == "interrupt":
        busy, stops = _interrupt(connection, message, session, own, options)
    if message.files or message.thread_root is not None:
        return Arrival(own, session, to_fetch=own, stops=stops)
    return Arrival(own, session, wakes=_unless_blocked(connection, session, busy), stops=stops)


def _interrupt(
    connection: Connection, message: InboundMessage, session: str, own: int, options: AcceptOptions
) -> tuple[Busy, str]:
    """What the message does after all, and why the running turn has to end, "" if it goes on. One that waits for people
    is answered, and one that the sender may not stop is steered."""
    turn = connection.execute(_at_work, {"session": session}).first()
    if turn is None:
        return "interrupt", ""
    if options.own_turn_only and turn.principal["id"] != clean(message.sender.id):
        connection.execute(_let_steer, {"rows": [own]})
        return "steer", ""
    connection.execute(_stop_turn, {"of_turn": turn.id, "why": REPLACED})
    return "interrupt", REPLACED


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
        return _absorb(connection, session, own, CHANGED, changed=MessageChange(meant.id, meant.message_id, "waiting"))
    if not meant.running:
        return _absorb(connection, session, own, TOO_LATE_TO_EDIT)
    before = f'They edited an earlier message. Before: "{meant.text}"'
    connection.execute(_set_note, {"row": own, "words": _lines(before, message.note)})
    return Arrival(own, session, wakes=_unless_blocked(connection, session, "steer"))


def _accept_withdrawal(connection: Connection, message: InboundMessage, session: str, own: int) -> Arrival:
    meant = _find_meant(connection, message, session, own)
    if meant is None:
        return _absorb(connection, session, own, UNKNOWN_WITHDRAWN)
    if meant.state != "waiting":
        return _withdraw_read(connection, message, session, own, meant)
    connection.execute(_end, {"row": meant.id, "end": "withdrawn", "why": WITHDRAWN})
    changed = MessageChange(meant.id, meant.message_id, "withdrawn", WITHDRAWN)
    read = _find_meant(connection, message, session, own)
    if read is not None and read.running:
        # What waited was an edit of a message that a turn works on.
        return replace(_withdraw_read(connection, message, session, own, read), changed=changed)
    arrival = _absorb(connection, session, own, WITHDREW, changed=changed)
    # The message may have been the one whose files kept those behind it waiting.
    return replace(arrival, wakes=waiting_busy(connection, session))


def _withdraw_read(connection: Connection, message: InboundMessage, session: str, own: int, meant: AnyRow) -> Arrival:
    """The turn that works on it ends, unless it has read other messages too: then it is told what to leave out."""
    if not meant.running:
        return _absorb(connection, session, own, TOO_LATE_TO_WITHDRAW)
    values = {"session": session, "of_turn": meant.turn, "message_id": message.message_id}
    if connection.execute(_others_read, values).first() is None:
        connection.execute(_stop_turn, {"of_turn": meant.turn, "why": DELETED})
        return _absorb(connection, session, own, STOPPED, stops=DELETED)
    note = f'They deleted an earlier message; do nothing about it any more. It was: "{meant.text}"'
    connection.execute(_set_note, {"row": own, "words": note})
    return Arrival(own, session, wakes=_unless_blocked(connection, session, "steer"))


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
    changed: MessageChange | None = None,
    stops: str = "",
) -> Arrival:
    """The message has had its effect and is not itself read by a turn."""
    connection.execute(_end, {"row": own, "end": "answered", "why": reason})
    return Arrival(own, session, state="answered", reason=reason, changed=changed, stops=stops)


def _lines(*texts: str) -> str:
    return "\n".join(text for text in texts if text)


def _unless_blocked(connection: Connection, session: str, busy: Busy) -> Busy | None:
    """What a new message does; None while the first that waits cannot be read: whoever changes that looks again."""
    first = connection.execute(_first_waiting, {"session": session}).one()
    return busy if _is_readable(first) else None


def waiting_busy(connection: Connection, session: str) -> Busy | None:
    """What the messages that a turn could read now do to a running one: the most that any of them does. None if there
    are none."""
    found = set(connection.execute(_readable_busy, {"session": session, "no_end": _NO_END}).scalars())
    return next((busy for busy in _STRONGEST_FIRST if busy in found), None)


def knows(connection: Connection, session: str) -> bool:
    """Whether anything was said there before to the bot, by somebody who may."""
    return connection.execute(_said_to_us, {"session": session}).first() is not None


def count_waiting(connection: Connection, session: str) -> int:
    """How many messages wait, those whose files are still being fetched included."""
    return int(connection.execute(_count_waiting, {"session": session}).scalar_one())


def rows_to_begin_with(connection: Connection, session: str) -> list[AnyRow]:
    """What the next turn reads at once: a message that is to be read by itself, or all before the next such."""
    return _together([row for row in _ready_rows(connection, session) if row.busy != "wrap"])


def _together(rows: list[AnyRow]) -> list[AnyRow]:
    return rows[:1] if rows and rows[0].busy == "queue" else list(takewhile(lambda row: row.busy != "queue", rows))


def rows_that_steer(connection: Connection, session: str) -> list[AnyRow]:
    """What a running turn reads."""
    return [row for row in _ready_rows(connection, session) if row.busy in ("steer", "wrap", "work")]


def people_speak(connection: Connection, session: str, *, decides: bool) -> bool:
    """Whether words of people can be read for which a turn that waits for people goes on; not so the results of work.

    `decides`: it waits for a decision, or for results from outside, which is no question: words that are to wait until
    the turn has ended wait on.
    """
    return bool(_words_of_people(connection, session, decides=decides))


def take_as_answer(connection: Connection, session: str, *, decides: bool) -> bool:
    """Whether words of people can be read (see `people_speak`), which are then read as the answer to a question,
    however they came in: what the next turn would begin with, up to a wish that the turn come to its end."""
    words = _words_of_people(connection, session, decides=decides)
    rows = _together(list(takewhile(lambda row: row.busy != "wrap", words)))
    if rows:
        connection.execute(_let_steer, {"rows": [row.id for row in rows]})
    return bool(words)


def _words_of_people(connection: Connection, session: str, *, decides: bool) -> list[AnyRow]:
    patient = ("queue", "collect") if decides else ()
    rows = _ready_rows(connection, session)
    return [row for row in rows if row.source != "work" and row.busy not in patient]


def waiting_wraps(connection: Connection, session: str) -> Sequence[AnyRow]:
    """The wishes that the running turn come to its end, readable or not."""
    return connection.execute(_waiting_wraps, {"session": session}).all()


def drop_wraps(connection: Connection, session: str) -> None:
    """The turn that was to come to its end has ended in another way."""
    connection.execute(_drop_wraps, {"of_session": session})


def forget_late_deletions(connection: Connection, session: str) -> None:
    """The turn that was to be told of them has ended: there is nothing left to leave out."""
    connection.execute(_too_late, {"of_session": session})


def _ready_rows(connection: Connection, session: str) -> list[AnyRow]:
    """What a turn may read now, in order.

    Nothing overtakes a message whose files are still being fetched, nor a command that is not answered yet: what was
    said after a stop or a new beginning is read by no turn that these end.
    """
    return list(takewhile(_is_readable, connection.execute(_waiting, {"session": session})))


def _is_readable(row: AnyRow) -> bool:
    return bool(row.ready) and row.kind != "command"


def consume(
    connection: Connection, rows: Sequence[AnyRow], turn_id: str, step: int, generation: int
) -> tuple[UserMessage, ...]:
    """The rows are read by the turn at the step, and belong to the turn's generation."""
    values = {
        "rows": [row.id for row in rows],
        "of_turn": turn_id,
        "at_step": step,
        "of_generation": generation,
    }
    connection.execute(_consume, values)
    return tuple(map(_said, rows))


def _said(row: AnyRow) -> UserMessage:
    return UserMessage(
        row.id,
        row.sender_name,
        row.text,
        attachments_from_json(row.attachments),
        row.note,
        row.message_id,
        row.address["kind"] == "group",
        row.source,
        tools_from_json(row.tools),
    )


def stop_waiting(connection: Connection, session: str, upto: int, reason: str) -> tuple[MessageChange, ...]:
    """Withdraws the messages that came before row `upto`."""
    rows = connection.execute(_withdraw_waiting, {"of_session": session, "upto": upto, "why": reason})
    return tuple(MessageChange(row.id, row.message_id, "withdrawn", reason) for row in rows)


def unfetched(connection: Connection, row_id: int) -> Unfetched | None:
    """The message with the files it has by now; None once it is ready or waits no longer."""
    row = connection.execute(_row_to_fetch, {"row": row_id}).first()
    return None if row is None else unfetched_from(row)


def unfetched_from(row: AnyRow) -> Unfetched:
    files = files_from_json(row.files)
    return Unfetched(row.id, row.session, address_from_json(row.address), files, row.album, row.opening)


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
    use_media(connection, row_id, attachments)
    return True


def use_media(connection: Connection, row_id: int, attachments: Sequence[Attachment]) -> None:
    """The message refers to these."""
    if attachments:
        connection.execute(_use_media, [{"hash": attachment.hash, "row": row_id} for attachment in attachments])
