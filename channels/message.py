"""Messages from people: one type for all platforms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from channels.address import Address, Sender

MessageKind = Literal["new", "edited", "withdrawn", "command", "moved", "reaction"]

BusyMode = Literal["steer", "queue", "collect", "interrupt"]
"""What a message does that arrives while a turn runs: it steers the turn, waits to be read alone (`queue`) or together
with other waiting messages (`collect`), or stops the turn and is read by the next."""

STORED = "stored:"
"""Begins the `ref` of a file whose bytes are in the media store already; the attachment follows, as JSON."""


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file on the platform, not downloaded yet. `ref` is what the channel needs to fetch it; `size` is in bytes.

    `is_quoted`: it belongs to a message that this one quotes. `foreign` is the source of a file of somebody who may not
    write to the bot; the receiver sets it.
    """

    ref: str
    name: str
    media_type: str = "application/octet-stream"
    size: int | None = None
    is_quoted: bool = False
    foreign: str = ""


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool that the sender of the message runs. `schema` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ForeignText:
    """Text of somebody who may not write to the bot, and its source in plain words ("in reply to Eve")."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One thing a person did: a message, an edit, a deletion, a pressed button, a command.

    `event_id` is unique per channel for ever; redeliveries are recognised by it. `message_id` is the platform's id of
    the message concerned: the new one, the edited one, the withdrawn one, or the one whose button was pressed.
    `command` (without its slash) is set for kind "command" only; `text` then holds its arguments.
    A pressed option of a question is the command "answer" with the question's key and the option's number (from 0).
    Of kind "moved" is the platform's own message that the chat has another id now, which is the `text`.
    Of kind "reaction" is a reaction on a message of the bot's that may be an answer: `text` is "yes", "no" or the
    number of an option, from 1. The platform may not say in which thread the message is.
    `note` is context for the model in plain words (a quoted message, a forward). Messages with the same `album`
    belong together. `cut`: the text is so long that the person's app may have cut it, and the rest is their next
    message; the value is what stands between the two, if anything. `addressed` is false for group messages that do not
    address the bot; `follows`: such a message is read anyway if the bot was addressed earlier in the conversation (a
    thread).
    `thread_root` is the id of the message that started this thread. In a conversation that is new to the bot, it is
    fetched (`Channel.thread_root`) and shown to the model. `has_talk`: it addresses the bot where others talk, and what
    was said there before can be read (`channels.channel.TalkReader`).
    `tools` may be called by the turn that reads the message; their calls are run outside (`channels.runs`).
    `replies_to`, of a command, is the id of the message that it replies to.
    `quoted` are the authors of messages that `note` quotes; `forwarded`: the text is theirs as well. `foreign` is text
    of people who may not write to the bot: the receiver makes it of these.
    `busy` is what it does to a running turn, for a channel that lets its sender say so; None: as is set there.
    `literal`: its words are for the agent, whatever they are.
    `digest`, of a program's message, tells another message under the same event id from a redelivery.
    `is_update`: an edit by the platform, in which nobody said anything (a preview, a new position). It completes a
    message that waits or is worked on, and steers nothing.
    `most_rights`, of a scheduled task, is the level that its sender had when it was scheduled: the message has no
    higher one, and does not count as one that the sender writes now.
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
    cut: Literal["", "\n"] | None = None
    addressed: bool = True
    follows: bool = False
    is_update: bool = False
    thread_root: str | None = None
    has_talk: bool = False
    tools: tuple[DeclaredTool, ...] = ()
    quoted: tuple[Sender, ...] = ()
    forwarded: bool = False
    foreign: tuple[ForeignText, ...] = ()
    replies_to: str | None = None
    busy: BusyMode | None = None
    literal: bool = False
    digest: str | None = None
    most_rights: int | None = None


@dataclass(frozen=True, slots=True)
class ThreadRoot:
    """An earlier message, such as the one that started a thread: its text and files. `author` is None if the platform
    does not say who wrote it."""

    sender: str
    text: str
    files: tuple[FileRef, ...] = ()
    author: Sender | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The message is committed. `duplicate`: it was before; `differs`: as another message, with another digest, and
    this one was not stored. `refused` is the reason why it may not be read.

    `words` are those of a message that a command is only the beginning of (`/queue hello`), and that waits to be read:
    perhaps nothing answers the command itself.
    `run` is the run id, for a message that gets its own answer (see `channels.runs`). `command` is the command that the
    message is taken as, "" for none: words that ask for nothing but a stop are one.
    """

    id: int
    duplicate: bool = False
    refused: str | None = None
    words: str | None = None
    run: str | None = None
    differs: bool = False
    command: str = ""


Deliver = Callable[[InboundMessage], Awaitable[Receipt | None]]
"""Returns when the message is committed. Only then may the channel acknowledge it to the platform.

Raises `channels.channel.NotStored` when it cannot be committed: it must be delivered again later.
None: the message is not for the bot (group messages that do not address it) and was not stored. Calls made one after
another without awaiting in between keep their order.
"""

MessageState = Literal["waiting", "read", "answered", "failed", "stopped", "withdrawn", "refused", "undelivered"]
"""`failed` and `stopped`: so did the task that read it. `undelivered`: the platform did not take the answer, or not all
of it."""

ENDED_STATES: tuple[MessageState, ...] = ("answered", "failed", "stopped", "undelivered")
"""The task that read the message has ended."""


@dataclass(frozen=True, slots=True)
class MessageStatus:
    """The new state of a person's message. `step` is set once a turn has read it.

    `before` is the state displayed until now, as far as this process knows.
    """

    address: Address
    id: int
    message_id: str | None
    state: MessageState
    step: int | None = None
    reason: str = ""
    before: MessageState | None = None
