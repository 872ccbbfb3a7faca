"""Sessions: created with their first message, with the settings that people choose in them, and reset by `/new`."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, Integer, bindparam, func, select, update

from agent.model import reasoning_from
from channels.address import Address
from gateway.store.encoding import address_from_json, address_to_json
from gateway.store.records import Busy, ModelChoice, SessionInfo
from gateway.store.schema import inbox, is_waiting, sessions
from gateway.store.upsert import insert

_insert = insert(sessions).values(
    key=bindparam("key"),
    channel=bindparam("channel"),
    address=bindparam("address"),
    parent=bindparam("parent"),
    created_at=bindparam("now"),
    last_at=bindparam("now"),
)
_upsert = _insert.on_conflict_do_update(
    index_elements=["key"], set_={"last_at": _insert.excluded.last_at, "archived_at": None}
).returning(sessions.c.generation, sessions.c.busy)
_upsert_by_person = _insert.on_conflict_do_update(
    index_elements=["key"], set_={"last_at": _insert.excluded.last_at, "archived_at": None, "bot_messages": 0}
).returning(sessions.c.generation, sessions.c.busy)
_bot_messages = select(sessions.c.bot_messages).where(sessions.c.key == bindparam("session"))
_count_bot_message = (
    update(sessions).where(sessions.c.key == bindparam("of_session")).values(bot_messages=sessions.c.bot_messages + 1)
)
_conversation = select(func.coalesce(sessions.c.parent, sessions.c.key)).where(sessions.c.key == bindparam("session"))

_address = select(sessions.c.address).where(sessions.c.key == bindparam("session"), sessions.c.parent.is_(None))
_generation = select(sessions.c.generation).where(sessions.c.key == bindparam("session"))
current_generation = _generation.scalar_subquery()
"""The generation of the session that the parameter `session` names."""

_allowed = select(sessions.c.allowed).where(sessions.c.key == bindparam("session"))
_set_allowed = update(sessions).where(sessions.c.key == bindparam("of_session")).values(allowed=bindparam("tools"))
_set_busy = update(sessions).where(sessions.c.key == bindparam("of_session")).values(busy=bindparam("chosen"))
_model = select(sessions.c.model, sessions.c.reasoning, sessions.c.agent).where(sessions.c.key == bindparam("session"))
_set_model = (
    update(sessions)
    .where(sessions.c.key == bindparam("of_session"))
    .values(model=bindparam("chosen"), reasoning=bindparam("effort"))
)
_set_agent = update(sessions).where(sessions.c.key == bindparam("of_session")).values(agent=bindparam("chosen"))
_archive = update(sessions).where(sessions.c.key == bindparam("of_session")).values(archived_at=bindparam("at"))
_info = select(
    sessions.c.generation, sessions.c.busy, sessions.c.created_at, sessions.c.last_at, sessions.c.archived_at
).where(sessions.c.key == bindparam("session"), sessions.c.parent.is_(None))
_set_title = (
    update(sessions)
    .where(
        sessions.c.key == bindparam("of_session"),
        sessions.c.generation == func.coalesce(bindparam("of_generation", type_=Integer), sessions.c.generation),
    )
    .values(title=bindparam("new_title"))
)

_reset = (
    update(sessions)
    .where(sessions.c.key == bindparam("of_session"))
    .values(generation=sessions.c.generation + 1, allowed=None, title=None)
)
_move_waiting = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting)
    .values(generation=select(sessions.c.generation).where(sessions.c.key == bindparam("of_session")).scalar_subquery())
)


def touch(
    connection: Connection, session: str, address: Address, parent: str | None = None, *, by_person: bool = False
) -> tuple[int, Busy | None]:
    """Creates the session if it is new, and notes that something happened in it: its generation and busy setting.

    `parent`: see `conversation_of`. `by_person`: a person has written, so that no bots write in a row there.
    """
    values = {
        "key": session,
        "channel": address.channel,
        "address": address_to_json(address),
        "parent": parent,
        "now": datetime.now(UTC),
    }
    generation, busy = connection.execute(_upsert_by_person if by_person else _upsert, values).one()
    return generation, busy


def bot_messages(connection: Connection, session: str) -> int:
    """How many messages bots have written there since a person wrote."""
    return connection.execute(_bot_messages, {"session": session}).scalar() or 0


def count_bot_message(connection: Connection, session: str) -> None:
    connection.execute(_count_bot_message, {"of_session": session})


def conversation_of(connection: Connection, session: str) -> str | None:
    """The session in which people write, for one that may be a delegated task's, however deep."""
    found: str | None = connection.execute(_conversation, {"session": session}).scalar()
    return found


