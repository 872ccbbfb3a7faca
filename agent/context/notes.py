"""Notes of the agent's, as a part of the instructions."""

from __future__ import annotations

from collections.abc import Sequence

from agent.context.context_files import of_people
from agent.memory import Note

OF_PERSON = ("your notes of earlier conversations with this person; the tool memory changes them", "You or the person")
OF_GROUP = ("your notes about this chat; the tool memory changes them", "You or people of the chat")


def as_instructions(notes: Sequence[Note], *, in_group: bool) -> str:
    """The part of the instructions; "" without notes."""
    source, authors = OF_GROUP if in_group else OF_PERSON
    return of_people(source, authors, "\n".join(f"- {note.line()}" for note in notes)) if notes else ""
