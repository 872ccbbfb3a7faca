"""The turn's model for tool calls that ask it: so many times a call, and within the turn's limits of spending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import assert_never

from agent.agent import Agent
from agent.decisions.approvals import limit_extensions
from agent.events import Charged, Delta
from agent.gate import text
from agent.hook import Ask, Deny, End, ModelAnswer, ModelRequest, Respond, Ruled, Stop
from agent.log import SAMPLING, Entry, MessagesRead, Text
from agent.log_state import step_of
from agent.loop.call_costs import CallCosts
from agent.loop.streaming import EndTurn
from agent.model import Answer, ModelError, ModelSettings, Request
from agent.tool import AskModel, ToolError
from agent.transcript import SystemNote
from agent.turn_context import TurnContext

MAX_REQUESTS = 10
"""Requests of one call."""


class CallModel:
    def __init__(
        self,
        agent: Agent,
        turn_context: TurnContext,
        costs: CallCosts,
        entries: Sequence[Entry],
        end: Callable[[EndTurn], None],
    ) -> None:
        """`entries` is the turn's log, which grows meanwhile. `end` ends the turn after the call."""
        self._agent = agent
        self._turn_context = turn_context
        self._costs = costs
        self._entries = entries
        self._end = end

    @asynccontextmanager
    async def of_call(self, call_id: str, tool: str) -> AsyncIterator[AskModel]:
        """The call of the tool runs inside. Hooks see what it asks and what the model answers. What its requests may
        cost is reserved until then, because only the end of a call records in the log what it has cost."""
        budget, charge = self._turn_context.budget, self._costs.charge_for(call_id, SAMPLING)
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
                request, supplied = await self._reviewed_request(self._of_the_turn(request), tool)
                if supplied is not None:
                    return Answer((Text(supplied.text),))
                keys.append(f"{call_id}:{len(keys)}")
                limit = await budget.reserve_request(keys[-1], request, limit_extensions(self._entries))
                if limit is not None:
                    raise ToolError(f"The model is not asked: {limit}")
                try:
                    answer = await self._agent.model.answer(request, charge_attempts)
                except ModelError as error:
                    raise ToolError(f"The model did not answer: {error}") from error
                charge(answer.usage, answer.model)
                return await self._reviewed_answer(answer, tool)

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

    async def _reviewed_request(self, request: Request, tool: str) -> tuple[Request, Respond | None]:
        """The request as changed by hooks, and the answer of a hook in place of the model's. Raises `ToolError`."""
        hooks = self._agent.hooks
        if not hooks.active("before_model"):
            return request, None
        said = tuple(
            message.text for item in request.transcript if isinstance(item, MessagesRead) for message in item.messages
        )
        shown = ModelRequest(
            step_of(self._entries), said, request.instructions, (), request.model, request.settings, tool=tool
        )
        changed, ruled = await hooks.ask("before_model", self._turn_context.hook_context, shown)
        request = replace(
            request,
            instructions=text(changed.instructions),
            transcript=[*request.transcript, *(SystemNote(text(notice)) for notice in changed.notices)],
            model=changed.model,
            settings=changed.settings.over(request.settings),
        )
        return request, self._response(ruled)

    async def _reviewed_answer(self, answer: Answer, tool: str) -> Answer:
        """The answer as changed by hooks. Raises `ToolError`."""
        hooks = self._agent.hooks
        if not hooks.active("after_model"):
            return answer
        shown = ModelAnswer(step_of(self._entries), answer.text, answer.model, tool=tool)
        changed, ruled = await hooks.ask("after_model", self._turn_context.hook_context, shown)
        self._response(ruled)
        return answer if changed.text == answer.text else replace(answer, parts=(Text(changed.text),))

    def _response(self, ruled: Ruled | None) -> Respond | None:
        """Raises `ToolError` if a hook ends the turn: the call gets no answer."""
        if ruled is None:
            return None
        match ruled.ruling:
            case Respond() as response:
                return response
            case End() | Stop() as ruling:
                self._end(EndTurn(ruling, ruled.hook))
                raise ToolError("A hook has ended the task instead of asking the model.")
            case Ask() | Deny():
                raise ValueError(f"{ruled.ruling} is not a ruling on requests to the model")
            case _:
                assert_never(ruled.ruling)
