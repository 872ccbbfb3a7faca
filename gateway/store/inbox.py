"""The inbox: which waiting messages a turn may read, and how they are read, withdrawn or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from sqlalchemy import Connection, Text, and_, bindparam, cast, func, literal_column, or_, select, update

from agent.log import UserMessage
from channels.address import FULL
from gateway.store.encoding import attachments_from_json, foreign_from_json, tools_from_json
from gateway.store.records import Busy, MessageChange
from gateway.store.schema import (
    AnyRow,
    clean,
    inbox,
    is_command,
    is_message,
    is_running,
    is_turn,
    is_waiting,
    is_wrap,
    turns,
)
from gateway.store.turn_rows import level_of

TOO_LATE_TO_WITHDRAW = "the message was withdrawn after it had been answered"
TOO_LATE_TO_UPDATE = "the message was completed after it had been answered"
TOO_LATE_TO_WRAP = "the task had ended already"

MAX_ROW_ID = 2**62
"""Above every row id."""

_STRONGEST_FIRST: tuple[Busy, ...] = ("steer", "wrap", "work", "answer", "interrupt", "collect", "queue")

is_update = and_(inbox.c.kind == literal_column("'edited'"), inbox.c.busy == literal_column("'work'"))
"""An edit in which nobody said anything: it is for the turn that has read the message, if that comes to read it."""

_has_no_files = cast(inbox.c.files, Text) == literal_column("'[]'", Text)

_blocks = or_(is_command, and_(inbox.c.ready.is_(False), _has_no_files))
"""Nothing behind such a row is read. Behind a message whose files are being fetched a running turn reads on."""

_blocking = (
    select(inbox.c.id)
    .where(inbox.c.session == bindparam("session"), is_waiting, _blocks, inbox.c.id < bindparam("own"))
    .limit(1)
)

_first_blocking = (
    select(func.min(inbox.c.id)).where(inbox.c.session == bindparam("session"), is_waiting, _blocks).scalar_subquery()
)

_readable_busy = (
    select(inbox.c.busy)
    .where(
        inbox.c.session == bindparam("session"),
        is_waiting,
        inbox.c.ready,
        inbox.c.id < func.coalesce(_first_blocking, bindparam("no_end")),
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
        inbox.c.foreign,
        inbox.c.busy,
        inbox.c.source,
        inbox.c.run,
        inbox.c.level,
        inbox.c.files,
        inbox.c.follows,
    )
    .where(inbox.c.session == bindparam("session"), is_waiting)
    .order_by(inbox.c.id)
)

_consume = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"), is_waiting)
    .values(
        state="consumed",
        turn=bindparam("of_turn"),
        step=bindparam("at_step"),
        generation=bindparam("of_generation"),
    )
)
_set_steering = update(inbox).where(inbox.c.id.in_(bindparam("rows", expanding=True))).values(busy="steer")
_set_answering = update(inbox).where(inbox.c.id == bindparam("row")).values(busy="answer")

_queue_lower = (
    update(inbox)
    .where(
        inbox.c.session == bindparam("of_session"),
        is_waiting,
        is_message,
        inbox.c.busy.in_(["steer", "interrupt", "collect"]),
        inbox.c.level < bindparam("turn_level"),
    )
    .values(busy="queue")
)

_unfinished_turn = select(turns.c.principal).where(turns.c.session == bindparam("session"), is_turn, is_running)

_finish_requests = (
    select(inbox).where(inbox.c.session == bindparam("session"), is_waiting, is_wrap).order_by(inbox.c.id)
)

_drop_finish_requests = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_wrap)
    .values(state="withdrawn", reason=TOO_LATE_TO_WRAP)
)

_close_deletions = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), inbox.c.kind == "withdrawn", is_waiting)
    .values(state="answered", reason=TOO_LATE_TO_WITHDRAW)
)
_close_updates = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_update, is_waiting)
    .values(state="answered", reason=TOO_LATE_TO_UPDATE)
)

_withdraw_waiting = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_message, inbox.c.id < bindparam("upto"))
    .values(state="withdrawn", reason=bindparam("why"))
    .returning(inbox.c.id, inbox.c.message_id)
)
_withdraw_own = _withdraw_waiting.where(inbox.c.sender_id == bindparam("sender"))


# Waiting messages


def waiting_busy(connection: Connection, session: str) -> Busy | None:
    """What the messages that a turn could read now do to a running turn: the strongest of them. None without any."""
    found = set(connection.execute(_readable_busy, {"session": session, "no_end": MAX_ROW_ID}).scalars())
    return next((busy for busy in _STRONGEST_FIRST if busy in found), None)


def busy_unless_blocked(connection: Connection, session: str, own: int, busy: Busy) -> Busy | None:
    """The `busy` of the new message in the row `own`; None while no turn may read what is behind an earlier one, since
    whoever changes that looks again."""
    blocked = connection.execute(_blocking, {"session": session, "own": own}).first()
    return busy if blocked is None else None


def count_waiting(connection: Connection, session: str) -> int:
    """How many messages wait, those whose files are still being fetched included."""
    return int(connection.execute(_count_waiting, {"session": session}).scalar_one())


def withdraw_waiting(
    connection: Connection, session: str, upto: int, reason: str, sender: str | None = None
) -> tuple[MessageChange, ...]:
    """Withdraws the waiting messages that arrived before row `upto`: of everybody, or of the sender with this id."""
    values = {"of_session": session, "upto": upto, "why": reason}
    if sender is None:
        rows = connection.execute(_withdraw_waiting, values)
    else:
        rows = connection.execute(_withdraw_own, values | {"sender": clean(sender)})
    return tuple(MessageChange(row.id, row.message_id, "withdrawn", reason) for row in rows)


# What a turn may read


def waiting_rows(connection: Connection, session: str) -> Sequence[AnyRow]:
    """All rows that wait, in order, whether a turn may read them now or not."""
    return connection.execute(_waiting, {"session": session}).all()


def rows_for_new_turn(waiting: Sequence[AnyRow]) -> list[AnyRow]:
    """The messages that a new turn reads first: one that is to be read alone, or all before the next such message."""
    return _read_together([row for row in _readable(waiting) if needs_turn(row)])


def rows_for_running_turn(waiting: Sequence[AnyRow], level: int) -> list[AnyRow]:
    """The messages that a running turn of this level reads."""
    rows = _readable(waiting, passes_files=True)
    return [row for row in rows if row.busy in ("steer", "wrap", "work") and row.level >= level]


def is_arriving(waiting: Sequence[AnyRow], level: int) -> bool:
    """Whether a message that steers a running turn of this level cannot be read yet."""
    return any(not row.ready and row.follows is None and row.busy == "steer" and row.level >= level for row in waiting)


def needs_turn(row: AnyRow) -> bool:
    """Whether a turn has to read the row: no request to finish up, nor an update, which only the running one may."""
    return row.busy != "wrap" and not (row.kind == "edited" and row.busy == "work")


def has_answer(
    connection: Connection, session: str, level: int, *, awaits_decision: bool, before: int = MAX_ROW_ID
) -> bool:
    """Whether people have sent a message, before that in the row `before`, that a parked turn of this level resumes
    for; results of background work do not count.

    `awaits_decision`: the turn waits for a decision or for external results instead of an answer to a question, and
    messages that wait for the end of the turn go on waiting.
    """
    answers = _answers(connection, session, level, awaits_decision=awaits_decision)
    return any(row.id < before for row in answers)


def take_answer(connection: Connection, session: str, level: int, *, awaits_decision: bool) -> bool:
    """Whether there is an answer (see `has_answer`). If so, the messages that a new turn would read first, up to a
    request to finish up, become steering, whatever their busy mode."""
    answers = _answers(connection, session, level, awaits_decision=awaits_decision)
    rows = _read_together(list(takewhile(lambda row: row.busy != "wrap", answers)))
    if rows:
        let_steer(connection, [row.id for row in rows])
    return bool(answers)


def let_steer(connection: Connection, row_ids: Sequence[int]) -> None:
    """The messages steer the running turn, whatever their busy mode was."""
    connection.execute(_set_steering, {"rows": row_ids})


def let_answer(connection: Connection, row_id: int) -> None:
    """The message is for the running call that asks for it."""
    connection.execute(_set_answering, {"row": row_id})


def queue_lower(connection: Connection, session: str, level: int) -> None:
    """Messages of a lower level than the running turn's do not steer it: each waits to be read alone."""
    connection.execute(_queue_lower, {"of_session": session, "turn_level": level})


