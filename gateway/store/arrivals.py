"""Arriving messages: stored once per event, in one transaction with all that they do to earlier messages and to the
running turn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import uuid4

from sqlalchemy import Connection, bindparam, select, update

from agent.log import ForeignText
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import InboundMessage
from gateway.sessions import parent_key
from gateway.store import (
    audit,
    decisions,
    forgotten_events,
    identities,
    input_requests,
    message_counts,
    pairing,
    strangers,
)
from gateway.store.albums import ALBUM, joined_text
from gateway.store.edits import accept_edit, accept_withdrawal, answered, as_new, is_in_work, is_known_target
from gateway.store.encoding import (
    address_to_json,
    attachments_to_json,
    files_to_json,
    foreign_to_json,
    join_lines,
    tools_to_json,
)
from gateway.store.fetching import use_media
from gateway.store.inbox import MAX_ROW_ID, busy_unless_blocked, let_answer, let_steer, queue_if_lower
from gateway.store.records import DEFAULT_OPTIONS, AcceptOptions, Arrival, AuditEvent, Busy, Turn
from gateway.store.schema import AnyRow, clean, inbox, is_message, is_running, is_turn, is_waiting, turns
from gateway.store.sessions import bot_messages, conversation_of, count_bot_message, touch
from gateway.store.turns import begin_if_idle, stop_turn
from gateway.store.upsert import insert

log = logging.getLogger(__name__)

NOT_PAIRED = "not approved by an admin yet"
NOT_ALLOWED = "not on the allowlist"
NOT_KNOWN = "nobody has addressed the bot in this conversation yet"
BOTS_IN_A_ROW = "too many messages of bots in a row"
REPLACED = "the next message replaced it"
DECIDED = "answered the question"
DELETED = "its data was deleted"

STOP = "stop"
"""The command that a message becomes whose words ask for it."""

MAX_BOT_MESSAGES = 5
"""Messages of other bots in one conversation without a person's between them: two bots that answer each other would
never end."""

UNSET = ("id", "turn", "step", "follows")
"""Columns that a row of an arriving message does not have yet."""

_insert = (
    insert(inbox)
    .values(
        {column.name: bindparam(column.name) for column in inbox.c if column.name not in UNSET},
    )
    .on_conflict_do_nothing(index_elements=["channel", "event_id"])
    .returning(inbox.c.id)
)

_same_event = select(
    inbox.c.id, inbox.c.session, inbox.c.state, inbox.c.reason, inbox.c.run, inbox.c.digest, inbox.c.command
).where(inbox.c.channel == bindparam("channel"), inbox.c.event_id == bindparam("event_id"))

_known = (
    select(inbox.c.id)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.kind.in_(["new", "command"]),
        inbox.c.source != "work",
        inbox.c.state.in_(["waiting", "consumed", "answered", "withdrawn"]),
    )
    .limit(1)
)

_known_lately = _known.where(inbox.c.generation == bindparam("generation"), inbox.c.kind == "new")

_album_carrier = (
    select(inbox.c.id, inbox.c.text, inbox.c.note, inbox.c.files, inbox.c.foreign)
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

_working_turn = select(turns.c.id, turns.c.principal).where(
    turns.c.session == bindparam("session"), is_turn, is_running, ~turns.c.parked
)

_unfinished_turn = select(turns.c.principal).where(turns.c.session == bindparam("session"), is_turn, is_running)

_answer_decision = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(state="answered", reason=DECIDED, turn=bindparam("of_turn"), step=bindparam("at_step"))
)

_become_stop = update(inbox).where(inbox.c.id == bindparam("row")).values(kind="command", command=STOP, text="")

_grow_album = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(
        text=bindparam("new_text"),
        note=bindparam("new_note"),
        files=bindparam("all_files"),
        foreign=bindparam("all_foreign"),
    )
)


# Messages of people


def accept(
    connection: Connection,
    worker: str,
    message: InboundMessage,
    session: str,
    refused: str | None = None,
    options: AcceptOptions = DEFAULT_OPTIONS,
) -> Arrival | None:
    """Stores what a person did, once per (channel, event id): a second delivery of the same event changes nothing.

    `refused` is the reason why no turn may read it. Of people who are not allowed, only messages that are answered are
    stored; the others are counted. The `worker` answers a command, and fetches files. None: nothing was stored, because
    the sender is not admitted and need not be notified.
    """
    if forgotten_events.is_forgotten(connection, message.address.channel, message.event_id):
        return Arrival(0, session, duplicate=True, state="withdrawn", reason=DELETED, is_stored=False)
    if _are_bots_alone(connection, session, options) or _is_unknown_place(connection, session, options):
        return None
    if options.only_known_target and not is_known_target(connection, session, message.message_id):
        return None
    if message.is_update and not is_in_work(connection, session, message.message_id):
        return None
    channel = message.address.channel
    named = identities.resolve(connection, channel, options.names, message.sender) if options.names else ()
    refused = _refusal(connection, message, options, named) or refused
    if refused in (NOT_PAIRED, NOT_ALLOWED):
        if message.kind == "edited":
            return None
        return _refuse_stranger(connection, worker, message, session, refused, options)
    if named and options.named_level > message.sender.level:
        message = replace(message, sender=replace(message.sender, level=options.named_level))
    arrival = _store(connection, worker, message, session, refused, options)
    return replace(arrival, named=named) if named else arrival


def accept_and_begin(
    connection: Connection,
    worker: str,
    message: InboundMessage,
    session: str,
    refused: str | None = None,
    options: AcceptOptions = DEFAULT_OPTIONS,
) -> tuple[Arrival | None, Turn | None]:
    """As `accept`; if the session has no unfinished turn and the message can be read, the turn that reads it begins in
    the same transaction.

    What keeps the turn from beginning does not keep the message from being stored: it waits for `claim`.
    """
    arrival = accept(connection, worker, message, session, refused, options)
    if arrival is None or arrival.wakes is None:
        return arrival, None
    # As SQL: SQLAlchemy compiles each savepoint anew.
    connection.exec_driver_sql("SAVEPOINT beginning")
    try:
        turn = begin_if_idle(connection, worker, session)
        connection.exec_driver_sql("RELEASE SAVEPOINT beginning")
    except Exception as error:  # noqa: BLE001  # whatever it is, `claim` meets it too, and tells
        # This raises if the whole transaction is lost, as on a full disk.
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT beginning")
        log.debug("session %s: no turn begins with the message: %s", session, error)
        return arrival, None
    return arrival, turn


def refusal_of(connection: Connection, message: InboundMessage, session: str, options: AcceptOptions) -> str | None:
    """Why `accept` would not take a new message, by what the store knows of its sender and place; None if it would.
    Nothing is stored."""
    if _are_bots_alone(connection, session, options):
        return BOTS_IN_A_ROW
    if _is_unknown_place(connection, session, options):
        return NOT_KNOWN
    channel, sender = message.address.channel, message.sender
    return _refusal(connection, message, options, identities.meaning(connection, channel, options.names, sender))


def _are_bots_alone(connection: Connection, session: str, options: AcceptOptions) -> bool:
    """Whether it is one more message of a bot where too many have written without a person."""
    return options.speaker == "bot" and bot_messages(connection, session) >= MAX_BOT_MESSAGES


def _is_unknown_place(connection: Connection, session: str, options: AcceptOptions) -> bool:
    """Whether the message is for the bot only where people have written to it before, and they have not."""
    return options.admission in ("known", "known and paired") and not is_known(connection, session)


def _refusal(
    connection: Connection, message: InboundMessage, options: AcceptOptions, named: tuple[str, ...]
) -> str | None:
    """Why the sender is not admitted by what the store knows."""
    if options.only_by_name and named:
        return None
    if options.admission in ("paired", "known and paired"):
        return None if pairing.is_approved(connection, message.address.channel, message.sender.id) else NOT_PAIRED
    return NOT_ALLOWED if options.only_by_name else None


def _refuse_stranger(
    connection: Connection, worker: str, message: InboundMessage, session: str, reason: str, options: AcceptOptions
) -> Arrival:
    """Counts the message; stores it if the sender is to be told."""
    channel, sender = message.address.channel, message.sender
    stored = connection.execute(_same_event, {"channel": channel, "event_id": message.event_id}).first()
    if stored is not None:
        return _duplicate(connection, channel, message.event_id, message.digest)
    counted = strangers.count(connection, channel, sender)
    if counted.first:
        _audit_refusal(connection, message, session, reason)
    has_code = reason == NOT_PAIRED and not pairing.may_request(connection, channel, sender.id)
    is_told = has_code or (reason == NOT_ALLOWED and counted.told)
    if message.address.kind != "direct" or is_told:
        return Arrival(0, session, state="refused", reason=reason, is_stored=False)
    strangers.tell(connection, channel, sender)
    return _store(connection, worker, message, session, reason, options)


def _store(
    connection: Connection,
    worker: str,
    message: InboundMessage,
    session: str,
    refused: str | None,
    options: AcceptOptions,
) -> Arrival:
    is_edit = message.kind == "edited"
    if is_edit:
        message = as_new(connection, message, session) or message
    by_person = options.speaker == "person"
    generation, session_busy = touch(connection, session, message.address, by_person=by_person)
    is_stranger = refused in (NOT_PAIRED, NOT_ALLOWED)
    is_counted = not is_stranger and _is_counted(connection, message, session, options)
    over_limit = "" if is_stranger else options.over_limit
    if is_counted and options.limit is not None:
        is_counted = message_counts.take(connection, message, options.limit.per_minute)
        over_limit = "" if is_counted else options.limit.reason
    if message.thread_root is not None and _is_known_lately(connection, session, generation):
        message = replace(message, thread_root=None)
    if message.has_talk and not _reads_talk(connection, session, options):
        message = replace(message, has_talk=False)
    busy = options.busy or session_busy or options.default_busy
    # A command is answered by a turn of its own, or becomes a message.
    run = uuid4().hex if message.kind in ("new", "command") else None
    own = _insert_message(connection, worker, message, session, generation, over_limit or refused, busy, run)
    if own is None:
        if is_counted:
            message_counts.give_back(connection, message)
        return _duplicate(connection, message.address.channel, message.event_id, message.digest)
    if options.speaker == "bot":
        count_bot_message(connection, session)
    if over_limit:
        was_told = options.limit is not None and not message_counts.tell(connection, message)
        return Arrival(own, session, state="refused", reason=over_limit, run=run, over_limit=True, was_told=was_told)
    if refused is not None:
        if not is_stranger:
            _audit_refusal(connection, message, session, refused)
        return Arrival(own, session, state="refused", reason=refused, run=run)
    match message.kind:
        case "new":
            return replace(_accept_new(connection, message, session, own, busy, options, is_edit=is_edit), run=run)
        case "command":
            return Arrival(own, session, command=message.command or "", run=run)
        case "edited":
            return accept_edit(connection, message, session, own)
        case "withdrawn":
            return accept_withdrawal(connection, message, session, own)
        case "moved" | "reaction":
            raise ValueError(f"what is {message.kind} is no message")
        case _:
            assert_never(message.kind)


def _is_counted(connection: Connection, message: InboundMessage, session: str, options: AcceptOptions) -> bool:
    """Whether it is one of its sender's messages in this minute. An album, whose first part waits, is one."""
    if options.limit is None or options.over_limit:
        return False
    values = {"session": session, "album": message.album, "own": MAX_ROW_ID}
    return message.album is None or connection.execute(_album_carrier, values).first() is None


