"""Background work of conversations: tool calls that outlive their turn, and delegated tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from agent.agent import Agent
from agent.background import BackgroundError, BackgroundItem, DelegatedTask, no_costs, no_output
from agent.interrupt import shielded
from agent.log import Spent
from agent.tool import Tool
from agent.tool_result import ToolResult
from agent.toolset import Filtered, Toolset
from agent.turn_context import TurnContext
from gateway.bus import Bus
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.sessions import is_child
from gateway.store import background_rows, records
from gateway.store.background import DEFAULT_LIMITS, Limits
from gateway.store.records import BackgroundResult, BackgroundRow
from gateway.store.scope import Apart, OfSession
from gateway.turns.background_calls import BackgroundCalls, SaveFiles, nothing_to_save
from gateway.turns.background_records import BackgroundRecords, BackgroundStore
from gateway.turns.budgets import person_on
from gateway.turns.delegation import DelegatedTasks

DELEGATE = "delegate"
"""The tool that tasks at the greatest depth do not get."""

STOPPED = BackgroundResult("stopped", "on request")


@dataclass(frozen=True, slots=True)
class Task:
    """A delegated task, `depth` levels below the conversation."""

    delegated: DelegatedTask
    depth: int

    @property
    def agent(self) -> str:
        return self.delegated.agent

    @property
    def turn_cost(self) -> float | None:
        return self.delegated.turn_cost


class BackgroundWork:
    """Use as `async with`, inside the dispatcher's, which runs the turns of tasks. Leaving it cancels the background
    calls, which the next process reports as lost; it resumes the tasks.
    """

    def __init__(
        self,
        store: BackgroundStore,
        bus: Bus,
        limits: Limits = DEFAULT_LIMITS,
        *,
        poll_seconds: float = 2.0,
        save_files: SaveFiles = nothing_to_save,
    ) -> None:
        """Turns that wait for a task show its status, read every `poll_seconds`."""
        self._limits = limits
        self._tasks = BackgroundTasks("following background work failed; it is resumed at the next start")
        self._stored = BackgroundRecords(store, bus)
        self._calls = BackgroundCalls(self._stored, self._tasks, limits, save_files)
        self._delegated = DelegatedTasks(self._stored, bus, self._tasks, limits, poll_seconds)

    async def __aenter__(self) -> BackgroundWork:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)
        await self._calls.aclose()

    def use(self, limits: Limits) -> None:
        """For all work that begins from now on."""
        self._limits = self._calls.limits = self._delegated.limits = limits

    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        return self._tasks.running

    # For the dispatcher

    async def task(self, record: records.Turn) -> Task | None:
        """The delegated task that the turn works on, if it does."""
        if not is_child(record.session):
            return None
        row = await self._stored.write(
            lambda connection: background_rows.task_of(connection, record.session), OfSession(record.session)
        )
        return None if row is None or row.delegated is None else Task(row.delegated, row.depth)

    def prepare(
        self,
        record: records.Turn,
        task: Task | None,
        agent: Agent,
        context: TurnContext,
        delegates: Mapping[str, Toolset],
        turn_cost: float | None,
    ) -> tuple[Agent, TurnContext]:
        """The turn's agent and context, with its background work. A task has no more rights than it was given.

        `delegates` are the other agents that it may delegate to, with their tools for this person; `turn_cost` is what
        the turn may cost, None for the limit of everybody.
        """
        if task is not None:
            agent = replace(agent, tools=_narrowed(agent.tools, task, self._limits))
            # The task got the conversation's permissions together with its tools.
            allowed = frozenset(tool.name for tool in agent.tools if tool.approval == "once")
            context = replace(context, model=task.delegated.model or context.model, allowed=allowed)
        background = TurnBackground(self, record, agent, context, delegates, turn_cost)
        return agent, replace(context, background=background)

    async def ended(self, record: records.Turn) -> None:
        """The turn's end is stored."""
        await self._delegated.turn_ended(record)

    async def resume(self, left: Collection[int], awaiting: Iterable[tuple[str, bool]]) -> None:
        """Resumes the tasks among what another worker has left; its calls are lost. `awaiting` are the turns that
        waited for tasks, and whether they still do. Turns may run already."""
        for row_id in left:
            row = await self._stored.write_until_stored(
                partial(background_rows.by_id, row_id=row_id), Apart("background")
            )
            if row.kind == "call":
                await self._calls.lost(row)
            else:
                await self._delegated.resume(row)
        await self._delegated.resume_waiting(awaiting)

    # For people and turns. All raise `StoreError`.

    async def items(self, session: str) -> tuple[BackgroundItem, ...]:
        return tuple([await self._item(row) for row in await self._stored.listed(session)])

    async def stop(self, session: str, handle: str) -> bool:
        row = await self._stored.by_handle(session, handle)
        return row is not None and await self._stored.stop(row, STOPPED, notify=False)

    async def stop_all(self, session: str, person: str | None = None) -> tuple[BackgroundItem, ...]:
        """Stops all background work of the conversation, or only a person's ("channel:id"); what that was."""
        running = [row for row in await self._stored.listed(session) if row.state == "running"]
        if person is not None:
            running = [row for row in running if person_on(row.address, row.principal) == person]
        stopped = [row for row in running if await self._stored.stop(row, STOPPED, notify=False)]
        return tuple(BackgroundItem(row.handle, row.title, "stopped") for row in stopped)

    async def follow_stops(self) -> None:
        """Ends here what was stopped in the database only: `interject access revoke` does that."""
        running = self._calls.running() | self._delegated.running()
        if running:
            await self._stored.follow_stops(running)

    async def steer(self, session: str, handle: str, text: str) -> bool:
        row = await self._stored.by_handle(session, handle)
        return row is not None and await self._delegated.steer(row, text)

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
        if self._tasks.closing:
            raise BackgroundError("the gateway is shutting down")
        row = self._delegated.awaited_by(running)
        if row is not None:
            return await shielded(self._delegated.detach(row, running))
        return await self._calls.adopt(record, title, running, shown, costs, mask, workspace)

    async def delegate(
        self, record: records.Turn, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        return await self._delegated.delegate(record, call_id, delegated, progress)

    async def start(self, record: records.Turn, call_id: str, delegated: DelegatedTask) -> str:
        return await self._delegated.start(record, call_id, delegated)

    async def _item(self, row: BackgroundRow) -> BackgroundItem:
        shown = row.shown
        if row.state == "running":
            shown = self._calls.shown(row) if row.child is None else await self._delegated.status(row)
        return BackgroundItem(row.handle, row.title, row.state, shown)


class TurnBackground:
    """Implements `agent.background.Background` for one turn."""

    def __init__(
        self,
        work: BackgroundWork,
        record: records.Turn,
        agent: Agent,
        context: TurnContext,
        delegates: Mapping[str, Toolset],
        turn_cost: float | None,
    ) -> None:
        """`delegates` and `turn_cost`: see `BackgroundWork.prepare`."""
        self._work = work
        self._record = record
        self._agent = agent.name
        self._delegates = {name: toolset for name, toolset in delegates.items() if name != agent.name}
        self._turn_cost = turn_cost
        self._tools = agent.tools
        self._mask = agent.mask
        self._workspace = agent.workspace
        self._model = context.model
        self._allowed = context.allowed

    async def adopt(
        self,
        title: str,
        running: asyncio.Task[ToolResult],
        shown: Callable[[], str] = no_output,
        costs: Callable[[], tuple[Spent, ...]] = no_costs,
    ) -> str:
        return await self._work.adopt(
            self._record, self._mask(title), running, shown, costs, self._mask, self._workspace
        )

    async def delegate(
        self, call_id: str, delegated: DelegatedTask, progress: Callable[[str], Awaitable[None]]
    ) -> ToolResult:
        return await self._work.delegate(self._record, call_id, self._narrow(delegated), progress)

    async def start(self, call_id: str, delegated: DelegatedTask) -> str:
        return await self._work.start(self._record, call_id, self._narrow(delegated))

    async def items(self) -> tuple[BackgroundItem, ...]:
        return await self._work.items(self._record.session)

    async def stop(self, handle: str) -> bool:
        return await self._work.stop(self._record.session, handle)

    async def steer(self, handle: str, words: str) -> bool:
        return await self._work.steer(self._record.session, handle, words)

    def _narrow(self, delegated: DelegatedTask) -> DelegatedTask:
        """The task with its agent, its tools and its model named. It is unattended, so it gets no tool that needs
        approval."""
        name = delegated.agent or self._agent
        tools = self._tools if name == self._agent else self._delegates.get(name)
        if tools is None:
            raise BackgroundError(
                f"You cannot delegate to {name!r}. The agents that you can delegate to are: "
                f"{', '.join(self._delegates) or 'none'}."
            )
        # The model was chosen for the agent of the conversation.
        model = delegated.model or (self._model if name == self._agent else "")
        delegated = replace(delegated, agent=name, model=model, turn_cost=self._turn_cost)
        available = [tool.name for tool in tools if self._may_delegate(tool)]
        if delegated.tools is None:
            return replace(delegated, tools=tuple(available))
        missing = [name for name in delegated.tools if name not in available]
        if missing:
            raise BackgroundError(
                f"A task cannot be given {', '.join(map(repr, missing))}. "
                f"The tools that it can be given are: {', '.join(available) or 'none'}."
            )
        return delegated

    def _may_delegate(self, tool: Tool) -> bool:
        return not tool.asks and (tool.approval == "never" or (tool.approval == "once" and tool.name in self._allowed))


def _narrowed(tools: Toolset, task: Task, limits: Limits) -> Toolset:
    """The tools that a task was given and may use now."""
    given = set(task.delegated.tools or ())
    if task.depth >= limits.depth:
        given.discard(DELEGATE)
    return Filtered(tools, lambda tool: tool.name in given and not tool.asks and tool.approval != "always")