def queue_if_lower(connection: Connection, session: str, level: int) -> bool:
    """Whether somebody of a higher level than this began the running or parked turn: the waiting messages of lower
    levels then wait until that ends."""
    if level == FULL:
        return False
    turn = connection.execute(_unfinished_turn, {"session": session}).first()
    if turn is None or level >= level_of(turn):
        return False
    queue_lower(connection, session, level_of(turn))
    return True


def _answers(connection: Connection, session: str, level: int, *, awaits_decision: bool) -> list[AnyRow]:
    left_waiting = ("queue", "collect") if awaits_decision else ()
    rows = _readable(waiting_rows(connection, session))
    answers = (row for row in rows if row.source != "work" and row.busy not in left_waiting and row.level >= level)
    return [row for row in answers if row.busy == "wrap" or needs_turn(row)]


def _read_together(rows: list[AnyRow]) -> list[AnyRow]:
    """A turn reads nothing of a lower level than that of the message which begins it."""
    if not rows or rows[0].busy == "queue":
        return rows[:1]
    return list(takewhile(lambda row: row.busy != "queue" and row.level >= rows[0].level, rows))


def _readable(waiting: Sequence[AnyRow], *, passes_files: bool = False) -> list[AnyRow]:
    """What a turn may read now, in order.

    Nothing overtakes an unanswered command: messages sent after `/stop` or `/new` are not read by the turn that the
    command ends. What is behind a message whose files are still being fetched is read if it `passes_files`; nothing
    waits for files that follow their message.
    """
    passed = takewhile(lambda row: _is_readable(row) or _lets_pass(row, passes_files=passes_files), waiting)
    return list(filter(_is_readable, passed))


