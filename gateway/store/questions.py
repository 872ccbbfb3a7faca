"""Questions of the agent's to people: an option chosen by its button becomes the words that answer."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update

from agent.decisions.approvals import open_decision
from agent.decisions.questions import Asked, asked
from agent.log import CallEnded, CallStarted, Entry, ModelAnswered, load
from gateway.store.schema import inbox, is_command, is_message, is_running, is_waiting, turn_log, turns

KEY = "q:"
"""Before the id of the call that asks, in the key of a question."""

_log_of_running = (
    select(turn_log.c.entry)
    .select_from(turn_log.join(turns, turns.c.number == turn_log.c.turn))
    .where(turns.c.session == bindparam("session"), turns.c.kind == "turn", is_running)
    .order_by(turn_log.c.n)
)
_row = select(inbox.c.session).where(inbox.c.id == bindparam("row"), is_command, is_waiting)
_said_before = (
    select(inbox.c.id)
    .where(inbox.c.session == bindparam("session"), is_waiting, is_message, inbox.c.id < bindparam("row"))
    .limit(1)
)
_speak = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(kind="new", command=None, text=bindparam("words"), message_id=None, busy="steer")
)


def open_question(connection: Connection, session: str) -> tuple[str, Asked] | None:
    """The key of the question that the session's turn waits for, and what it asks."""
    return _open(load(connection.execute(_log_of_running, {"session": session}).scalars()))


def what_is_asked(connection: Connection, session: str) -> str | None:
    """The words in which people are asked something there: a question of the agent's, or what they are to decide."""
    entries = load(connection.execute(_log_of_running, {"session": session}).scalars())
    question, decision = _open(entries), open_decision(entries)
    if question is not None:
        return question[1].question
    return None if decision is None else decision.question.partition("\n")[0]


def choose(connection: Connection, command_id: int, key: str, number: int) -> bool:
    """The command becomes a message that says what its option says. False: that question is not open (any more), or
    what was said before is its answer."""
    row = connection.execute(_row, {"row": command_id}).first()
    if row is None or connection.execute(_said_before, {"session": row.session, "row": command_id}).first():
        return False
    found = open_question(connection, row.session)
    if found is None or found[0] != key or not 0 <= number < len(found[1].options):
        return False
    connection.execute(_speak, {"of_row": command_id, "words": found[1].options[number]})
    return True


def _open(entries: tuple[Entry, ...]) -> tuple[str, Asked] | None:
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    for entry in reversed(entries):
        for call in entry.calls if isinstance(entry, ModelAnswered) else ():
            question = asked(call)
            if question is not None and call.id in started - ended:
                return f"{KEY}{call.id}", question
    return None
