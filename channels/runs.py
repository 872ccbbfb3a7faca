"""Runs: the outcome of each message, and tool calls that the caller runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from agent.media import NewFile

RunState = Literal[
    "waiting", "running", "parked", "completed", "failed", "stopped", "withdrawn", "refused", "superseded", "read"
]
"""The state of a message that gets its own answer. `superseded`: another message is answered in its place. `read`: a
turn that another message started has read it. All but the first three are terminal."""


class UnknownRun(Exception):
    def __init__(self) -> None:
        super().__init__("No run with this id.")


class WrongResults(Exception):
    """The results do not match the pending calls; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call whose result is pending."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a call that the caller ran: `text` for the model, `files` with one `caption` and `for_user`
    (Markdown) for people, `images` shown to the model. `final`: it is the turn's answer; `silent`: people are not shown
    the call."""

    call_id: str
    text: str
    failed: bool = False
    files: tuple[NewFile, ...] = ()
    images: tuple[NewFile, ...] = ()
    caption: str = ""
    for_user: str = ""
    final: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class RunReport:
    """The current state of a run. `turn` is the turn that read the message, at `step`; `reason` is for a person.
    `calls` are the pending calls of that turn, whoever declared their tools."""

    run: str
    state: RunState
    turn: str | None
    step: int | None
    reason: str
    finished: bool
    calls: tuple[PendingCall, ...] = ()