def _lets_pass(row: AnyRow, *, passes_files: bool) -> bool:
    return row.follows is not None or (passes_files and bool(row.files) and row.kind != "command")


def _is_readable(row: AnyRow) -> bool:
    return bool(row.ready) and row.kind != "command"


# Reading


def consume(
    connection: Connection, rows: Sequence[AnyRow], turn_id: str, step: int, generation: int
) -> tuple[UserMessage, ...]:
    """The turn reads the rows at the step; they join the turn's generation."""
    values = {"of_turn": turn_id, "at_step": step, "of_generation": generation}
    connection.execute(_consume, [{"row": row.id, **values} for row in rows])
    return tuple(map(_user_message_from, rows))


def _user_message_from(row: AnyRow) -> UserMessage:
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
        row.sender_id,
        foreign_from_json(row.foreign),
    )


# Messages for the running turn only


def finish_requests(connection: Connection, session: str) -> Sequence[AnyRow]:
    """The requests that the running turn finish up, readable or not."""
    return connection.execute(_finish_requests, {"session": session}).all()


def drop_finish_requests(connection: Connection, session: str) -> None:
    """The turn that was to finish up has ended in another way."""
    connection.execute(_drop_finish_requests, {"of_session": session})


def close_deletions(connection: Connection, session: str) -> None:
    """The turn that was to read these deletions and updates has ended: there is nothing left to leave out or add."""
    connection.execute(_close_deletions, {"of_session": session})
    connection.execute(_close_updates, {"of_session": session})
