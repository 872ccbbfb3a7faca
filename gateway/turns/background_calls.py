"""Background calls: tool calls that outlive their turn and run on in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.background import BackgroundError
from agent.interrupt import cancel_and_wait
from agent.log import Spent
from agent.media import MediaError
from agent.tool import ToolError
from agent.tool_result import ToolResult
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.store import background, records
from gateway.store.background import Limits
from gateway.store.records import BackgroundResult, BackgroundRow, Finished
from gateway.store.scope import OfSession
from gateway.turns.background_records import BackgroundRecords

log = logging.getLogger(__name__)

SaveFiles = Callable[[records.Turn, Path, int], Awaitable[tuple[str, ...]]]
"""Saves what a call of the turn has changed in that workspace, by the row of the call; what is to be told."""


async def nothing_to_save(record: records.Turn, workspace: Path, row: int) -> tuple[str, ...]:
    """For workspaces that are only folders."""
    return ()


@dataclass(frozen=True, slots=True)
class _RunningCall:
    """`shown` gives the last progress of the call."""

    task: asyncio.Task[ToolResult]
    shown: Callable[[], str]


class BackgroundCalls:
    def __init__(
        self, stored: BackgroundRecords, tasks: BackgroundTasks, limits: Limits, save_files: SaveFiles = nothing_to_save
    ) -> None:
        self._save_files = save_files
        self._stored = stored
        self._tasks = tasks
        self.limits = limits
        self._running: dict[int, _RunningCall] = {}
        stored.on_finished(self._finished)

    async def adopt(
        self,
        record: records.Turn,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str],
        costs: Callable[[], tuple[Spent, ...]],
        mask: Callable[[str], str],
        workspace: Path,
    ) -> str:
        """Takes over the turn's running call; its handle. `costs` are stored with its end, after what it has changed in
        the `workspace`. Raises `BackgroundError`."""
        row = await self._stored.begin(
            lambda connection: background.begin_call(connection, record, title, self.limits), OfSession(record.session)
        )
        self._running[row.id] = _RunningCall(running, shown)
        if self._tasks.closing:
            running.cancel()
        else:
            save = partial(self._save_files, record, workspace, row.id)
            self._tasks.start(partial(self._follow, row, running, costs, mask, save))
        return row.handle

    def shown(self, row: BackgroundRow) -> str:
        """The last progress of the call, "" if this process does not run it."""
        call = self._running.get(row.id)
        return "" if call is None else call.shown()

    def running(self) -> frozenset[int]:
        """The rows of the calls that this process runs."""
        return frozenset(self._running)

    async def lost(self, row: BackgroundRow) -> None:
        """The call ended with the earlier process that ran it."""
        await self._end(row, BackgroundResult("lost", background.LOST))

    async def aclose(self) -> None:
        """Cancels the running calls."""
        if self._running:
            await cancel_and_wait(*(call.task for call in self._running.values()))

    async def _follow(
        self,
        row: BackgroundRow,
        running: asyncio.Task[ToolResult],
        costs: Callable[[], tuple[Spent, ...]],
        mask: Callable[[str], str],
        save: Callable[[], Awaitable[tuple[str, ...]]],
    ) -> None:
        """Waits for the call's end; whatever the call raises becomes its result."""
        await asyncio.wait({running})
        if not self._tasks.closing:
            result = _result_of(running)
            text = "\n\n".join((result.text, *await save()))
            await self._end(row, replace(result, text=mask(text)), costs())
        self._running.pop(row.id, None)

    async def _end(self, row: BackgroundRow, result: BackgroundResult, spent: tuple[Spent, ...] = ()) -> None:
        await self._stored.finish(
            lambda connection: background.end_call(connection, row.id, result, spent), OfSession(row.session)
        )

    def _finished(self, finished: Finished) -> None:
        call = self._running.get(finished.row.id)
        if call is not None and finished.stop_reason:
            call.task.cancel()


def _result_of(running: asyncio.Task[ToolResult]) -> BackgroundResult:
    """The result of a call that is done."""
    if running.cancelled():
        return BackgroundResult("stopped", "it was cancelled and has no result")
    error = running.exception()
    if error is None:
        result = running.result()
        return BackgroundResult("failed" if result.failed else "done", result.text, result.attachments, result.foreign)
    if isinstance(error, ToolError | MediaError | BackgroundError):
        foreign = error.foreign if isinstance(error, BackgroundError) else ()
        return BackgroundResult("failed", str(error), foreign=foreign)
    if isinstance(error, TimeoutError):
        return BackgroundResult("failed", "it timed out")
    log.error("a background call failed", exc_info=error)
    return BackgroundResult("failed", f"internal error: {type(error).__name__}: {error}")
