"""What extends Interject: tools, hooks, models and agents of your own import from here, and from nowhere else.

    from interject import ToolContext, tool

    @tool(effect="read")
    async def word_count(context: ToolContext, path: str) -> str:
        \"\"\"Counts the words of a text file in the workspace.\"\"\"
        return str(len((context.workspace / path).read_text().split()))

The names below are the public interface; everything else may change without notice.
"""

from __future__ import annotations

from agent.agent import Agent
from agent.events import Event
from agent.hook import (
    Ask,
    Deny,
    End,
    MessageIn,
    ModelAnswer,
    ModelRequest,
    Point,
    ReplyPart,
    Respond,
    Ruling,
    Stop,
    Subject,
    ToolCall,
    ToolEnd,
    Where,
)
from agent.journal import Journal, JournalError, TurnLost
from agent.log import Entry, UserMessage
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.media import Attachment, MediaError, MediaStore
from agent.model import Answer, Model, ModelError, ModelSettings, Request
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Approval, Effect, OnSteer, Tool, ToolContext, ToolError, ToolResult, tool
from agent.turn_context import TurnContext

__all__ = [
    "Agent",
    "Answer",
    "Approval",
    "Ask",
    "Attachment",
    "Deny",
    "Effect",
    "End",
    "Entry",
    "Event",
    "Journal",
    "JournalError",
    "MediaError",
    "MediaStore",
    "MemoryJournal",
    "MemoryMedia",
    "MessageIn",
    "Model",
    "ModelAnswer",
    "ModelError",
    "ModelRequest",
    "ModelSettings",
    "OnSteer",
    "Point",
    "ReplyPart",
    "Request",
    "Respond",
    "Ruling",
    "ScriptedModel",
    "Stop",
    "Subject",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolEnd",
    "ToolError",
    "ToolResult",
    "Turn",
    "TurnContext",
    "TurnLost",
    "UserMessage",
    "Where",
    "tool",
]
