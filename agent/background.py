"""Background work: tool calls that outlive their turn, and delegated tasks, which run in turns of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.log import Spent
from agent.tool_result import ToolResult

BackgroundState = Literal["running", "done", "failed", "stopped", "lost"]


class BackgroundError(Exception):
    """The operation is not possible; the message tells the model why. `foreign` are the sources of text from outside
    in it."""

    def __init__(self, message: str, *, foreign: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.foreign = foreign


@dataclass(frozen=True, slots=True)
class BackgroundItem:
    """`handle` is its short name in the conversation, `title` is one line, `shown` is its last output or its result."""

    handle: str
    title: str
    state: BackgroundState
    shown: str = ""


@dataclass(frozen=True, slots=True)
class DelegatedTask:
    """A task for a turn of its own.

    `tools` are the names of its tools, None for all of its agent's; `model` is a name in the settings, "" for the
    parent's; `seconds` is its time limit. `agent` is the name of the agent that works on it, "" for the parent's;
    `turn_cost` is what the parent's turn may cost with its tasks, in dollars, None if that is the limit of everybody.
    """

    task: str
    tools: tuple[str, ...] | None = None
    model: str = ""
    seconds: float = 1800.0
    agent: str = ""
    turn_cost: float | None = None


def no_output() -> str:
    """The output of work that reports no progress."""
    return ""


def no_costs() -> tuple[Spent, ...]:
    """The costs of work that has none."""
    return ()


class Background(Protocol):
    """One turn's view of the background work. The work is durable and outlives the turn."""

    async def adopt(
        self,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str] = no_output,
        costs: Callable[[], tuple[Spent, ...]] = no_costs,
    ) -> str:
        """Takes over the running call and returns its handle. Its result arrives as a message in the same conversation.

        `shown` returns the call's last output, `costs` what it has cost, which is asked once it has ended. A call that
        waits for a delegated task ends, and the task continues.
        Raises `BackgroundError` when too many are running; the caller then still owns the call.
        """

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        """Runs the task in a turn of its own and returns its answer, with the files that it made.

        `progress` is called from time to time with its current activity. The same `call_id` finds the same turn again,
        across restarts. Cancelling stops the task. Raises `BackgroundError` when a limit (depth, number) is reached and
        when the turn failed or was stopped.
        """

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        """Like `delegate`, but returns its handle at once. The answer arrives as a message."""

    async def items(self) -> tuple[BackgroundItem, ...]:
        """The known work of this conversation, running or finished, oldest first."""

    async def stop(self, handle: str) -> bool:
        """Stops it; False if no work of that handle is running."""

    async def steer(self, handle: str, text: str) -> bool:
        """Sends a message to a delegated task; False if no such task is running."""


class NoBackground:
    """For turns without background work."""

    async def adopt(
        self,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str] = no_output,
        costs: Callable[[], tuple[Spent, ...]] = no_costs,
    ) -> str:
        raise BackgroundError("background work is not available here")

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

    async def steer(self, handle: str, text: str) -> bool:
        return False
