"""The turn's model for tool calls that ask it: so many times a call, and within the turn's limits of spending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from agent.agent import Agent
from agent.decisions.approvals import limit_extensions
from agent.events import Charged, Delta
from agent.log import Entry
from agent.loop.call_costs import CallCosts
from agent.model import Answer, ModelError, ModelSettings, Request
from agent.tool import AskModel, ToolError
from agent.turn_context import TurnContext

MAX_REQUESTS = 10
"""Requests of one call."""


class CallModel:
    def __init__(self, agent: Agent, turn_context: TurnContext, costs: CallCosts, entries: Sequence[Entry]) -> None:
        """`entries` is the turn's log, which grows meanwhile."""
        self._agent = agent
        self._turn_context = turn_context
        self._costs = costs
        self._entries = entries

    @asynccontextmanager
    async def of_call(self, call_id: str) -> AsyncIterator[AskModel]:
        """The call runs inside. What its requests may cost is reserved until then, because only the end of a call
        records in the log what it has cost."""
        budget, charge = self._turn_context.budget, self._costs.charge_for(call_id)
        lock, keys, ended = asyncio.Lock(), list[str](), False

        async def charge_attempts(delta: Delta) -> None:
            if isinstance(delta, Charged):
                charge(delta.usage, delta.model)

        async def ask(request: Request) -> Answer:
            async with lock:
                if ended:
                    raise ToolError("The call has ended.")
                if len(keys) == MAX_REQUESTS:
                    raise ToolError(f"A call may ask the model {MAX_REQUESTS} times.")
                request = self._of_the_turn(request)
                keys.append(f"{call_id}:{len(keys)}")
                limit = await budget.reserve_request(keys[-1], request, limit_extensions(self._entries))
                if limit is not None:
                    raise ToolError(f"The model is not asked: {limit}")
                try:
                    answer = await self._agent.model.answer(request, charge_attempts)
                except ModelError as error:
                    raise ToolError(f"The model did not answer: {error}") from error
                charge(answer.usage, answer.model)
                return answer

        try:
            yield ask
        finally:
            ended = True
            for key in keys:
                budget.release_call(key)

    def _of_the_turn(self, request: Request) -> Request:
        """The request to the model that people have chosen for the turn, or to its default."""
        own = ModelSettings(reasoning=self._turn_context.reasoning)
        return replace(request, model=self._turn_context.model, settings=request.settings.over(own))
