"""How much of the model's context window a conversation fills."""

from __future__ import annotations

from agent.loop.offered_tools import callable_tools, described_tools
from channels.address import Address, Sender
from channels.context import Context
from gateway.turns.agents import Agents, ModelChoices, next_choice
from gateway.turns.history_cache import HistoryCache
from gateway.turns.running import RunningTurns


class ContextUse:
    def __init__(
        self,
        store: ModelChoices,
        running: RunningTurns,
        histories: HistoryCache,
        agents: Agents,
    ) -> None:
        self._store = store
        self._running = running
        self._histories = histories
        self._agents = agents

    async def of(self, session: str, address: Address, sender: Sender | None = None) -> Context | None:
        """For the agent that this person has there; None for one that leaves its context to the provider."""
        choice = await next_choice(self._store, self._agents, session, address, sender)
        agent = self._agents.of(choice.agent, address)
        if agent.compactor is None:
            return None
        past = await self._histories.of(session)
        running = await self._running.of(session)
        entries = () if running is None else running.entries
        tools = described_tools(callable_tools(agent.tools, entries), past, entries)
        share = agent.compactor.share(
            past,
            entries,
            instructions=agent.instructions,
            tools=[tool.spec for tool in tools],
            model=choice.model,
        )
        return Context(share, agent.compactor.window(choice.model))
