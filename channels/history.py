"""The history of a conversation for channels that display it: people's messages and the replies, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from agent.media import Attachment
from channels.address import Address, Sender
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
class Conversation:
    """A conversation in a list. `title` is the beginning of its first message, or a generated title. `generation` is
    the number of one that `/new` ended, from 0; None: people write in it."""

    address: Address
    title: str
    at: datetime
    running: bool
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a conversation fills of its model's context window of so many tokens, 1 for all of it."""

    share: float
    window: int


class Conversations(Protocol):
    async def conversations(self, channel: str) -> tuple[Conversation, ...]:
        """The channel's conversations, most recent first."""

    async def earlier(self, channel: str) -> tuple[Conversation, ...]:
        """The newest of the conversations that `/new` ended, most recent first."""

    async def history(self, address: Address, generation: int | None = None) -> tuple[Item, ...]:
        """All messages and replies since the last `/new`, or of that earlier conversation, oldest first; running
        replies in their current state."""

    async def context(self, address: Address, person: Sender) -> Context | None:
        """For the agent that this person has there. None if that is not known."""

    async def delete(self, address: Address, by: str) -> None:
        """Deletes the conversation with all that belongs to it, for the user `by`. Raises
        `channels.channel.NotStored`."""
