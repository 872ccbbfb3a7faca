"""Events: what happens in a turn, told to whoever watches while it happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from agent.log import Entry, Usage


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The model's answer grew by `text`."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """The model's reasoning grew by `text`."""

    text: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The text shown of the current answer is taken back: the model call is tried again."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The model keeps the person waiting; `reason` is one quiet line about why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Charged:
    """A model call that gives no answer costs something all the same: an attempt that failed or was cancelled."""

    usage: Usage
    model: str
    purpose: str


Delta = TextDelta | ReasoningDelta | Withdrawn | Waiting | Charged
"""What a model tells while it answers."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A running tool has something to show: `text` replaces what it showed before."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry was committed to the turn's log."""

    entry: Entry


Event = Logged | Progress | Delta

OnDelta = Callable[[Delta], Awaitable[None]]
Emit = Callable[[Event], Awaitable[None]]
"""Awaited by the turn; never raises and never waits for an observer."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as an object for JSON: its class as `event`, and its fields."""
    return {"event": type(event).__name__, **asdict(event)}
