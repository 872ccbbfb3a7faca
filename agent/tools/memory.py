"""The tool that takes notes of what is worth knowing in later conversations, too."""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from agent.memory import MAX_NOTE, MemoryFault, checked_note
from agent.tool import ToolContext, ToolError, tool


@tool(effect="external", repeatable=True)
async def memory(
    context: ToolContext,
    action: Annotated[Literal["add", "list", "forget"], Field(description="add a note, list all, or forget one.")],
    note: Annotated[str | None, Field(max_length=MAX_NOTE, description="The note, in one sentence.")] = None,
    handle: Annotated[str | None, Field(max_length=20, description="The handle of the note to forget.")] = None,
) -> str:
    """Keeps notes for later conversations: of this person, or in a group of the chat.

    Note what people ask you to remember, and lasting facts and wishes of theirs that will matter again; nothing secret,
    and nothing that only this task needs. To change a note, add the new one and forget the old one.
    """
    try:
        match action:
            case "add":
                return f"Noted. {(await context.memory.add(context.call_id, checked_note(note or ''))).line()}"
            case "list":
                return "\n".join(each.line() for each in await context.memory.notes()) or "There are no notes."
            case "forget":
                if not handle:
                    raise MemoryFault("Give the handle of the note; the list has it.")
                return f"Forgotten. {(await context.memory.forget(handle)).line()}"
            case _:
                assert_never(action)
    except MemoryFault as error:
        raise ToolError(str(error)) from error
