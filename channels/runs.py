"""Runs: the outcome of each message, and tool calls that the caller runs. For channels with an API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from agent.media import NewFile
from channels.address import Address

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


class Runs(Protocol):
    """Read from the store, so reports are the same after a restart."""

    def tools(self, address: Address) -> frozenset[str]:
        """The names of the agent's own tools at the address, which a message cannot declare."""

    async def report(self, run_id: str) -> RunReport:
        """The run's current state. Raises `UnknownRun`."""

    async def wait(self, run_id: str) -> RunReport:
        """Waits until the run is finished or calls of its turn are pending. Raises `UnknownRun`."""

    async def report_for(self, message: int) -> RunReport | None:
        """The run of an accepted message; None if it gets no answer of its own."""

    async def submit_results(self, run_id: str, results: Sequence[CallResult]) -> None:
        """Stores the results, exactly one for each pending call, and resumes the turn.

        Raises `UnknownRun`, `WrongResults`, `agent.media.FileTooLarge`, and `channels.channel.NotStored` when they
        cannot be stored.
        """
