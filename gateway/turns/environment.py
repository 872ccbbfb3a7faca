"""The environment of turns: what each is given at its start, and what follows its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from agent.agent import Agent
from agent.context.context_files import with_texts
from agent.context.date import date_line
from agent.context.notes import as_instructions
from agent.hook import HookContext
from agent.log import Entry
from agent.toolset import Combined, ForPerson
from agent.turn_context import TurnContext
from gateway.sessions import is_child
from gateway.store import records
from gateway.turns.agent_files import AgentFiles
from gateway.turns.agents import Agents
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import Budgets, person_on
from gateway.turns.memory import Memories
from gateway.turns.roles import Roles
from gateway.turns.schedules import ScheduledTasks
from gateway.turns.titles import Titles
from gateway.turns.topics import Topics
from gateway.turns.workspaces import Workspaces

MEMORY = "memory"
"""The tool that takes notes."""

PrepareServers = Callable[[str, Callable[[str], bool]], Awaitable[None]]


class TurnEnvironment:
    """Implements `gateway.turns.dispatcher.Environment`."""

    def __init__(
        self,
        agents: Agents,
        workspaces: Workspaces | None,
        budgets: Budgets,
        background: BackgroundWork,
        titles: Titles,
        roles: Callable[[], Roles],
        files: AgentFiles,
        topics: Topics,
        schedules: ScheduledTasks,
        memories: Memories,
        prepare_servers: PrepareServers,
    ) -> None:
        """Without `workspaces` every turn works in the agent's own. `roles` gives those of the newest configuration.
        `prepare_servers` makes ready those of a person's own ("channel:id") MCP servers that are needed."""
        self._agents = agents
        self._workspaces = workspaces
        self._budgets = budgets
        self._background = background
        self._titles = titles
        self._roles = roles
        self._files = files
        self._topics = topics
        self._schedules = schedules
        self._memories = memories
        self._prepare_servers = prepare_servers

    async def prepare(self, record: records.Turn) -> tuple[Agent, TurnContext]:
        """The turn's agent and its context: what the person may have it do who began it."""
        level, address, roles = record.principal.level, record.address, self._roles()
        task = await self._background.task(record)
        name = self._agents.pick(task.agent if task else record.agent, address, record.principal)
        default_model = self._agents.default_model(name, address.channel)
        turn_cost = task.turn_cost if task else self._agents.named[name].turn_cost
        context = TurnContext(
            hook_context(record, name),
            record.allowed,
            record.model,
            record.reasoning,
            unattended=record.kind == "aside" or is_child(record.session),
            in_group=address.kind == "group",
            budget=self._budgets.of(record, roles.daily_cost(level), turn_cost, default_model),
            schedules=self._schedules.of_turn(record),
            memory=self._memories.of_turn(record),
        )
        agent = self._agents.of(name, address)
        if self._workspaces is not None:
            agent = replace(agent, workspace=await self._workspaces.of(record, name))
            context = replace(context, workspace=await self._workspaces.open(record, agent.workspace))
        person = person_on(address, record.principal)
        others = {other: self._agents.of(other, address) for other in agent.delegates}
        servers = {server for each in (agent, *others.values()) for server in each.servers}
        await self._prepare_servers(person, lambda server: server in servers and roles.may_use_server(level, server))
        agent = replace(agent, tools=roles.toolset(level, ForPerson(agent.tools, person)))
        agent, skills = await self._files.with_skills(agent, allowed=partial(roles.toolset, level))
        delegates = {
            other: roles.toolset(level, ForPerson(Combined(self._files.offered, its.tools), person))
            for other, its in others.items()
        }
        agent, context = self._background.prepare(record, task, agent, context, delegates, turn_cost)
        texts = [
            date_line(record.started_at),
            *await self._files.texts(agent, skills),
            await self._topics.of(address),
            await self._remembered(agent, context),
        ]
        agent = replace(agent, instructions=with_texts(agent.instructions, texts))
        # A delegated task may ask for a model of its own.
        model = roles.model(level, context.model, default_model)
        return agent, replace(context, model=model)

    async def _remembered(self, agent: Agent, context: TurnContext) -> str:
        """The notes, for an agent that can take some."""
        if not any(tool.name == MEMORY for tool in agent.tools):
            return ""
        return as_instructions(await context.memory.notes(), in_group=context.in_group)

    async def ended(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        self._titles.ended(record, entries)
        await self._background.ended(record)


def hook_context(record: records.Turn, agent: str) -> HookContext:
    """The turn's place, person and agent, for hooks."""
    principal = record.principal
    return HookContext(record.session, record.address.channel, record.id, principal.name, principal.id, agent)
