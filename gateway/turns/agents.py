"""Agents by name: which one a turn has, by choice or by a route, and what each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from agent.agent import Agent
from channels.address import Address, Sender
from gateway.store.records import ModelChoice
from gateway.turns.roles import Role

MAIN = "main"
"""The name of the agent that answers where neither a route nor a choice says otherwise."""


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What people and other agents are told of an agent: what it is for. `turn_cost` limits each of its turns, in
    dollars; None: the limit of everybody."""

    description: str = ""
    turn_cost: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The agent of turns for which all conditions hold; None holds for all. Ids are the platform's."""

    agent: str
    channel: str | None = None
    chat: str | None = None
    thread: str | None = None
    person: str | None = None
    role: Role | None = None

    def holds(self, address: Address, sender: Sender | None, role: Callable[[], Role]) -> bool:
        """`sender` None: nobody is known to ask, so that no condition on a person holds."""
        return (
            self.channel in (None, address.channel)
            and self.chat in (None, address.chat)
            and self.thread in (None, address.thread)
            and (self.person is None or (sender is not None and _same_id(self.person, sender.id)))
            and (self.role is None or (sender is not None and self.role == role()))
        )


class Agents(Protocol):
    @property
    def named(self) -> Mapping[str, AgentInfo]:
        """All agents by name, `main` first."""

    def of(self, name: str, address: Address) -> Agent:
        """The agent of this name, as it is on that channel."""

    def default_model(self, name: str, channel: str) -> str:
        """The name of the model that the agent has there if people have chosen none; "" if it has no name."""

    def pick(self, chosen: str, address: Address, sender: Sender | None) -> str:
        """The name of the agent for a turn there that this person begins: the one that was chosen for the
        conversation ("": none), if there still is one of this name, else that of the first route that holds."""


class ModelChoices(Protocol):
    async def model_of(self, session: str) -> ModelChoice: ...


async def next_choice(
    store: ModelChoices, agents: Agents, session: str, address: Address, sender: Sender | None
) -> ModelChoice:
    """What is chosen for the session, with the agent that the next turn will have if this person begins it."""
    choice = await store.model_of(session)
    return replace(choice, agent=agents.pick(choice.agent, address, sender))


class ConfiguredAgents:
    """Implements `Agents`. Agents are built when they are first needed."""

    def __init__(
        self,
        named: Mapping[str, AgentInfo],
        routes: Sequence[Route],
        *,
        build: Callable[[str, str], Agent],
        default_model: Callable[[str, str], str],
        role_of: Callable[[str, Sender], Role],
    ) -> None:
        """`build` and `default_model` take the names of an agent and a channel, `role_of` a channel's name and one of
        its people."""
        self.named = {MAIN: AgentInfo(), **named}
        self._routes = routes
        self._build = build
        self._default_model = default_model
        self._role_of = role_of
        self._built: dict[tuple[str, str], Agent] = {}

    def of(self, name: str, address: Address) -> Agent:
        key = (name, address.channel)
        if key not in self._built:
            self._built[key] = self._build(*key)
        return self._built[key]

    def default_model(self, name: str, channel: str) -> str:
        return self._default_model(name, channel)

    def pick(self, chosen: str, address: Address, sender: Sender | None) -> str:
        if chosen in self.named:
            return chosen

        def role() -> Role:
            assert sender is not None
            return self._role_of(address.channel, sender)

        return next((route.agent for route in self._routes if route.holds(address, sender, role)), MAIN)


class CurrentAgents:
    """Implements `Agents` with those of the newest configuration."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def use(self, agents: Agents) -> None:
        """For all turns that begin from now on."""
        self._agents = agents

    @property
    def named(self) -> Mapping[str, AgentInfo]:
        return self._agents.named

    def of(self, name: str, address: Address) -> Agent:
        return self._agents.of(name, address)

    def default_model(self, name: str, channel: str) -> str:
        return self._agents.default_model(name, channel)

    def pick(self, chosen: str, address: Address, sender: Sender | None) -> str:
        return self._agents.pick(chosen, address, sender)


class OneAgent:
    """Implements `Agents` with one agent, which may differ between addresses."""

    named: Mapping[str, AgentInfo] = {MAIN: AgentInfo()}

    def __init__(self, agent_for: Callable[[Address], Agent]) -> None:
        self._agent_for = agent_for

    def of(self, name: str, address: Address) -> Agent:
        agent = self._agent_for(address)
        return agent if agent.name == MAIN else replace(agent, name=MAIN)

    def default_model(self, name: str, channel: str) -> str:
        return ""

    def pick(self, chosen: str, address: Address, sender: Sender | None) -> str:
        return MAIN


def _same_id(given: str, id: str) -> bool:
    return given.lower() == id.lower()
