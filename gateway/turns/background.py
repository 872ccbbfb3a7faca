"""Works: what goes on beside turns until it has ended, calls kept in the background and tasks in turns of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from agent.agent import Mind
from agent.background import Delegated, WorkError, WorkItem, shows_nothing
from agent.interrupt import ended, surely
from agent.media import MediaError
from agent.tool import Tool, ToolError, ToolResult
from agent.turn_context import Occasion
from gateway.lifecycle.retry import until_kept
from gateway.lifecycle.tasks import Errands
from gateway.sessions import is_child
from gateway.store import background, records
from gateway.store.background import USUAL, Limits
from gateway.store.errors import StoreError
from gateway.store.records import Arrival, Busy, Ending, Finished, WorkRow

log = logging.getLogger(__name__)

T = TypeVar("T")

DELEGATE = "delegate"
"""The tool that tasks are not offered where they may delegate nothing further."""

STOPPED = "it was asked to stop"
TIME_UP = "its time was up"
NOT_KEPT = "it cannot be kept just now: {error}"
GOES_ON = "It goes on as {handle}, and its answer will come as a message."
CAME = "It has ended, as {handle}, and its answer has come as a message."


class WorkStore(Protocol):
    async def write(self, job: Callable[[Connection], T]) -> T: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """A call that this process runs in the background, and what it showed last."""

    running: asyncio.Task[ToolResult]
    shown: Callable[[], str]


class Works:
    """Use as `async with`, inside that of the dispatch, which runs the tasks' turns. Leaving it ends the kept calls,
    which the next process tells of as lost; tasks are gone on with.

    `wake` tells the dispatch that a session has something to read; `stop` that its turn is to stop, for a reason.
    Calls that wait for a task show where it is, which they look for every `look_every` seconds.
    """

    def __init__(
        self,
        store: WorkStore,
        wake: Callable[[str, Busy], None],
        stop: Callable[[str, str], object],
        limits: Limits = USUAL,
        *,
        look_every: float = 2.0,
    ) -> None:
        self._store = store
        self._wake = wake
        self._stop = stop
        self._limits = limits
        self._look_every = look_every
        self._kept: dict[int, _Kept] = {}
        self._timers: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[str, asyncio.Future[Finished | None]] = {}
        self._awaiting: dict[asyncio.Task[Any], WorkRow] = {}
        self._turns: set[str] = set()
        self._errands = Errands("looking after background work broke; it is taken up again at the next start")
        self._closing = False

    async def __aenter__(self) -> Works:
        await self._errands.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closing = True
        await self._errands.__aexit__(*exc)
        if self._kept:
            await ended(*(kept.running for kept in self._kept.values()))

    # What the dispatch tells and asks

    async def furnish(self, record: records.Turn, mind: Mind, occasion: Occasion) -> tuple[Mind, Occasion]:
        """The turn's mind and occasion, with the work beside it; those of a task are no wider than it was given."""
        if is_child(record.session):
            row = await self._store.write(lambda connection: background.task_of(connection, record.session))
            if row is not None and row.delegated is not None:
                mind = replace(mind, tools=_narrowed(mind.tools, row, self._limits))
                # What people had allowed in the conversation was given to the task with its tools.
                allowed = frozenset(tool.name for tool in mind.tools if tool.approval == "once")
                occasion = replace(occasion, model=row.delegated.model or occasion.model, allowed=allowed)
        return mind, replace(occasion, work=TurnWork(self, record, mind, occasion))

    async def ended(self, record: records.Turn) -> None:
        """The turn's end is written."""
        finished: list[Finished] = []
        if record.id in self._turns:
            finished.extend(await self._surely(lambda connection: background.settle(connection, record.id)))
            self._turns.discard(record.id)
        if is_child(record.session):
            finished.extend(_some(await self._surely(lambda connection: background.finish(connection, record.session))))
        self._settle(finished)

    async def take_up(self) -> None:
        """Goes on with what an earlier process left: its calls are lost, and what its tasks have answered is brought.

        Turns may be going on already."""
        for row in await self._surely(background.running):
            if row.kind == "call":
                await self._end(row, Ending("lost", background.LOST))
            else:
                self._keep_time(row)
                await self._finish(row)
        for turn_id, waits in await self._surely(background.awaiting):
            if waits:
                self._turns.add(turn_id)
            else:
                self._settle(await self._surely(partial(background.settle, turn_id=turn_id)))

    async def stop_all(self, session: str) -> tuple[WorkItem, ...]:
        """Ends all work of the conversation; what that was."""
        rows = [row for row in await self._listed(session) if row.state == "running"]
        stopped = [row for row in rows if await self._stop_row(row, Ending("stopped", STOPPED), told=False)]
        return tuple(WorkItem(row.handle, row.title, "stopped") for row in stopped)

    # What turns ask, each through its own view

    async def keep(
        self,
        record: records.Turn,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str],
        mask: Callable[[str], str],
    ) -> str:
        if self._closing:
            raise WorkError("the gateway is being stopped")
        row = self._awaiting.get(running)
        if row is not None:
            return await surely(self._detach(row, running))
        row = await self._begun(lambda connection: background.keep(connection, record, title, self._limits))
        self._kept[row.id] = _Kept(running, shown)
        if self._closing:
            running.cancel()
        else:
            self._errands.start(partial(self._follow, row, running, mask))
        return row.handle

    async def delegate(
        self,
        record: records.Turn,
        call_id: str,
        delegated: Delegated,
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
            return ToolResult(GOES_ON.format(handle=row.handle)) if over is None else _result(over.ending)
        finally:
            self._awaiting.pop(task, None)
            del self._answers[call_id]

    async def begin(self, record: records.Turn, call_id: str, delegated: Delegated) -> str:
        return (await self._begin(record, call_id, delegated, waited=False)).handle

    async def items(self, session: str) -> tuple[WorkItem, ...]:
        return tuple([await self._item(row) for row in await self._listed(session)])

    async def stop(self, session: str, handle: str) -> bool:
        row = await self._store.write(lambda connection: background.by_handle(connection, session, handle))
        return row is not None and await self._stop_row(row, Ending("stopped", STOPPED), told=False)

    async def tell(self, session: str, handle: str, words: str) -> bool:
        row = await self._store.write(lambda connection: background.by_handle(connection, session, handle))
        if row is None:
            return False
        arrival = await self._store.write(lambda connection: background.tell(connection, row, words))
        self._arrived(arrival)
        return arrival is not None

    # Tasks

    async def _begin(self, record: records.Turn, call_id: str, delegated: Delegated, *, waited: bool) -> WorkRow:
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

    async def _found(self, row: WorkRow) -> ToolResult:
        """The answer to a call that is made again after a restart, and whose task has ended meanwhile."""
        if not row.waited:
            return ToolResult(CAME.format(handle=row.handle))
        return _result(await self._store.write(lambda connection: background.outcome(connection, row)))

    async def _watch(
        self, row: WorkRow, answer: asyncio.Future[Finished | None], progress: Callable[[str], Awaitable[None]]
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

    async def _status(self, row: WorkRow) -> str:
        try:
            return await self._store.write(lambda connection: background.status(connection, row))
        except StoreError as error:
            log.warning("where %s of session %s is cannot be read: %s", row.handle, row.session, error)
            return ""

    async def _detach(self, row: WorkRow, waiting: asyncio.Task[ToolResult]) -> str:
        over = await self._surely(lambda connection: background.detach(connection, row.id))
        self._settle(_some(over))
        answer = self._answers.get(row.call_id or "")
        if answer is not None and not answer.done():
            answer.set_result(None)
        await asyncio.wait({waiting})
        return row.handle

    async def _not_awaited(self, row: WorkRow) -> None:
        """The turn gave the call up: so is its task."""
        try:
            await surely(self._stop_row(row, Ending("stopped", background.NOT_FOR_IT), told=False))
        except StoreError as error:
            log.error("%s of session %s cannot be stopped: %s", row.handle, row.session, error)

    def _keep_time(self, row: WorkRow) -> None:
        if row.id not in self._timers and not self._closing:
            self._timers[row.id] = self._errands.start(partial(self._wait_out, row))

    async def _wait_out(self, row: WorkRow) -> None:
        await asyncio.sleep((row.until - datetime.now(UTC)).total_seconds())
        del self._timers[row.id]
        ending = Ending("failed", TIME_UP)
        await until_kept(lambda: self._stop_row(row, ending, told=True), "the end of a task cannot be kept")

    # Calls

    async def _follow(self, row: WorkRow, running: asyncio.Task[ToolResult], mask: Callable[[str], str]) -> None:
        """A kept call to its end. This is the edge at which whatever it raises becomes a message."""
        await asyncio.wait({running})
        if not self._closing:
            ending = _ending_of(running)
            await self._end(row, replace(ending, text=mask(ending.text)))
        self._kept.pop(row.id, None)

    # Ends, each written before anybody learns of it

    async def _end(self, row: WorkRow, ending: Ending) -> None:
        self._settle(_some(await self._surely(lambda connection: background.end(connection, row.id, ending))))

    async def _finish(self, row: WorkRow) -> None:
        child = row.child
        assert child is not None
        self._settle(_some(await self._surely(lambda connection: background.finish(connection, child))))

    async def _stop_row(self, row: WorkRow, ending: Ending, *, told: bool) -> bool:
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
            if over.stops:
                self._stop_running(over)
            self._arrived(over.arrival)

    def _stop_running(self, over: Finished) -> None:
        kept = self._kept.get(over.row.id)
        if kept is not None:
            kept.running.cancel()
        if over.row.child is not None:
            self._stop(over.row.child, over.stops)
            # Of a parked turn nothing runs: it is taken up to be ended.
            self._wake(over.row.child, "queue")

    def _arrived(self, arrival: Arrival | None) -> None:
        if arrival is not None and arrival.wakes is not None:
            self._wake(arrival.session, arrival.wakes)

    # Looking

    async def _listed(self, session: str) -> tuple[WorkRow, ...]:
        return await self._store.write(lambda connection: background.listed(connection, session))

    async def _item(self, row: WorkRow) -> WorkItem:
        shown = row.shown
        if row.state == "running" and row.child is not None:
            shown = await self._status(row)
        elif row.state == "running":
            kept = self._kept.get(row.id)
            shown = "" if kept is None else kept.shown()
        return WorkItem(row.handle, row.title, row.state, shown)

    # Writing

    async def _begun(self, job: Callable[[Connection], T]) -> T:
        """Written even if the caller is cancelled meanwhile. Raises `WorkError`."""
        try:
            return await surely(self._store.write(job))
        except StoreError as error:
            raise WorkError(NOT_KEPT.format(error=error)) from error

    async def _surely(self, job: Callable[[Connection], T]) -> T:
        return await until_kept(lambda: self._store.write(job), "the end of background work cannot be kept")


class TurnWork:
    """Implements `agent.background.Work` for one turn."""

    def __init__(self, works: Works, record: records.Turn, mind: Mind, occasion: Occasion) -> None:
        self._works = works
        self._record = record
        self._tools = mind.tools
        self._mask = mind.mask
        self._model = occasion.model
        self._allowed = occasion.allowed

    async def keep(
        self, title: str, running: asyncio.Task[ToolResult], shown: Callable[[], str] = shows_nothing
    ) -> str:
        return await self._works.keep(self._record, self._mask(title), running, shown, self._mask)

    async def delegate(
        self, call_id: str, delegated: Delegated, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        return await self._works.delegate(self._record, call_id, self._narrow(delegated), progress)

    async def begin(self, call_id: str, delegated: Delegated) -> str:
        return await self._works.begin(self._record, call_id, self._narrow(delegated))

    async def items(self) -> tuple[WorkItem, ...]:
        return await self._works.items(self._record.session)

    async def stop(self, handle: str) -> bool:
        return await self._works.stop(self._record.session, handle)

    async def tell(self, handle: str, words: str) -> bool:
        return await self._works.tell(self._record.session, handle, words)

    def _narrow(self, delegated: Delegated) -> Delegated:
        """The task with its tools and its model named. Nobody is there to be asked, so it gets no tool for which
        people would be."""
        delegated = replace(delegated, model=delegated.model or self._model)
        there = [tool.name for tool in self._tools if self._may_be_given(tool)]
        if delegated.tools is None:
            return replace(delegated, tools=tuple(there))
        missing = [name for name in delegated.tools if name not in there]
        if missing:
            raise WorkError(
                f"A task cannot be given {', '.join(map(repr, missing))}. "
                f"The tools that it can be given are: {', '.join(there) or 'none'}."
            )
        return delegated

    def _may_be_given(self, tool: Tool) -> bool:
        return not tool.asks and (tool.approval == "never" or (tool.approval == "once" and tool.name in self._allowed))


def _narrowed(tools: Sequence[Tool], row: WorkRow, limits: Limits) -> tuple[Tool, ...]:
    """Those of the tools that a task was given and may use now."""
    given = set(row.delegated.tools or ()) if row.delegated is not None else set()
    if row.depth >= limits.depth:
        given.discard(DELEGATE)
    return tuple(tool for tool in tools if tool.name in given and not tool.asks and tool.approval != "always")


def _ending_of(running: asyncio.Task[ToolResult]) -> Ending:
    """How a call that is done has ended."""
    if running.cancelled():
        return Ending("stopped", "it was cancelled, and has no result")
    error = running.exception()
    if error is None:
        result = running.result()
        return Ending("done", result.text, result.attachments)
    if isinstance(error, ToolError | MediaError | WorkError):
        return Ending("failed", str(error))
    if isinstance(error, TimeoutError):
        return Ending("failed", "its time was up, and it was ended")
    log.error("background work broke", exc_info=error)
    return Ending("failed", f"it broke: {type(error).__name__}: {error}")


def _result(ending: Ending) -> ToolResult:
    """A task's answer as its call's. Raises `WorkError` for one that came to nothing."""
    if ending.state == "done":
        return ToolResult(ending.text, ending.attachments)
    made = ", ".join(file.name for file in ending.attachments)
    how = "was stopped" if ending.state == "stopped" else "failed"
    raise WorkError(f"The delegated task {how}: {ending.text}" + (f"\n\nIt had made: {made}" if made else ""))


def _some(over: Finished | None) -> tuple[Finished, ...]:
    return () if over is None else (over,)
