"""Works: what goes on beside turns until it has ended, calls kept in the background and tasks in turns of their own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from agent.agent import Agent
from agent.background import BackgroundError, BackgroundItem, DelegatedTask, shows_nothing
from agent.interrupt import cancel_and_wait, shielded
from agent.media import MediaError
from agent.tool import Tool, ToolError
from agent.tool_result import ToolResult
from agent.turn_context import TurnContext
from gateway.bus import Bus
from gateway.lifecycle.retry import retry_until_stored
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.sessions import is_child
from gateway.store import background, records
from gateway.store.background import USUAL, Limits
from gateway.store.errors import StoreError
from gateway.store.records import Arrival, BackgroundResult, BackgroundRow, Finished

log = logging.getLogger(__name__)

T = TypeVar("T")

DELEGATE = "delegate"
"""The tool that tasks are not offered where they may delegate nothing further."""

STOPPED = "it was asked to stop"
TIME_UP = "its time was up"
NOT_KEPT = "it cannot be kept just now: {error}"
GOES_ON = "It goes on as {handle}, and its answer will come as a message."
CAME = "It has ended, as {handle}, and its answer has come as a message."


class BackgroundStore(Protocol):
    async def write(self, job: Callable[[Connection], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """A call that this process runs in the background, and what it showed last."""

    running: asyncio.Task[ToolResult]
    shown: Callable[[], str]


class BackgroundWork:
    """Use as `async with`, inside that of the dispatch, which runs the tasks' turns. Leaving it ends the kept calls,
    which the next process tells of as lost; tasks are gone on with.

    Calls that wait for a task show where it is, which they look for every `look_every` seconds.
    """

    def __init__(
        self,
        store: BackgroundStore,
        bus: Bus,
        limits: Limits = USUAL,
        *,
        look_every: float = 2.0,
    ) -> None:
        self._store = store
        self._bus = bus
        self._limits = limits
        self._look_every = look_every
        self._kept: dict[int, _Kept] = {}
        self._timers: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[Finished | None]] = {}
        self._awaiting: dict[asyncio.Task[Any], BackgroundRow] = {}
        self._turns: set[str] = set()
        self._tasks = BackgroundTasks("looking after background work broke; it is taken up again at the next start")
        self._closing = False

    async def __aenter__(self) -> BackgroundWork:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        await self._tasks.__aexit__(*exc)
        if self._kept:
            await cancel_and_wait(*(kept.running for kept in self._kept.values()))

    # What the dispatch tells and asks

    async def prepare(self, record: records.Turn, agent: Agent, turn_context: TurnContext) -> tuple[Agent, TurnContext]:
        """The turn's mind and occasion, with the work beside it; those of a task are no wider than it was given."""
        if is_child(record.session):
            row = await self._store.write(lambda connection: background.task_of(connection, record.session))
            if row is not None and row.delegated is not None:
                agent = replace(agent, tools=_narrowed(agent.tools, row, self._limits))
                # What people had allowed in the conversation was given to the task with its tools.
                allowed = frozenset(tool.name for tool in agent.tools if tool.approval == "once")
                turn_context = replace(turn_context, model=row.delegated.model or turn_context.model, allowed=allowed)
        return agent, replace(turn_context, background=TurnBackground(self, record, agent, turn_context))

    async def ended(self, record: records.Turn) -> None:
        """The turn's end is written."""
        finished: list[Finished] = []
        if record.id in self._turns:
            finished.extend(await self._until_stored(lambda connection: background.settle(connection, record.id)))
            self._turns.discard(record.id)
        if is_child(record.session):
            finished.extend(
                _some(await self._until_stored(lambda connection: background.finish(connection, record.session)))
            )
        self._settle(finished)

    async def resume(self) -> None:
        """Goes on with what an earlier process left: its calls are lost, and what its tasks have answered is brought.

        Turns may be going on already."""
        for row in await self._until_stored(background.running):
            if row.kind == "call":
                await self._end(row, BackgroundResult("lost", background.LOST))
            else:
                self._keep_time(row)
                await self._finish(row)
        for turn_id, waits in await self._until_stored(background.awaiting):
            if waits:
                self._turns.add(turn_id)
            else:
                self._settle(await self._until_stored(partial(background.settle, turn_id=turn_id)))

    async def stop_all(self, session: str) -> tuple[BackgroundItem, ...]:
        """Ends all work of the conversation; what that was."""
        rows = [row for row in await self._listed(session) if row.state == "running"]
        stopped = [row for row in rows if await self._stop_row(row, BackgroundResult("stopped", STOPPED), told=False)]
        return tuple(BackgroundItem(row.handle, row.title, "stopped") for row in stopped)

    # What turns ask, each through its own view

    async def adopt(
        self,
        record: records.Turn,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str],
        mask: Callable[[str], str],
    ) -> str:
        if self._closing:
            raise BackgroundError("the gateway is being stopped")
        row = self._awaiting.get(running)
        if row is not None:
            return await shielded(self._detach(row, running))
        row = await self._begun(lambda connection: background.keep(connection, record, title, self._limits))
        self._kept[row.id] = _Kept(running, shown)
        if self._closing:
            running.cancel()
        else:
            self._tasks.start(partial(self._follow, row, running, mask))
        return row.handle

    async def delegate(
        self,
        record: records.Turn,
        call_id: str,
        delegated: DelegatedTask,
        progress: Callable[[str], Awaitable[None]],
    ) -> ToolResult:
        task = asyncio.current_task()
        assert task is not None
        # Known before the task can end, which may be at once.
        answer = self._answers[call_id] = asyncio.get_running_loop().create_future()
        try:
            row = await self._begin(record, call_id, delegated, waited=True)
            if row.state != "running":
                return await self._found(row)
            self._turns.add(record.id)
            self._awaiting[task] = row
            try:
                over = await self._watch(row, answer, progress)
            except asyncio.CancelledError:
                if not self._closing:
                    await self._not_awaited(row)
                raise
            return ToolResult(GOES_ON.format(handle=row.handle)) if over is None else _result(over.result)
        finally:
            self._awaiting.pop(task, None)
            del self._answers[call_id]

    async def start(self, record: records.Turn, call_id: str, delegated: DelegatedTask) -> str:
        return (await self._begin(record, call_id, delegated, waited=False)).handle

    async def items(self, session: str) -> tuple[BackgroundItem, ...]:
        return tuple([await self._item(row) for row in await self._listed(session)])

    async def stop(self, session: str, handle: str) -> bool:
        row = await self._store.write(lambda connection: background.by_handle(connection, session, handle))
        return row is not None and await self._stop_row(row, BackgroundResult("stopped", STOPPED), told=False)

    async def steer(self, session: str, handle: str, words: str) -> bool:
        row = await self._store.write(lambda connection: background.by_handle(connection, session, handle))
        if row is None:
            return False
        arrival = await self._store.write(lambda connection: background.tell(connection, row, words))
        self._arrived(arrival)
        return arrival is not None

    # Tasks

    async def _begin(
        self, record: records.Turn, call_id: str, delegated: DelegatedTask, *, waited: bool
    ) -> BackgroundRow:
        if self._closing:
            # The turn is about to be abandoned, and makes this call again when it is taken up.
            await asyncio.get_running_loop().create_future()
        row, arrival = await self._begun(
            lambda connection: background.delegate(connection, record, call_id, delegated, self._limits, waited=waited)
        )
        if row.state == "running":
            self._keep_time(row)
        self._arrived(arrival)
        return row

    async def _found(self, row: BackgroundRow) -> ToolResult:
        """The answer to a call that is made again after a restart, and whose task has ended meanwhile."""
        if not row.waited:
            return ToolResult(CAME.format(handle=row.handle))
        return _result(await self._store.write(lambda connection: background.outcome(connection, row)))

    async def _watch(
        self, row: BackgroundRow, answer: asyncio.Future[Finished | None], progress: Callable[[str], Awaitable[None]]
    ) -> Finished | None:
        """Waits for the answer, showing meanwhile where the task is."""
        shown = ""
        while not answer.done():
            await asyncio.wait({answer}, timeout=self._look_every)
            status = "" if answer.done() else await self._status(row)
            if status not in ("", shown):
                shown = status
                await progress(status)
        return answer.result()

    async def _status(self, row: BackgroundRow) -> str:
        try:
            return await self._store.write(lambda connection: background.status(connection, row))
        except StoreError as error:
            log.warning("where %s of session %s is cannot be read: %s", row.handle, row.session, error)
            return ""

    async def _detach(self, row: BackgroundRow, waiting: asyncio.Task[ToolResult]) -> str:
        over = await self._until_stored(lambda connection: background.detach(connection, row.id))
        self._settle(_some(over))
        answer = self._answers.get(row.call_id or "")
        if answer is not None and not answer.done():
            answer.set_result(None)
        await asyncio.wait({waiting})
        return row.handle

    async def _not_awaited(self, row: BackgroundRow) -> None:
        """The turn gave the call up: so is its task."""
        try:
            await shielded(self._stop_row(row, BackgroundResult("stopped", background.NOT_FOR_IT), told=False))
        except StoreError as error:
            log.error("%s of session %s cannot be stopped: %s", row.handle, row.session, error)

    def _keep_time(self, row: BackgroundRow) -> None:
        if row.id not in self._timers and not self._closing:
            self._timers[row.id] = self._tasks.start(partial(self._wait_out, row))

    async def _wait_out(self, row: BackgroundRow) -> None:
        await asyncio.sleep((row.until - datetime.now(UTC)).total_seconds())
        del self._timers[row.id]
        ending = BackgroundResult("failed", TIME_UP)
        await retry_until_stored(lambda: self._stop_row(row, ending, told=True), "the end of a task cannot be kept")

    # Calls

    async def _follow(self, row: BackgroundRow, running: asyncio.Task[ToolResult], mask: Callable[[str], str]) -> None:
        """A kept call to its end. This is the edge at which whatever it raises becomes a message."""
        await asyncio.wait({running})
        if not self._closing:
            ending = _ending_of(running)
            await self._end(row, replace(ending, text=mask(ending.text)))
        self._kept.pop(row.id, None)

    # Ends, each written before anybody learns of it

    async def _end(self, row: BackgroundRow, ending: BackgroundResult) -> None:
        self._settle(_some(await self._until_stored(lambda connection: background.end(connection, row.id, ending))))

    async def _finish(self, row: BackgroundRow) -> None:
        child = row.child
        assert child is not None
        self._settle(_some(await self._until_stored(lambda connection: background.finish(connection, child))))

    async def _stop_row(self, row: BackgroundRow, ending: BackgroundResult, *, told: bool) -> bool:
        finished = await self._store.write(lambda connection: background.stop(connection, row.id, ending, told=told))
        self._settle(finished)
        return bool(finished)

    def _settle(self, finished: Iterable[Finished]) -> None:
        """What has ended in the store ends here."""
        for over in finished:
            row = over.row
            timer = self._timers.pop(row.id, None)
            if timer is not None:
                timer.cancel()
            answer = self._answers.get(row.call_id or "")
            if answer is not None and not answer.done():
                answer.set_result(over)
            if over.stop_reason:
                self._stop_running(over)
            self._arrived(over.arrival)

    def _stop_running(self, over: Finished) -> None:
        kept = self._kept.get(over.row.id)
        if kept is not None:
            kept.running.cancel()
        if over.row.child is not None:
            self._bus.stop(over.row.child, before=sys.maxsize, reason=over.stop_reason)
            # Of a parked turn nothing runs: it is taken up to be ended.
            self._bus.wake(over.row.child, "queue")

    def _arrived(self, arrival: Arrival | None) -> None:
        if arrival is not None and arrival.wakes is not None:
            self._bus.wake(arrival.session, arrival.wakes)

    # Looking

    async def _listed(self, session: str) -> tuple[BackgroundRow, ...]:
        return await self._store.write(lambda connection: background.listed(connection, session))

    async def _item(self, row: BackgroundRow) -> BackgroundItem:
        shown = row.shown
        if row.state == "running" and row.child is not None:
            shown = await self._status(row)
        elif row.state == "running":
            kept = self._kept.get(row.id)
            shown = "" if kept is None else kept.shown()
        return BackgroundItem(row.handle, row.title, row.state, shown)

    # Writing

    async def _begun(self, job: Callable[[Connection], T]) -> T:
        """Written even if the caller is cancelled meanwhile. Raises `BackgroundError`."""
        try:
            return await shielded(self._store.write(job))
        except StoreError as error:
            raise BackgroundError(NOT_KEPT.format(error=error)) from error

    async def _until_stored(self, job: Callable[[Connection], T]) -> T:
        return await retry_until_stored(lambda: self._store.write(job), "the end of background work cannot be kept")


