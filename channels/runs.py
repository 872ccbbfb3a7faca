"""What becomes of messages, and the calls that are run outside, for channels whose callers ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from channels.address import Address

RunState = Literal[
    "waiting", "running", "parked", "completed", "failed", "stopped", "withdrawn", "refused", "superseded", "read"
]
"""What has become of a message that expects an answer of its own. `superseded`: another is answered in its place,
`read`: a turn that another began has read it. All but the first three are terminal."""


class UnknownRun(Exception):
    def __init__(self) -> None:
        super().__init__("There is no run with this id.")


class WrongResults(Exception):
    """The results are not exactly those of the calls that wait for one; the words say what is wrong."""


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call whose result is waited for."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallResult:
    """What somebody says is the result of a call."""

    call_id: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RunReport:
    """A message that expects its own answer, as it stands. `turn` is the turn that read it, at `step`; `reason` is in
    words for a person. `calls` are those that the turn waits for, whoever declared their tools."""

    run: str
    state: RunState
    turn: str | None
    step: int | None
    reason: str
    finished: bool
    calls: tuple[PendingCall, ...] = ()


class Runs(Protocol):
    """Told from what is kept, so it is the same after a restart."""

    def tools(self, address: Address) -> frozenset[str]:
        """The names of our own tools there, which nobody can declare."""

    async def report(self, run_id: str) -> RunReport:
        """The run as it stands. Raises `UnknownRun`."""

    async def wait(self, run_id: str) -> RunReport:
        """Waits until the run is over or calls of its turn wait for results. Raises `UnknownRun`."""

    async def report_for(self, message: int) -> RunReport | None:
        """The run of an accepted message; None if it expects no answer of its own."""

    async def submit_results(self, run_id: str, results: Sequence[CallResult]) -> None:
        """Keeps the results, exactly one for each call that waits for one, and lets the turn go on.

        Raises `UnknownRun`, `WrongResults`, and `channels.channel.NotStored` when they cannot be kept.
        """