def address_of(connection: Connection, session: str) -> Address | None:
    """Where the conversation takes place; None if people never wrote there."""
    found = connection.execute(_address, {"session": session}).scalar()
    return None if found is None else address_from_json(found)


def generation_of(connection: Connection, session: str) -> int | None:
    """How often the session was reset."""
    generation: int | None = connection.execute(_generation, {"session": session}).scalar()
    return generation


def set_busy(connection: Connection, session: str, busy: Busy | None) -> None:
    """What messages do to a running turn there, from the next one on; None: as its channel says."""
    connection.execute(_set_busy, {"of_session": session, "chosen": busy})


def archive(connection: Connection, session: str, *, archived: bool) -> None:
    """An archived conversation is listed only where it is asked for, until something happens there."""
    at = datetime.now(UTC) if archived else None
    connection.execute(_archive, {"of_session": session, "at": at})


def info(connection: Connection, session: str) -> SessionInfo | None:
    """None if people never wrote there."""
    row = connection.execute(_info, {"session": session}).first()
    return None if row is None else SessionInfo(row.generation, row.busy, row.created_at, row.last_at, row.archived_at)


def set_model(connection: Connection, session: str, choice: ModelChoice) -> None:
    """The model of the session's next turns, also after `/new`. Its agent stays."""
    effort = None if choice.reasoning is None else str(choice.reasoning)
    connection.execute(_set_model, {"of_session": session, "chosen": choice.model or None, "effort": effort})


def set_agent(connection: Connection, session: str, agent: str) -> None:
    """The agent of the session's next turns, also after `/new`; "" undoes the choice. It undoes that of a model too,
    which was chosen for another agent."""
    connection.execute(_set_agent, {"of_session": session, "chosen": agent or None})
    connection.execute(_set_model, {"of_session": session, "chosen": None, "effort": None})


def open_with_agent(connection: Connection, session: str, address: Address, agent: str) -> None:
    """Creates the session if it is new, and has this agent answer there from the next turn on; "" for the one that the
    settings choose."""
    touch(connection, session, address)
    if model_of(connection, session).agent != agent:
        set_agent(connection, session, agent)


def model_of(connection: Connection, session: str) -> ModelChoice:
    """The model and the agent chosen there."""
    found = connection.execute(_model, {"session": session}).first()
    if found is None:
        return ModelChoice()
    return ModelChoice(found.model or "", reasoning_from(found.reasoning or ""), found.agent or "")


def set_title(connection: Connection, session: str, title: str, generation: int | None = None) -> None:
    """The session's title in lists, until it is reset; nothing if that happened since `generation`."""
    connection.execute(_set_title, {"of_session": session, "of_generation": generation, "new_title": title})


def allow_tool(connection: Connection, session: str, tool: str) -> None:
    """The tool needs no approval there until the session is reset."""
    allowed = connection.execute(_allowed, {"session": session}).scalar() or []
    if tool not in allowed:
        connection.execute(_set_allowed, {"of_session": session, "tools": [*allowed, tool]})


def reset_session(connection: Connection, session: str) -> None:
    """A new generation: waiting and later messages have no history, and no tool is allowed without approval."""
    connection.execute(_reset, {"of_session": session})
    connection.execute(_move_waiting, {"of_session": session})
