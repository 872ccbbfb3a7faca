"""The public names of `interject`, imported with the first use of one of them."""

from __future__ import annotations

from agent.agent import Agent
from agent.events import Event
from agent.hook import (
    Ask,
    Deny,
    End,
    Hook,
    HookContext,
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
)
from agent.journal import Journal, JournalError, TurnLost
from agent.log import Entry, SuggestedReply, Usage, UserMessage
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.media import Attachment, MediaError, MediaStore, NewFile
from agent.model import Answer, Model, ModelError, ModelSettings, Request
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Approval, Effect, OnSteer, Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.workspace import read_workspace_file, write_workspace_file
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
    "Hook",
    "HookContext",
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
    "NewFile",
    "OnSteer",
    "Point",
    "ReplyPart",
    "Request",
    "Respond",
    "Ruling",
    "ScriptedModel",
    "Stop",
    "Subject",
    "SuggestedReply",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolEnd",
    "ToolError",
    "ToolResult",
    "Turn",
    "TurnContext",
    "TurnLost",
    "Usage",
    "UserMessage",
    "read_workspace_file",
    "tool",
    "write_workspace_file",
]
