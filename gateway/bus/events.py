"""Bus events: what happened to messages and turns. A closed union; each names its session."""

from __future__ import annotations

from dataclasses import dataclass

from agent.events import Event
from agent.log import ApprovalDecided, TurnOutcome
from channels.address import Address
from channels.message import MessageState


@dataclass(frozen=True, slots=True)
class MessageAccepted:
    """A person's message was stored under the inbox id `id`. `refused`: the sender may not write there, and nobody
    reads it."""

    session: str
    address: Address
    id: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class MessagesChanged:
    """The messages with these inbox ids are now in this state; "waiting": they still are, with other words or with
    their files. The end of a turn changes the messages that it read
    too, and is published as `TurnEnded` only."""

    session: str
    address: Address
    ids: tuple[int, ...]
    state: MessageState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """A turn runs; again, if it was parked or a restart interrupted it. `decided` is the decision that it had waited
    for."""

    session: str
    address: Address
    turn: str
    decided: ApprovalDecided | None = None


@dataclass(frozen=True, slots=True)
class TurnProgress:
    """The agent reported this from the turn. Known secrets are not masked in it. `entries` is the size of the turn's
    log with it, 0 if that is not known."""

    session: str
    address: Address
    turn: str
    event: Event
    entries: int = 0


@dataclass(frozen=True, slots=True)
class TurnParked:
    """The turn waits for people: for an approval, an answer or results."""

    session: str
    address: Address
    turn: str


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn's end is stored. `reason` is in words for a person, "" for an outcome that needs none."""

    session: str
    address: Address
    turn: str
    outcome: TurnOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NoticeSent:
    """The gateway itself has told something there, which no command asked for: the reply of `turn`, whole."""

    session: str
    address: Address
    turn: str


@dataclass(frozen=True, slots=True)
class HistoryChanged:
    """The conversation's history became another, not by a message or a turn: a part of it was taken back or deleted, or
    a new one begins. `erased`: by a deletion, after which nobody is told again what was said there."""

    session: str
    erased: bool = False


@dataclass(frozen=True, slots=True)
class TitleChanged:
    """The conversation has another title."""

    session: str


@dataclass(frozen=True, slots=True)
class Lagged:
    """A subscriber was too slow: its oldest `count` unread events were dropped, and this is in their place. `session`
    is the one subscribed to, None for all. A `count` of 0: events of other workers did not arrive, nobody knows how
    many."""

    session: str | None
    count: int


@dataclass(frozen=True, slots=True)
class NotificationArrived:
    """A notification of this worker has come back to it, so many seconds after there was something to tell. Told to
    who watches the bus only."""

    seconds: float


BusEvent = (
    MessageAccepted
    | MessagesChanged
    | TurnStarted
    | TurnProgress
    | TurnParked
    | TurnEnded
    | NoticeSent
    | HistoryChanged
    | TitleChanged
    | Lagged
)
