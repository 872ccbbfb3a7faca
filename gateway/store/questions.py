"""Questions of the agent to people: a pressed option becomes a message that answers the question."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update

from agent.decisions.approvals import open_decision
from agent.decisions.questions import AskedQuestion, parse_question
from agent.log import CallEnded, CallStarted, Entry, InputRequested, ModelAnswered, load
from gateway.store import input_requests
from gateway.store.records import ChoiceOutcome
from gateway.store.schema import AnyRow, inbox, is_command, is_message, is_running, is_waiting, turn_log, turns
from gateway.store.turn_rows import level_of

KEY = "q:"
"""Prefix of the asking call's id in the key of a question."""

_log_of_running = (
    select(turn_log.c.entry)
    .select_from(turn_log.join(turns, turns.c.number == turn_log.c.turn))
    .where(turns.c.session == bindparam("session"), turns.c.kind == "turn", is_running)
    .order_by(turn_log.c.n)
)
_row = select(inbox.c.session, inbox.c.level, inbox.c.sender_id).where(
    inbox.c.id == bindparam("row"), is_command, is_waiting
)
_earlier = (
    select(inbox.c.id)
    .where(inbox.c.session == bindparam("session"), is_waiting, is_message, inbox.c.id < bindparam("row"))
    .limit(1)
)
_turn = select(turns.c.principal).where(turns.c.session == bindparam("session"), turns.c.kind == "turn", is_running)
_become_message = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(kind="new", command=None, text=bindparam("new_text"), message_id=None, busy=bindparam("new_busy"))
)


def open_question(connection: Connection, session: str) -> str | None:
    """The text of what the session's turn asks people: a question of the agent's, or a request for a decision."""
    request = input_requests.open_in(connection, session)
    if request is not None:
        return request.question
    entries = _running_log(connection, session)
    question, decision = open_in(entries), open_decision(entries)
    if question is not None:
        return question[1].question
    return None if decision is None else decision.question.partition("\n")[0]


def choose(connection: Connection, command_id: int, question: str, option: int) -> ChoiceOutcome:
    """A pressed button becomes a message with the option's text (`chosen`). `not_open`: the question with this key is
    not open (any more), or an earlier message is its answer. `not_allowed`: somebody of a higher level began the turn
    that asks. `not_yours`: a running call asks somebody else."""
    row = connection.execute(_row, {"row": command_id}).first()
    if row is None or connection.execute(_earlier, {"session": row.session, "row": command_id}).first():
        return "not_open"
    if (request := input_requests.open_in(connection, row.session)) is not None and f"{KEY}{request.id}" == question:
        return _answer_call(connection, command_id, row, request, option)
    found = open_in(_running_log(connection, row.session))
    if found is None or found[0] != question or not 0 <= option < len(found[1].options):
        return "not_open"
    if row.level < level_of(connection.execute(_turn, {"session": row.session}).one()):
        return "not_allowed"
    values = {"of_row": command_id, "new_text": found[1].options[option], "new_busy": "steer"}
    connection.execute(_become_message, values)
    return "chosen"


def _answer_call(
    connection: Connection, command_id: int, row: AnyRow, request: InputRequested, option: int
) -> ChoiceOutcome:
    if not 0 <= option < len(request.options):
        return "not_open"
    if input_requests.open_for(connection, row.session, row.sender_id) is None:
        return "not_yours"
    values = {"of_row": command_id, "new_text": request.options[option], "new_busy": "answer"}
    connection.execute(_become_message, values)
    return "chosen"


def _running_log(connection: Connection, session: str) -> tuple[Entry, ...]:
    return load(connection.execute(_log_of_running, {"session": session}).scalars())


def open_in(entries: tuple[Entry, ...]) -> tuple[str, AskedQuestion] | None:
    """The open question of a turn with this log, and its key."""
    started = {entry.call_id for entry in entries if isinstance(entry, CallStarted)}
    ended = {entry.call_id for entry in entries if isinstance(entry, CallEnded)}
    for entry in reversed(entries):
        for call in entry.calls if isinstance(entry, ModelAnswered) else ():
            question = parse_question(call)
            if question is not None and call.id in started - ended:
                return f"{KEY}{call.id}", question
    return None