def is_known(connection: Connection, session: str) -> bool:
    """Whether people who may write to the bot have written to it in this session."""
    return connection.execute(_known, {"session": session}).first() is not None


def _is_known_lately(connection: Connection, session: str, generation: int) -> bool:
    """Whether people have written in this session since it was last begun anew."""
    return connection.execute(_known_lately, {"session": session, "generation": generation}).first() is not None


def _reads_talk(connection: Connection, session: str, options: AcceptOptions) -> bool:
    """Whether what was said before is read with the message: not while a turn runs, whose people are heard."""
    if not is_known(connection, session):
        return True
    return options.catches_up and connection.execute(_unfinished_turn, {"session": session}).first() is None


def _audit_refusal(connection: Connection, message: InboundMessage, session: str, reason: str) -> None:
    sender = message.sender
    actor = audit.actor_of(message.address.channel, sender)
    audit.record(connection, AuditEvent("refused", actor, sender.name, session, {"reason": reason}))


def _accept_new(
    connection: Connection,
    message: InboundMessage,
    session: str,
    own: int,
    busy: Busy,
    options: AcceptOptions,
    *,
    is_edit: bool,
) -> Arrival:
    """`is_edit`: it is an edit; those decide nothing."""
    if message.album is not None:
        values = {"session": session, "album": message.album, "own": own}
        carrier = connection.execute(_album_carrier, values).first()
        if carrier is not None:
            return _join_album(connection, carrier, message, session, own)
    is_ready = not message.files and message.thread_root is None and message.cut is None and not message.has_talk
    if is_ready:
        decided = None if is_edit else decisions.decide_in_words(connection, session, own, message, options)
        if decided is not None:
            turn_id, step = decided
            connection.execute(_answer_decision, {"row": own, "of_turn": turn_id, "at_step": step})
            return Arrival(own, session, state="answered", reason=DECIDED, decided=True)
        if not is_edit and options.busy is None and input_requests.is_answered_by(connection, session, message):
            let_answer(connection, own)
            return Arrival(own, session, wakes=busy_unless_blocked(connection, session, own, "answer"))
        if options.stops and not is_edit and _may_stop_running(connection, message, session, options):
            connection.execute(_become_stop, {"row": own})
            return Arrival(own, session, command=STOP)
    stop_reason = ""
    if queue_if_lower(connection, session, message.sender.level):
        busy = "queue"
    if busy == "interrupt":
        busy, stop_reason = _interrupt(connection, message, session, own, options)
    begins = options.debounced and connection.execute(_unfinished_turn, {"session": session}).first() is None
    wakes = busy_unless_blocked(connection, session, own, busy)
    if not is_ready:
        # A running turn is interrupted now, not when the files are here.
        steers = busy == "steer" and connection.execute(_working_turn, {"session": session}).first() is not None
        wakes = wakes if steers else None
        return Arrival(own, session, wakes=wakes, to_fetch=own, stop_reason=stop_reason, begins=begins)
    return Arrival(own, session, wakes=wakes, stop_reason=stop_reason, begins=begins)


