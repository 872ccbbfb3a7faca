"""What people write, from any platform, as one kind of message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from channels.address import Address, Sender

MessageKind = Literal["new", "edited", "withdrawn", "command"]


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file on the platform, not fetched yet. `ref` is what the channel needs to fetch it; `size` is in bytes."""

    ref: str
    name: str
    media_type: str = "application/octet-stream"
    size: int | None = None


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool that whoever writes the message runs themselves; `schema` is the JSON schema of its arguments, an
    object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One thing a person did.

    `event_id` is unique per channel for ever and dedupes redeliveries. `message_id` is the platform's id of the
    message meant: the new one, the edited one, the withdrawn one, or the one whose button was pressed.
    `command` (without its slash) is set for kind "command" only; `text` then holds its arguments.
    A pressed option of a question is the command "answer" with the question's key and the option's number (from 0).
    `note` is context for the model in plain words (a quoted message, a forward). Messages with the same `album`
    belong together. `addressed` is false for group talk that is not meant for the bot; `follows`: it is all the same
    where the bot has been addressed before (a thread that was begun with it).
    `thread_root` is the id of the message that this thread was begun from: where nothing was said to the bot before, it is
    asked for (`Channel.thread_root`) and shown to the model.
    `tools` may be called by the turn that reads the message; the channel hands their calls out (`channels.runs`).
    """

    event_id: str
    address: Address
    sender: Sender
    sent_at: datetime
    kind: MessageKind = "new"
    message_id: str | None = None
    text: str = ""
    command: str | None = None
    files: tuple[FileRef, ...] = ()
    note: str = ""
    album: str | None = None
    addressed: bool = True
    follows: bool = False
    thread_root: str | None = None
    tools: tuple[DeclaredTool, ...] = ()


@dataclass(frozen=True, slots=True)
class ThreadRoot:
    """The message that a thread was begun from, on whose text and files what is said there may rest."""

    sender: str
    text: str
    files: tuple[FileRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The message is committed. `duplicate` when it was before; `refused` is the reason when it may not be read.

    `words` are those that wait to be read, of a command that only says how the message behind it is to be read.
    `run` is under what id it can be asked what becomes of it, for a message that expects its own answer.
    """

    id: int
    duplicate: bool = False
    refused: str | None = None
    words: str | None = None
    run: str | None = None


Deliver = Callable[[InboundMessage], Awaitable[Receipt | None]]
"""Returns when the message is committed, and only then may the platform be told that it was received.

Raises `channels.channel.NotStored` when it cannot be committed: it must be delivered again later.
None: the message is none of ours (group talk not meant for the bot) and was not kept. Calls made one after
another without awaiting in between keep their order.
"""

MessageState = Literal["waiting", "read", "answered", "withdrawn", "refused"]


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """The state of a person's message changed. `step` is set once a turn has read it.

    `before` is the state that is shown on it now, as far as this process knows.
    """

    address: Address
    id: int
    message_id: str | None
    state: MessageState
    step: int | None = None
    reason: str = ""
    before: MessageState | None = None
