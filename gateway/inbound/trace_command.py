"""The command that says how a task went, in time: `/trace`."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from channels.message import InboundMessage
from gateway.inbound.access import AccessPolicy
from gateway.outbound.wording import escaped
from gateway.store.records import Command
from gateway.store.traces import TracedTurn

NAME = "trace"

OF_MESSAGE = "message "
"""Precedes the platform's id of a message in the arguments."""

NOTHING = "There is no task yet in this conversation."
UNKNOWN = "I know no task in this conversation that belongs to that. `/trace` alone shows the last one."
NO_TASK = "That message belongs to no task that I know of. `/trace` alone shows the last one."


class TraceStore(Protocol):
    async def newest_turn(self, session: str) -> str | None: ...
    async def find_turn(self, name: str) -> str | None: ...
    async def turn_of_message(self, session: str, message: str) -> str | None: ...
    async def conversation_of_turn(self, turn_id: str) -> str | None: ...
    async def traced(self, turn_id: str) -> TracedTurn | None: ...


def about_answered_message(message: InboundMessage) -> InboundMessage:
    """`/trace` in reply to a message asks about that one."""
    if message.kind != "command" or message.command != NAME or message.replies_to is None or message.text.strip():
        return message
    return replace(message, text=f"{OF_MESSAGE}{message.replies_to}")


class TraceCommand:
    def __init__(self, store: TraceStore, access: AccessPolicy) -> None:
        self._store = store
        self._access = access

    async def trace(self, command: Command) -> str:
        """The trace of the task with the given id, of the one that the message belongs to which this one replies to, or
        of the last; for admins and for the person who began it."""
        asked = command.arguments.strip()
        turn_id = await self._asked(command.session, asked)
        found = None if turn_id is None else await self._store.traced(turn_id)
        if found is None:
            return NOTHING if not asked else NO_TASK if asked.startswith(OF_MESSAGE) else UNKNOWN
        principal = found.turn.principal
        if command.sender.id != principal.id and not self._access.is_admin(command.address, command.sender):
            name = escaped(principal.name) or "the person who began it"
            return f"Only {name} and admins may see the trace of this task."
        from gateway.turns.trace import trace_of  # loads what few conversations ask for
        from gateway.turns.trace_text import as_markdown

        return as_markdown(trace_of(found))

    async def _asked(self, session: str, asked: str) -> str | None:
        """The id of a turn of this conversation."""
        if not asked:
            return await self._store.newest_turn(session)
        if asked.startswith(OF_MESSAGE):
            return await self._store.turn_of_message(session, asked.removeprefix(OF_MESSAGE))
        turn_id = await self._store.find_turn(asked.lower())
        is_here = turn_id is not None and await self._store.conversation_of_turn(turn_id) == session
        return turn_id if is_here else None
