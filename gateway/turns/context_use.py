"""How much of the model's context window a conversation fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from agent.agent import Agent
from agent.loop.offered_tools import callable_tools, described_tools
from channels.address import Address
from channels.history import Context
from gateway.store.records import ModelChoice
from gateway.turns.dispatcher import Dispatcher
from gateway.turns.history_cache import HistoryCache


class ModelChoices(Protocol):
    async def model_of(self, session: str) -> ModelChoice: ...


class ContextUse:
    def __init__(
        self,
        store: ModelChoices,
        dispatcher: Dispatcher,
        histories: HistoryCache,
        agent_for: Callable[[Address], Agent],
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._histories = histories
        self._agent_for = agent_for

    async def of(self, session: str, address: Address) -> Context | None:
        """None for an agent that leaves its context to the provider."""
        agent = self._agent_for(address)
        if agent.compactor is None:
            return None
        model = (await self._store.model_of(session)).model
        past = await self._histories.of(session)
        active = self._dispatcher.active(session)
        entries = active.turn.entries if active is not None and active.turn is not None else ()
        tools = described_tools(callable_tools(agent.tools, entries), past, entries)
        share = agent.compactor.share(
            past,
            entries,
            instructions=agent.instructions,
            tools=[tool.spec for tool in tools],
            model=model,
        )
        return Context(share, agent.compactor.window(model))
