"""How much of the model's context window a conversation fills."""

from __future__ import annotations

from agent.loop.offered_tools import callable_tools, described_tools
from channels.address import Address, Sender
from channels.history import Context
from gateway.turns.agents import Agents, ModelChoices, next_choice
from gateway.turns.dispatcher import Dispatcher
from gateway.turns.history_cache import HistoryCache


class ContextUse:
    def __init__(
        self,
        store: ModelChoices,
        dispatcher: Dispatcher,
        histories: HistoryCache,
        agents: Agents,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._histories = histories
        self._agents = agents

    async def of(self, session: str, address: Address, sender: Sender | None = None) -> Context | None:
        """For the agent that this person has there; None for one that leaves its context to the provider."""
        choice = await next_choice(self._store, self._agents, session, address, sender)
        agent = self._agents.of(choice.agent, address)
        if agent.compactor is None:
            return None
        past = await self._histories.of(session)
        active = self._dispatcher.active(session)
        entries = active.turn.entries if active is not None and active.turn is not None else ()
        tools = described_tools(callable_tools(agent.tools, entries), past, entries)
        share = agent.compactor.share(
            past,
            entries,
            instructions=agent.instructions,
            tools=[tool.spec for tool in tools],
            model=choice.model,
        )
        return Context(share, agent.compactor.window(choice.model))