def _join_album(connection: Connection, carrier: AnyRow, message: InboundMessage, session: str, own: int) -> Arrival:
    """The album's first message, which is not ready yet, carries this one's text and files too."""
    values = {
        "row": carrier.id,
        "new_text": joined_text(connection, carrier, message, session),
        "new_note": join_lines(carrier.note, message.note),
        "all_files": [*carrier.files, *files_to_json(message.files)],
        "all_foreign": [*(carrier.foreign or ()), *(foreign_to_json(message.foreign) or ())] or None,
    }
    connection.execute(_grow_album, values)
    return answered(connection, session, own, ALBUM)


def _may_stop_running(connection: Connection, message: InboundMessage, session: str, options: AcceptOptions) -> bool:
    """Whether a turn runs that the sender may stop; a parked one does not run."""
    turn = connection.execute(_working_turn, {"session": session}).first()
    return turn is not None and (not options.own_turn_only or turn.principal["id"] == clean(message.sender.id))


def _interrupt(
    connection: Connection, message: InboundMessage, session: str, own: int, options: AcceptOptions
) -> tuple[Busy, str]:
    """What the message does in the end, and why the running turn has to stop ("" if it goes on). The message answers a
    parked turn, and steers a turn that its sender may not stop."""
    turn = connection.execute(_working_turn, {"session": session}).first()
    if turn is None:
        return "interrupt", ""
    if options.own_turn_only and turn.principal["id"] != clean(message.sender.id):
        let_steer(connection, [own])
        return "steer", ""
    stop_turn(connection, turn.id, REPLACED)
    return "interrupt", REPLACED


