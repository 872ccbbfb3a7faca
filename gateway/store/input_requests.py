"""Requests of running calls for input: the turn's row has the open one, and an arriving answer waits for the call.

Such a row of the inbox ends with the request: as its answer, or as a message that steers the turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select, update

from agent.decisions.input_requests import is_answer
from agent.log import Entry, InputEnded, InputRequested, dump, load
from channels.message import InboundMessage
from gateway.store.schema import clean, inbox, is_message, is_running, is_turn, is_waiting, turns

ANSWERED = "answered a running call"

_open = select(turns.c.asks, turns.c.principal).where(
    turns.c.session == bindparam("session"), is_turn, is_running, turns.c.asks.is_not(None), ~turns.c.parked
)
_is_for_call = inbox.c.busy == "answer"
_answers = (
    select(inbox.c.id, inbox.c.text, inbox.c.message_id)
    .where(inbox.c.session == bindparam("session"), is_waiting, is_message, _is_for_call)
    .order_by(inbox.c.id)
    .limit(1)
)
_take = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(
        state="answered",
        reason=ANSWERED,
        turn=bindparam("of_turn"),
        step=bindparam("at_step"),
        generation=bindparam("of_generation"),
    )
)
_let_steer = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting, is_message, _is_for_call)
    .values(busy="steer")
)
_set = update(turns).where(turns.c.number == bindparam("turn")).values(asks=bindparam("request"))


def open_for(connection: Connection, session: str, sender_id: str) -> InputRequested | None:
    """What a running call of the session asks this person, if it has no answer yet. Only who began the turn is asked:
    the answer goes to others as theirs."""
    turn = connection.execute(_open, {"session": session}).first()
    if turn is None or turn.principal["id"] != clean(sender_id):
        return None
    if connection.execute(_answers, {"session": session}).first() is not None:
        return None
    return _request(turn.asks)


def open_in(connection: Connection, session: str) -> InputRequested | None:
    """What a running call of the session asks."""
    turn = connection.execute(_open, {"session": session}).first()
    return None if turn is None else _request(turn.asks)


def is_answered_by(connection: Connection, session: str, message: InboundMessage) -> bool:
    """Whether a message with this text is for a running call, and not for the turn."""
    request = open_for(connection, session, message.sender.id)
    return request is not None and is_answer(request, message.text)


def note(connection: Connection, number: int, session: str, entries: Sequence[Entry]) -> None:
    """The turn's row follows what is written to its log."""
    asked = [entry for entry in entries if isinstance(entry, InputRequested | InputEnded)]
    if not asked:
        return
    last = asked[-1]
    connection.execute(_set, {"turn": number, "request": dump(last) if isinstance(last, InputRequested) else None})
    release(connection, session)


def take(
    connection: Connection, session: str, turn_id: str, step: int, generation: int, otherwise: InputEnded
) -> InputEnded:
    """The end of the open request: with the message that answers it, which ends too, or else as given."""
    row = connection.execute(_answers, {"session": session}).first()
    if row is None:
        return otherwise
    values = {"row": row.id, "of_turn": turn_id, "at_step": step, "of_generation": generation}
    connection.execute(_take, values)
    return replace(otherwise, outcome="given", text=row.text, message=row.id, message_id=row.message_id)


def release(connection: Connection, session: str) -> bool:
    """Answers that nobody waits for any more steer the turn; whether there are any."""
    return connection.execute(_let_steer, {"of_session": session}).rowcount > 0


def left_open(line: str | None) -> tuple[InputEnded, ...]:
    """The end of a request that was open when its worker was lost."""
    request = _request(line)
    return () if request is None else (InputEnded(request.id, "dropped"),)


def _request(line: str | None) -> InputRequested | None:
    entries = () if line is None else load([line])
    return next((entry for entry in entries if isinstance(entry, InputRequested)), None)
