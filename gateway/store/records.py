"""What the store gives back: rows that have become things."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agent.log import Entry, TurnOutcome
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import FileRef, MessageState

Busy = Literal["steer", "queue", "collect", "interrupt"]
"""What a message does that comes while a turn runs: it steers the turn, waits to be read by itself or together with
others that wait, or stops the turn and is read by the next."""

Door = Literal["open", "known", "paired", "known and paired"]
"""Whom a message may come in from: anybody whom the gate lets in, only where something was said to the bot before,
only somebody whom an admin has let in, or only such a one there."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a message comes in. `busy` is what it asks to do to a running turn; else it does what is set for its
    conversation, or what its channel does `usually`. `gently`: it may not stop a turn that is somebody else's.
    """

    door: Door = "open"
    busy: Busy | None = None
    usually: Busy = "steer"
    gently: bool = False


USUAL = Manner()

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

    `wakes`: something can be read, and does this to a running turn. `to_fetch`: the row whose files are still to be
    fetched. `command`: the row waits for the command handler. `changed`: the earlier message that this one edited or
    withdrew. `stops` is why the unfinished turn has to end.
    """

    id: int
    session: str
    duplicate: bool = False
    state: RowState = "waiting"
    reason: str = ""
    wakes: Busy | None = None
    to_fetch: int | None = None
    command: bool = False
    first_refusal: bool = False
    changed: Changed | None = None
    stops: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A claimed turn. Only the holder of its `epoch` may write to it. `first`: it is known that none came before it.

    `stop` is why it is to end rather than go on, if it is. `parked`: it waits for people.
    `more`: something can be read that it has not read, and does this to it.
    """

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
    stop: str | None = None
    parked: bool = False
    more: Busy | None = None


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
    opening: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """What a process that starts finds to do."""

    commands: tuple[Command, ...]
    sessions: tuple[str, ...]
    """Sessions with an unfinished turn or with unread messages, longest waiting first."""
    unfetched: tuple[Unfetched, ...]
    undelivered: tuple[str, ...]
    """Ended and parked turns whose reply has not been confirmed by the platform, oldest first."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Somebody who asked to be let in: `code` is what an admin approves, `session` and `address` where they asked."""

    channel: str
    sender: Sender
    code: str
    expires_at: datetime
    approved: bool
    session: str
    address: Address


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
