"""What was said in a place, as a screen shows it: the person's messages and the replies, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from agent.media import Attachment
from channels.address import Address
from channels.message import MessageState
from channels.reply import Reply


@dataclass(frozen=True, slots=True)
class PersonMessage:
    """A message of a person with what became of it. `id` rises in order of arrival; `step` is where it was read."""

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
class Conversation:
    """A place where something was said. `title` is the beginning of its first message."""

    address: Address
    title: str
    at: datetime
    running: bool


class Conversations(Protocol):
    async def conversations(self, channel: str) -> tuple[Conversation, ...]:
        """The channel's conversations, the most recent first."""

    async def history(self, address: Address) -> tuple[Item, ...]:
        """All that was said there since the last `/new`, oldest first, running replies as they stand now."""
