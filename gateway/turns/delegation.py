"""Delegated tasks: turns in sessions of their own, on behalf of a turn that waits for the answer or goes on."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agent.background import BackgroundError, DelegatedTask
from agent.interrupt import shielded
from agent.tool_result import ToolResult
from gateway.bus import Bus
from gateway.lifecycle.retry import retry_until_stored
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.sessions import is_child
from gateway.store import background, background_rows, records
from gateway.store.background import Limits
from gateway.store.errors import StoreError
from gateway.store.records import BackgroundResult, BackgroundRow, Finished
from gateway.store.scope import Apart, OfSession, OfTurn
from gateway.turns.background_records import BackgroundRecords

log = logging.getLogger(__name__)

TIME_UP = "it timed out"
GOES_ON = "It goes on as {handle}, and its answer will come as a message."
CAME = "It has ended, as {handle}, and its answer has come as a message."


class DelegatedTasks:
    """Turns that wait for a task show its status, read every `poll_seconds`."""

    def __init__(
        self, stored: BackgroundRecords, bus: Bus, tasks: BackgroundTasks, limits: Limits, poll_seconds: float
    ) -> None:
        self._stored = stored
        self._bus = bus
        self._tasks = tasks
        self.limits = limits
        self._poll_seconds = poll_seconds
        self._timers: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[Finished | None]] = {}
        """By call id."""
        self._waiting: dict[asyncio.Task[Any], BackgroundRow] = {}
        self._waiting_turns: set[str] = set()
        stored.on_finished(self._finished)

    # On behalf of a turn

    async def delegate(
        self,
        record: records.Turn,
        call_id: str,
        delegated: DelegatedTask,
        progress: Callable[[str], Awaitable[None]],
    ) -> ToolResult:
        """Runs the task and waits for its answer. Raises `BackgroundError`."""
        task = asyncio.current_task()
        assert task is not None
        # Registered first, as the task may end at once.
        answer = self._answers[call_id] = asyncio.get_running_loop().create_future()
        try:
            row = await self._begin(record, call_id, delegated, waited=True)
            if row.state != "running":
                return await self._answer_again(row)
            self._waiting_turns.add(record.id)
            self._waiting[task] = row
            try:
                finished = await self._wait(row, answer, progress)
            except asyncio.CancelledError:
                if not self._tasks.closing:
                    await self._abandon(row)
                raise
            if finished is None:
                return ToolResult(GOES_ON.format(handle=row.handle))
            return _tool_result(finished.result)
        finally:
            self._waiting.pop(task, None)
            del self._answers[call_id]

    async def start(self, record: records.Turn, call_id: str, delegated: DelegatedTask) -> str:
        """Runs the task without waiting; its handle. Raises `BackgroundError`."""
        return (await self._begin(record, call_id, delegated, waited=False)).handle

    def awaited_by(self, call: asyncio.Task[Any]) -> BackgroundRow | None:
        """The task whose answer the running call waits for."""
        return self._waiting.get(call)

    async def detach(self, row: BackgroundRow, waiting: asyncio.Task[ToolResult]) -> str:
        """Ends the waiting call while its task goes on; the task's handle."""
        await self._stored.finish(lambda connection: background.detach(connection, row.id), OfSession(row.session))
        self._resolve(row, None)
        await asyncio.wait({waiting})
        return row.handle

    async def steer(self, row: BackgroundRow, text: str) -> bool:
        """Sends a message to the task; False if it has ended. Raises `StoreError`."""
        arrival = await self._stored.write(
            lambda connection: background.send_to_task(connection, row, text), OfSession(row.session)
        )
        self._stored.arrived(arrival)
        return arrival is not None

    def running(self) -> frozenset[int]:
        """The rows of the tasks that this process runs."""
        return frozenset(self._timers)

    async def status(self, row: BackgroundRow) -> str:
        """One line, "" if it cannot be read."""
        try:
            return await self._stored.write(
                lambda connection: background_rows.status(connection, row), Apart("background")
            )
        except StoreError as error:
            log.warning("session %s: the status of %s cannot be read: %s", row.session, row.handle, error)
            return ""

    async def _begin(
        self, record: records.Turn, call_id: str, delegated: DelegatedTask, *, waited: bool
    ) -> BackgroundRow:
        if self._tasks.closing:
            # The turn is about to be abandoned, and makes this call again when it is resumed.
            await asyncio.get_running_loop().create_future()
        row, arrival = await self._stored.begin(
            lambda connection: background.begin_task(
                connection, record, call_id, delegated, self.limits, waited=waited
            ),
            OfSession(record.session),
        )
        if row.state == "running":
            self._start_timer(row)
        self._stored.arrived(arrival)
        return row

    async def _answer_again(self, row: BackgroundRow) -> ToolResult:
        """For a call made again after a restart, whose task has ended meanwhile."""
        if not row.waited:
            return ToolResult(CAME.format(handle=row.handle))
        outcome = await self._stored.write(
            lambda connection: background_rows.outcome(connection, row), OfSession(row.session)
        )
        return _tool_result(outcome)

    async def _wait(
        self, row: BackgroundRow, answer: asyncio.Future[Finished | None], progress: Callable[[str], Awaitable[None]]
    ) -> Finished | None:
        """Waits for the answer, and reports the task's status meanwhile; None: the task goes on without this call."""
        shown = ""
        while not answer.done():
            await asyncio.wait({answer}, timeout=self._poll_seconds)
            status = "" if answer.done() else await self.status(row)
            if status not in ("", shown):
                shown = status
                await progress(status)
        return answer.result()

    async def _abandon(self, row: BackgroundRow) -> None:
        """The waiting call was cancelled, so its task is stopped."""
        try:
            await shielded(self._stored.stop(row, BackgroundResult("stopped", background.PARENT_STOPPED), notify=False))
        except StoreError as error:
            log.error("session %s: %s cannot be stopped: %s", row.session, row.handle, error)

    # Ends

    async def turn_ended(self, record: records.Turn) -> None:
        """The turn's end is stored: nothing waits for its tasks any more, and if it is a task's, the task has ended."""
        if record.id in self._waiting_turns:
            await self._stored.finish_all(partial(background.settle, turn_id=record.id), OfSession(record.session))
            self._waiting_turns.discard(record.id)
        if is_child(record.session):
            await self._stored.finish(partial(background.finish_task, child=record.session), OfSession(record.session))

    async def resume(self, row: BackgroundRow) -> None:
        """Goes on with a task of an earlier process, which may have ended already."""
        assert row.child is not None
        self._start_timer(row)
        await self._stored.finish(partial(background.finish_task, child=row.child), OfSession(row.session))

    async def resume_waiting(self, awaiting: Iterable[tuple[str, bool]]) -> None:
        """Goes on with the turns of another worker that waited for tasks, or ends their waiting."""
        for turn_id, waits in awaiting:
            if waits:
                self._waiting_turns.add(turn_id)
            else:
                await self._stored.finish_all(partial(background.settle, turn_id=turn_id), OfTurn(turn_id))

    def _start_timer(self, row: BackgroundRow) -> None:
        if row.id not in self._timers and not self._tasks.closing:
            self._timers[row.id] = self._tasks.start(partial(self._time_out, row))

    async def _time_out(self, row: BackgroundRow) -> None:
        await asyncio.sleep((row.until - datetime.now(UTC)).total_seconds())
        del self._timers[row.id]
        result = BackgroundResult("failed", TIME_UP)
        await retry_until_stored(
            lambda: self._stored.stop(row, result, notify=True), f"the timeout of {row.handle} cannot be stored"
        )

    def _finished(self, finished: Finished) -> None:
        row = finished.row
        timer = self._timers.pop(row.id, None)
        if timer is not None:
            timer.cancel()
        self._resolve(row, finished)
        if finished.stop_reason and row.child is not None:
            self._bus.stop(row.child, before=sys.maxsize, reason=finished.stop_reason)
            # A parked turn does not run: it is resumed in order to end.
            self._bus.wake(row.child, "queue")

    def _resolve(self, row: BackgroundRow, finished: Finished | None) -> None:
        answer = self._answers.get(row.call_id or "")
        if answer is not None and not answer.done():
            answer.set_result(finished)


def _tool_result(result: BackgroundResult) -> ToolResult:
    """A task's answer as the result of its call. Raises `BackgroundError` if the task failed or was stopped."""
    if result.state == "done":
        return ToolResult(result.text, result.attachments, foreign=result.foreign)
    made = ", ".join(file.name for file in result.attachments)
    how = "was stopped" if result.state == "stopped" else "failed"
    text = f"The delegated task {how}: {result.text}" + (f"\n\nIt had made: {made}" if made else "")
    raise BackgroundError(text, foreign=result.foreign)
