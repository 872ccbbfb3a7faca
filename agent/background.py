"""Work that goes on beside the turn that began it: calls moved to the background, and turns of its own it delegated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.tool_result import ToolResult

BackgroundState = Literal["running", "done", "failed", "stopped", "lost"]


class BackgroundError(Exception):
    """It cannot be done; the message tells the model why."""


@dataclass(frozen=True, slots=True)
class BackgroundItem:
    """`handle` is its short name in the conversation, `title` one line, `shown` what it showed last or its result."""

    handle: str
    title: str
    state: BackgroundState
    shown: str = ""


@dataclass(frozen=True, slots=True)
class DelegatedTask:
    """A task for a turn of its own. `tools` are the names of those that it may use, None all of the parent's; `model`
    is a name in the settings, "" the parent's; `seconds` is how long it may take."""

    task: str
    tools: tuple[str, ...] | None = None
    model: str = ""
    seconds: float = 1800.0


def shows_nothing() -> str:
    """For work that does not tell what it does meanwhile."""
    return ""


class Background(Protocol):
    """One turn's view of the work beside it, which outlives the turn: what is kept or delegated is durable."""

    async def adopt(
        self, title: str, running: asyncio.Task[ToolResult], shown: Callable[[], str] = shows_nothing
    ) -> str:
        """Takes the running call over and returns its handle. Its result comes as a message to the same conversation.

        `shown` tells what the call showed last. A call that waits for a delegated task ends, and the task goes on.
        Raises `BackgroundError` when too much is going on already; the call is then still the caller's.
        """

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        """Runs the task in a turn of its own and waits for its answer, with the files that it made.

        `progress` is told now and then what it does. The same `call_id` again finds the same turn, across restarts.
        Cancelling stops it. Raises `BackgroundError` when a limit (depth, number) does not allow it, and when the turn failed
        or was stopped.
        """

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        """Like `delegate`, but returns its handle at once. The answer comes as a message."""

    async def items(self) -> tuple[BackgroundItem, ...]:
        """What was begun in this conversation and is not forgotten yet, oldest first."""

    async def stop(self, handle: str) -> bool:
        """Ends it; False if nothing of that name runs."""

    async def steer(self, handle: str, words: str) -> bool:
        """Steers a delegated task with these words; False if no such task runs."""


class NoBackground:
    """For turns beside which nothing can go on."""

    async def adopt(
        self, title: str, running: asyncio.Task[ToolResult], shown: Callable[[], str] = shows_nothing
    ) -> str:
        raise BackgroundError("nothing can go on in the background here")

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        raise BackgroundError("tasks cannot be delegated here")

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        raise BackgroundError("tasks cannot be delegated here")

    async def items(self) -> tuple[BackgroundItem, ...]:
        return ()

    async def stop(self, handle: str) -> bool:
        return False

    async def steer(self, handle: str, words: str) -> bool:
        return False
