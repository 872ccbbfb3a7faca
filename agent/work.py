"""Work that goes on beside the turn that began it: calls moved to the background, and turns of its own it delegated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from agent.tool import ToolResult

WorkState = Literal["running", "done", "failed", "stopped", "lost"]


class WorkError(Exception):
    """It cannot be done; the message tells the model why."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """`handle` is its short name in the conversation, `title` one line, `shown` what it showed last or its result."""

    handle: str
    title: str
    state: WorkState
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Delegated:
    """A task for a turn of its own. `tools` are named, none meaning all of the parent's; `model` is a name in the
    settings, "" the parent's; `seconds` is how long it may take."""

    task: str
    tools: tuple[str, ...] = ()
    model: str = ""
    seconds: float = 1800.0


class Work(Protocol):
    """One turn's view of the work beside it, which outlives the turn: what is kept or delegated is durable."""

    async def keep(self, title: str, running: asyncio.Task[ToolResult]) -> str:
        """Takes the running call over and returns its handle. Its result comes as a message to the same conversation.

        Raises `WorkError` when too much is going on already; the call is then still the caller's.
        """

    async def delegate(self, call_id: str, delegated: Delegated, *, wait: bool) -> str:
        """Runs the task in a turn of its own. The same `call_id` again finds the same turn, across restarts.

        With `wait` returns its answer, and cancelling stops it; else its handle at once, and the answer comes as a
        message. Raises `WorkError` when a limit (depth, number, cost) does not allow it or the turn failed.
        """

    async def items(self) -> tuple[WorkItem, ...]:
        """What was begun in this conversation and is not forgotten yet, oldest first."""

    async def stop(self, handle: str) -> bool:
        """Ends it; False if nothing of that name runs."""

    async def tell(self, handle: str, words: str) -> bool:
        """Steers a delegated task with these words; False if no such task runs."""


class NoWork:
    """For turns beside which nothing can go on."""

    async def keep(self, title: str, running: asyncio.Task[ToolResult]) -> str:
        raise WorkError("nothing can go on in the background here")

    async def delegate(self, call_id: str, delegated: Delegated, *, wait: bool) -> str:
        raise WorkError("tasks cannot be delegated here")

    async def items(self) -> tuple[WorkItem, ...]:
        return ()

    async def stop(self, handle: str) -> bool:
        return False

    async def tell(self, handle: str, words: str) -> bool:
        return False
