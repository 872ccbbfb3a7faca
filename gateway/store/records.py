"""What the store gives back: rows that have become things."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agent.log import Entry, TurnOutcome
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import FileRef, MessageState

RowState = Literal["waiting", "consumed", "answered", "withdrawn", "refused"]
"""An inbox row's state; all but `waiting` are terminal (law 3)."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A person's earlier message whose state or text a new arrival changed."""

    id: int
    message_id: str | None
    state: MessageState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What became of an inbound message in the transaction that kept it.

    `wakes`: something new waits for a turn. `to_fetch`: the row whose files are still to be fetched. `command`: the row
    waits for the command handler. `changed`: the earlier message that this one edited or withdrew.
    """

    id: int
    session: str
    duplicate: bool = False
    state: RowState = "waiting"
    reason: str = ""
    wakes: bool = False
    to_fetch: int | None = None
    command: bool = False
    first_refusal: bool = False
    changed: Changed | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A claimed turn. Only the holder of its `epoch` may write to it. `first`: it is known that none came before it."""

    id: str
    session: str
    epoch: int
    address: Address
    principal: Sender
    reply_to: str | None
    kind: Literal["turn", "command"]
    entries: tuple[Entry, ...]
    started_at: datetime
    first: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """A command that waits for its answer."""

    id: int
    session: str
    address: Address
    sender: Sender
    message_id: str | None
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Unfetched:
    """A message whose files are not fetched yet; turns do not read it, nor anything after it, until they are."""

    id: int
    session: str
    address: Address
    files: tuple[FileRef, ...]
    album: str | None


@dataclass(frozen=True, slots=True)
class Pending:
    """What a process that starts finds to do."""

    commands: tuple[Command, ...]
    sessions: tuple[str, ...]
    """Sessions with an unfinished turn or with unread messages, longest waiting first."""
    unfetched: tuple[Unfetched, ...]
    undelivered: tuple[str, ...]
    """Ended turns whose reply has not been confirmed by the platform, oldest first."""


@dataclass(frozen=True, slots=True)
class PastTurn:
    id: str
    outcome: TurnOutcome
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class InboxRow:
    id: int
    message_id: str | None
    sender: Sender
    text: str
    attachments: tuple[Attachment, ...]
    state: RowState
    turn: str | None
    step: int | None
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """A turn that runs, for a status."""

    id: str
    session: str
    address: Address
    started_at: datetime


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A session with the beginning of its first message."""

    session: str
    address: Address
    title: str
    last_at: datetime
    running: bool