class TurnBackground:
    """Implements `agent.background.Background` for one turn."""

    def __init__(
        self, background: BackgroundWork, record: records.Turn, agent: Agent, turn_context: TurnContext
    ) -> None:
        self._background = background
        self._record = record
        self._tools = agent.tools
        self._mask = agent.mask
        self._model = turn_context.model
        self._allowed = turn_context.allowed

    async def adopt(
        self, title: str, running: asyncio.Task[ToolResult], shown: Callable[[], str] = shows_nothing
    ) -> str:
        return await self._background.adopt(self._record, self._mask(title), running, shown, self._mask)

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        return await self._background.delegate(self._record, call_id, self._narrow(delegated), progress)

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        return await self._background.start(self._record, call_id, self._narrow(delegated))

    async def items(self) -> tuple[BackgroundItem, ...]:
        return await self._background.items(self._record.session)

    async def stop(self, handle: str) -> bool:
        return await self._background.stop(self._record.session, handle)

    async def steer(self, handle: str, words: str) -> bool:
        return await self._background.steer(self._record.session, handle, words)

    def _narrow(self, delegated: DelegatedTask) -> DelegatedTask:
        """The task with its tools and its model named. Nobody is there to be asked, so it gets no tool for which
        people would be."""
        delegated = replace(delegated, model=delegated.model or self._model)
        there = [tool.name for tool in self._tools if self._may_be_given(tool)]
        if delegated.tools is None:
            return replace(delegated, tools=tuple(there))
        missing = [name for name in delegated.tools if name not in there]
        if missing:
            raise BackgroundError(
                f"A task cannot be given {', '.join(map(repr, missing))}. "
                f"The tools that it can be given are: {', '.join(there) or 'none'}."
            )
        return delegated

    def _may_be_given(self, tool: Tool) -> bool:
        return not tool.asks and (tool.approval == "never" or (tool.approval == "once" and tool.name in self._allowed))


