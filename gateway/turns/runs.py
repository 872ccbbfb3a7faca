"""Run reports: the state of messages that expect their own answer, and the results that callers submit for external
tools. All is read from the store, so it survives restarts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from agent.decisions.external_tools import check_results, pending
from agent.log import Call, CallEnded, Entry
from agent.loop.streaming import EndTurn
from agent.loop.tool_review import ToolReview
from agent.media import FileTooLarge, MediaError, UnusableFile
from agent.skills.tool import NAME as SKILL
from agent.tool_result import SuppliedResult
from agent.tools.supplied_results import supplied_end
from agent.turn_context import TurnContext
from channels.address import Address
from channels.channel import NotStored
from channels.runs import CallResult, PendingCall, RunReport, RunState, UnknownRun, WrongResults
from gateway.bus import Bus
from gateway.store import records
from gateway.store.errors import StoreError
from gateway.turns.agents import Agents
from gateway.turns.environment import hook_context
from gateway.turns.run_waits import RunWaits

NOTHING_PENDING = "no call of this run is pending, or no longer"
TOO_LATE = "these calls are no longer pending"


class RunStore(Protocol):
    async def now(self) -> float: ...
    async def run(self, run_id: str) -> records.Run | None: ...
    async def turn(self, turn_id: str) -> records.Turn: ...
    async def parked_log(self, turn_id: str) -> tuple[Entry, ...]: ...
    async def supply(self, turn_id: str, results: Sequence[CallEnded], stop: str | None) -> str | None: ...


class RunReports:
    """Read from the store, so reports are the same after a restart."""

    def __init__(self, store: RunStore, bus: Bus, agents: Agents, waits: RunWaits) -> None:
        self._store = store
        self._waits = waits
        self._bus = bus
        self._agents = agents

    def tools(self, address: Address) -> frozenset[str]:
        """The names of the agent's own tools at the address, which a message cannot declare."""
        # The skills' tool is there whenever there are skills.
        agents = (self._agents.of(name, address) for name in self._agents.named)
        return frozenset({SKILL, *(tool.name for agent in agents for tool in agent.tools)})

    async def report(self, run_id: str) -> RunReport:
        """The run's current state. Raises `UnknownRun`."""
        return await self._report(await self._find(run_id))

    async def wait(self, run_id: str) -> RunReport:
        """Waits until the run is finished or calls of its turn are pending. Raises `UnknownRun`."""
        await self._find(run_id)
        while True:
            found = await self._waits.wait(run_id, lambda each: each.run.state not in ("waiting", "running"))
            report = await self.report(run_id)
            if report.finished or report.calls or found is None:
                return report
            await self._waits.wait(run_id, partial(_has_gone_on, found))

    async def calls(self, run: records.Run) -> tuple[PendingCall, ...]:
        """The calls whose results the turn that has read the message waits for."""
        return (await self._report(run)).calls

    async def submit_results(self, run_id: str, results: Sequence[CallResult]) -> None:
        """Stores the results, exactly one for each pending call, and resumes the turn.

        Raises `UnknownRun`, `WrongResults`, `agent.media.FileTooLarge`, and `channels.channel.NotStored` when they
        cannot be stored.
        """
        run = await self._find(run_id)
        if run.turn is None:
            raise WrongResults(NOTHING_PENDING)
        turn = await self._store.turn(run.turn)
        if wrong := check_results([result.call_id for result in results], turn.entries):
            raise WrongResults(wrong)
        if not results:
            raise WrongResults(NOTHING_PENDING)
        calls = {call.id: call for call in pending(turn.entries)}
        reviewed = [await self._review(turn, calls[each.call_id], each) for each in results]
        stop = next((str(ending) for _, ending in reviewed if ending is not None), None)
        try:
            session = await self._store.supply(turn.id, [end for end, _ in reviewed], stop)
        except StoreError as error:
            raise NotStored(f"The gateway cannot store results at the moment: {error}") from error
        if session is None:
            raise WrongResults(TOO_LATE)
        self._bus.wake(session, "queue")

    async def _review(self, turn: records.Turn, call: Call, given: CallResult) -> tuple[CallEnded, EndTurn | None]:
        """The result as one of the gateway's own tools gets it; and why the turn has to end, if a hook ends it."""
        name = self._agents.pick(turn.agent, turn.address, turn.principal)
        agent = self._agents.of(name, turn.address)
        review = ToolReview(agent, TurnContext(hook_context(turn, name)), turn.entries, self._store.now)
        try:
            end = await supplied_end(call.id, _supplied(given), agent.media, agent.mask)
            return await review.finish_result(call.name, end), review.end_turn
        except UnusableFile as error:
            raise WrongResults(f"the result of {call.id} cannot be used: {error}") from error
        except FileTooLarge:
            raise
        except MediaError as error:
            raise NotStored(f"The gateway cannot store files at the moment: {error}") from error

    async def _find(self, run_id: str) -> records.Run:
        run = await self._store.run(run_id)
        if run is None:
            raise UnknownRun
        return run

    async def _report(self, run: records.Run) -> RunReport:
        """Calls are pending once their turn is parked: results for them can be stored from then on."""
        entries = () if run.turn is None else await self._store.parked_log(run.turn)
        calls = tuple(PendingCall(call.id, call.name, json.loads(call.arguments)) for call in pending(entries))
        # The turn may have been parked since the run was read.
        state: RunState = "parked" if calls and run.state == "running" else run.state
        return RunReport(run.run_id, state, run.turn, run.step, run.reason, run.is_over, calls)


def _has_gone_on(since: records.FollowedRun, now: records.FollowedRun) -> bool:
    return (now.claims, now.state) != (since.claims, since.state)


def _supplied(result: CallResult) -> SuppliedResult:
    return SuppliedResult(
        result.text,
        result.files,
        result.images,
        result.caption,
        result.for_user,
        result.final,
        result.silent,
        result.failed,
    )
