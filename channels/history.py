"""The history of a conversation as it is displayed: people's messages and the replies, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agent.media import Attachment
from channels.message import MessageState
from channels.reply import Reply


@dataclass(frozen=True, slots=True)
class PersonMessage:
    """A person's message and its status. `id` rises in order of arrival; `step` is the step that read it."""

    id: int
    message_id: str | None
    sender: str
    text: str
    attachments: tuple[Attachment, ...]
    state: MessageState
    step: int | None
    reason: str
    at: datetime
    kind: Literal["message"] = "message"


@dataclass(frozen=True, slots=True)
class ShownReply:
    reply: Reply
    kind: Literal["reply"] = "reply"


Item = PersonMessage | ShownReply


@dataclass(frozen=True, slots=True)
class Context:
    """What a conversation fills of its model's context window of so many tokens, 1 for all of it."""

    share: float
    window: int
