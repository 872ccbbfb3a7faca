"""Rows of turns: inserted, and read as `Turn` records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select

from agent.log import Entry
from agent.model import reasoning_from
from channels.address import Address, Sender
from gateway.store import upsert
from gateway.store.encoding import address_from_json, address_to_json, sender_from_json, sender_to_json
from gateway.store.records import Turn, TurnKind
from gateway.store.schema import AnyRow, sessions, turns, work
from gateway.store.sessions import current_generation

_values = {
    **{
        column.name: bindparam(column.name)
        for column in turns.c
        if column.name not in ("number", "generation", "agent")
    },
    "generation": current_generation,
    # A turn that is resumed goes on with its agent, whatever was chosen meanwhile.
    "agent": select(sessions.c.agent).where(sessions.c.key == bindparam("session")).scalar_subquery(),
}
_insert_running = insert(turns).values(_values).returning(turns.c.number, turns.c.generation, turns.c.agent)
_insert_ended = (
    upsert.insert(turns).values(_values).on_conflict_do_nothing(index_elements=["id"]).returning(turns.c.number)
)
_conversation = sessions.alias("conversation")
_settings = (
    select(
        sessions.c.allowed,
        sessions.c.model,
        # Delegated tasks reason as much as the conversation that they are for.
        func.coalesce(sessions.c.reasoning, _conversation.c.reasoning).label("reasoning"),
        work.c.root,
    )
    .select_from(
        sessions.outerjoin(work, work.c.child == sessions.c.key).outerjoin(
            _conversation, _conversation.c.key == sessions.c.parent
        )
    )
    .where(sessions.c.key == bindparam("session"))
)


def new_turn(id: str, session: str, address: Address, principal: Sender, reply_to: str | None, kind: TurnKind) -> Turn:
    return Turn(id, session, 1, address, principal, reply_to, kind, (), datetime.now(UTC))


def insert_running(connection: Connection, turn: Turn, worker: str) -> tuple[int, Turn]:
    """The new row's number, and the turn with its generation and the agent that is chosen for its session."""
    number, generation, agent = connection.execute(_insert_running, _values_of(turn, worker, "running")).one()
    return number, replace(turn, generation=generation, agent=agent or "")


def insert_ended(connection: Connection, turn: Turn, worker: str) -> int | None:
    """The number of the new row of a completed turn; None if there is a turn with this id."""
    number: int | None = connection.execute(_insert_ended, _values_of(turn, worker, "completed")).scalar()
    return number


def with_settings(connection: Connection, turn: Turn) -> Turn:
    """The turn with the settings of its session (`allowed`, `model`, `reasoning`) and with its `root`."""
    found = connection.execute(_settings, {"session": turn.session}).one()
    return replace(
        turn,
        allowed=frozenset(found.allowed or ()),
        model=found.model or "",
        reasoning=reasoning_from(found.reasoning or ""),
        root=found.root or turn.id,
    )


def level_of(row: AnyRow) -> int:
    """The level of the turn in the row: that of the person who began it."""
    return sender_from_json(row.principal).level


def turn_from(row: AnyRow, entries: tuple[Entry, ...], epoch: int | None = None) -> Turn:
    return Turn(
        id=row.id,
        session=row.session,
        epoch=row.epoch if epoch is None else epoch,
        address=address_from_json(row.address),
        principal=sender_from_json(row.principal),
        reply_to=row.reply_to,
        kind=row.kind,
        entries=entries,
        started_at=row.started_at,
        stop=row.stop,
        parked=row.parked,
        root=row.id,
        generation=row.generation,
        agent=row.agent or "",
    )


def _values_of(turn: Turn, worker: str, state: str) -> dict[str, Any]:
    return {
        "id": turn.id,
        "session": turn.session,
        "kind": turn.kind,
        "worker": worker,
        "epoch": turn.epoch,
        "address": address_to_json(turn.address),
        "principal": sender_to_json(turn.principal),
        "reply_to": turn.reply_to,
        "state": state,
        "reason": "",
        "parked": False,
        "stop": None,
        "deadline": None,
        "undone": False,
        "started_at": turn.started_at,
        "ended_at": None if state == "running" else turn.started_at,
        "delivered": False,
        "undeliverable": None,
        "draft": None,
        "asks": None,
    }