# Messages of background work


def accept_background_message(
    connection: Connection,
    session: str,
    address: Address,
    principal: Sender,
    text: str,
    attachments: Sequence[Attachment],
    event_id: str,
    note: str,
    busy: Busy = "work",
    sources: Sequence[str] = (),
) -> Arrival:
    """Stores a message of background work, once per event id: a result for the session in which the work was begun, or
    the task for a delegated session, whose key is made from that of the delegating session. `sources`: those of the
    text from outside that it may repeat."""
    outer = parent_key(session)
    parent = None if outer is None else conversation_of(connection, outer)
    generation, _ = touch(connection, session, address, parent)
    run = uuid4().hex
    now = datetime.now(UTC)
    values = {
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
        "foreign": foreign_to_json([ForeignText(source) for source in sources]),
        "album": None,
        "opening": None,
        "busy": busy,
        "ready": True,
        "state": "waiting",
        "reason": "",
        "sent_at": now,
        "received_at": now,
        "digest": None,
        "worker": None,
    }
    own = connection.execute(_insert, values).scalar()
    if own is None:
        return _duplicate(connection, address.channel, event_id)
    use_media(connection, own, attachments)
    return Arrival(own, session, wakes=busy_unless_blocked(connection, session, own, busy), run=run)


# Rows


def _insert_message(
    connection: Connection,
    worker: str,
    message: InboundMessage,
    session: str,
    generation: int,
    refused: str | None,
    busy: Busy,
    run: str | None,
) -> int | None:
    """The new row's id, None if the event is stored already. An edit has no files of its own."""
    is_new = message.kind == "new"
    files = message.files if is_new else ()
    opening = (message.thread_root or ("" if message.has_talk else None)) if is_new else None
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
        "foreign": foreign_to_json(message.foreign),
        "album": message.album if is_new else None,
        # Empty if only what was said before is to be read.
        "opening": opening,
        # An edit or a deletion is for the turn that has read the message.
        "busy": busy if is_new else "work" if message.is_update else "steer",
        "ready": not files and opening is None and not (is_new and message.cut is not None),
        "state": "waiting" if refused is None else "refused",
        "reason": refused or "",
        "sent_at": message.sent_at,
        "received_at": datetime.now(UTC),
        "digest": message.digest,
        "worker": worker,
    }
    return connection.execute(_insert, values).scalar()


def _sender_values(sender: Sender) -> dict[str, Any]:
    return {
        "sender_id": sender.id,
        "sender_name": sender.name,
        "sender_handle": sender.handle,
        "level": sender.level,
    }


def _duplicate(connection: Connection, channel: str, event_id: str, digest: str | None = None) -> Arrival:
    row = connection.execute(_same_event, {"channel": channel, "event_id": event_id}).one()
    return Arrival(
        row.id,
        row.session,
        duplicate=True,
        state=row.state,
        reason=row.reason,
        run=row.run,
        command=row.command or "",
        differs=row.digest != digest,
    )
