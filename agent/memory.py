"""Notes: what the agent remembers of a person or a group beyond one conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MAX_NOTE = 300
"""Characters of a note."""


class MemoryFault(Exception):
    """The note cannot be taken, or there is no such note; the message tells whoever asked why."""


@dataclass(frozen=True, slots=True)
class Note:
    """`handle` is its name for people and models."""

    handle: str
    text: str

    def line(self) -> str:
        """One line for people and models."""
        return f"{self.handle}: {self.text}"


class Memory(Protocol):
    """The notes of whoever a turn is for. All methods raise `MemoryFault`."""

    async def add(self, call_id: str, text: str) -> Note:
        """Takes a note; the same `call_id` finds the one that it has taken again."""
        ...

    async def notes(self) -> tuple[Note, ...]:
        """All, the oldest first."""
        ...

    async def forget(self, handle: str) -> Note: ...


class NoMemory:
    """Where nothing can be remembered."""

    async def add(self, call_id: str, text: str) -> Note:
        raise MemoryFault("Nothing can be noted here: only turns of the conversation itself can do that.")

    async def notes(self) -> tuple[Note, ...]:
        return ()

    async def forget(self, handle: str) -> Note:
        raise MemoryFault(f"There is no note {handle}.")


def checked_note(text: str) -> str:
    """The note on one line. Raises `MemoryFault`."""
    note = " ".join(text.split())
    if not note:
        raise MemoryFault("The note is empty.")
    if len(note) > MAX_NOTE:
        raise MemoryFault(f"The note has {len(note)} characters; at most {MAX_NOTE} are possible.")
    return note
