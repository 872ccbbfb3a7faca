"""The public names of `interject`, imported with the first use of one of them."""

from __future__ import annotations

from agent.agent import Agent
from agent.context.compaction import NoSummary
from agent.context.manager import BaseContextManager, ContextManager, ContextOptions, keep_last
from agent.events import Charged, Event, Waiting
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
from agent.log import Compacted, Entry, Spent, SuggestedReply, Usage, UserMessage
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.media import Attachment, MediaError, MediaStore, NewFile
from agent.model import Answer, Model, ModelError, ModelSettings, Request
from agent.models.scripted import ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Approval, Effect, OnSteer, Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.workspace import read_workspace_file, write_workspace_file
from agent.transcript import RenderedTurn
from agent.turn_context import TurnContext

__all__ = [
    "Agent",
    "Answer",
    "Approval",
    "Ask",
    "Attachment",
    "BaseContextManager",
    "Charged",
    "Compacted",
    "ContextManager",
    "ContextOptions",
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
    "NoSummary",
    "OnSteer",
    "Point",
    "RenderedTurn",
    "ReplyPart",
    "Request",
    "Respond",
    "Ruling",
    "ScriptedModel",
    "Spent",
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
    "Waiting",
    "keep_last",
    "read_workspace_file",
    "tool",
    "write_workspace_file",
]
