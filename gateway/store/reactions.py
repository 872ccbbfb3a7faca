"""Reactions of people on a question of a turn: what they answer."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from agent.decisions.approvals import decision_options, open_decision
from channels.address import Address
from gateway.store import decisions, logs, questions
from gateway.store.encoding import address_from_json
from gateway.store.schema import is_running, is_turn, outbox, turns

_shown = (
    select(turns.c.number, turns.c.address, outbox.c.key, outbox.c.ref)
    .select_from(turns.join(outbox, outbox.c.reply_id == turns.c.id))
    .where(is_turn, is_running, outbox.c.ref.endswith(bindparam("message")))
)


@dataclass(frozen=True, slots=True)
class ReactionAnswer:
    """What a reaction answers: the question with this key by one of its options (from 0), or, if that has none, in
    `words`."""

    address: Address
    question: str = ""
    option: int = 0
    words: str = ""


def answer_in_reaction(connection: Connection, place: Address, message_id: str, said: str) -> ReactionAnswer | None:
    """What "yes", "no" or the number of an option answers on this message of the place's chat, whose thread need not be
    known. None if no turn asks anything there, or the reaction is none of its answers."""
    for row in connection.execute(_shown, {"message": message_id}):
        address = address_from_json(row.address)
        is_there = (address.channel, address.account, address.chat) == (place.channel, place.account, place.chat)
        # A ref may have the chat before the message's id.
        if is_there and row.ref.rpartition("/")[2] == message_id:
            return _answer(connection, row.number, address, row.key, said)
    return None


def _answer(connection: Connection, turn: int, address: Address, piece: str, said: str) -> ReactionAnswer | None:
    entries = logs.read(connection, turn)
    asked, decision = questions.open_in(entries), open_decision(entries)
    if asked is not None and _is_of(piece, asked[0]):
        key, question = asked
        if not question.options:
            return None if said.isdecimal() else ReactionAnswer(address, words=said.capitalize())
        # Of other than two options, none is a plain yes or no.
        yes, no = (0, 1) if len(question.options) == 2 else (None, None)
        option = _option(said, len(question.options), yes=yes, no=no)
    elif decision is not None and _is_of(piece, key := f"{decisions.KEY}{decision.id}"):
        options = decision_options(decision)
        option = _option(said, len(options), yes=options.index("allowed"), no=options.index("denied"))
    else:
        return None
    return None if option is None else ReactionAnswer(address, key, option)


def _is_of(piece: str, question: str) -> bool:
    """Whether a piece of a reply shows the question: its key begins with that of the question."""
    return piece == question or piece.startswith(f"{question}/")


def _option(said: str, count: int, *, yes: int | None, no: int | None) -> int | None:
    match said:
        case "yes":
            return yes
        case "no":
            return no
        case _:
            return int(said) - 1 if said.isdecimal() and int(said) <= count else None