def _narrowed(tools: Sequence[Tool], row: BackgroundRow, limits: Limits) -> tuple[Tool, ...]:
    """Those of the tools that a task was given and may use now."""
    given = set(row.delegated.tools or ()) if row.delegated is not None else set()
    if row.depth >= limits.depth:
        given.discard(DELEGATE)
    return tuple(tool for tool in tools if tool.name in given and not tool.asks and tool.approval != "always")


def _ending_of(running: asyncio.Task[ToolResult]) -> BackgroundResult:
    """How a call that is done has ended."""
    if running.cancelled():
        return BackgroundResult("stopped", "it was cancelled, and has no result")
    error = running.exception()
    if error is None:
        result = running.result()
        return BackgroundResult("done", result.text, result.attachments)
    if isinstance(error, ToolError | MediaError | BackgroundError):
        return BackgroundResult("failed", str(error))
    if isinstance(error, TimeoutError):
        return BackgroundResult("failed", "its time was up, and it was ended")
    log.error("background work broke", exc_info=error)
    return BackgroundResult("failed", f"it broke: {type(error).__name__}: {error}")


def _result(ending: BackgroundResult) -> ToolResult:
    """A task's answer as its call's. Raises `BackgroundError` for one that came to nothing."""
    if ending.state == "done":
        return ToolResult(ending.text, ending.attachments)
    made = ", ".join(file.name for file in ending.attachments)
    how = "was stopped" if ending.state == "stopped" else "failed"
    raise BackgroundError(f"The delegated task {how}: {ending.text}" + (f"\n\nIt had made: {made}" if made else ""))


def _some(over: Finished | None) -> tuple[Finished, ...]:
    return () if over is None else (over,)
