"""The command about notes: `/memory`."""

from __future__ import annotations

from agent.memory import MemoryFault
from gateway.inbound.access import AccessPolicy
from gateway.store.notes import StoredNote
from gateway.store.records import Command
from gateway.turns.memory import Memories, owner_of

FORGET = "forget"
NONE = "I have no notes. Tell me what I am to remember."
HEADING = {"direct": "What I remember of you:", "group": "What I remember about this chat:"}
HOW_TO = "`/memory forget NAME` forgets one."
UNKNOWN = "Write `/memory`, or `/memory forget NAME`."


class MemoryCommands:
    def __init__(self, memories: Memories, access: AccessPolicy) -> None:
        self._memories = memories
        self._access = access

    async def memory(self, command: Command) -> str:
        """Lists the notes of the person or of the group, or forgets one."""
        owner = owner_of(command.address, command.sender)
        match command.arguments.split():
            case []:
                found = await self._memories.of(owner)
                lines = "\n".join(map(_line, found))
                return f"{HEADING[command.address.kind]}\n\n{lines}\n\n{HOW_TO}" if found else NONE
            case [verb, handle] if verb.lower() == FORGET:
                may_any = self._access.may_stop_any(command.address, command.sender)
                person = None if may_any else command.sender.id
                try:
                    return f"Forgotten:\n{_line(await self._memories.forget(owner, handle.lower(), person))}"
                except MemoryFault as error:
                    return str(error)
            case _:
                return UNKNOWN


def _line(note: StoredNote) -> str:
    return f"- {note.note.line()}"
