"""Events of a turn, emitted to observers while they happen."""

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
    """The text of the current answer is retracted: the model call is retried."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The model call is delayed; `reason` is one short line for people.

    `model` is the one that is waited for, by the operator's name. After an error, `error` is its kind, and either
    `instead` the model that is asked next, or `seconds` the pause before another attempt.
    """

    reason: str
    model: str = ""
    error: str = ""
    instead: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Charged:
    """The cost of a model call without an answer: a failed or cancelled attempt."""

    usage: Usage
    model: str
    purpose: str


Delta = TextDelta | ReasoningDelta | Withdrawn | Waiting | Charged
"""What a model emits while it answers."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a running tool call: `text` replaces the previous text."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry was committed to the turn's log."""

    entry: Entry


Event = Logged | Progress | Delta

OnDelta = Callable[[Delta], Awaitable[None]]
Emit = Callable[[Event], Awaitable[None]]
"""Awaited by the turn. Never raises, and never waits for an observer."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object: its class name as `event`, and its fields."""
    return {"event": type(event).__name__, **asdict(event)}
