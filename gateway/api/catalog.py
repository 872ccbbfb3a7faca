"""What agents work with: agents, models, tools, MCP servers, skills."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from agent.tool import Approval, Effect
from channels.address import Address
from gateway.api.caller import Operator, Reader
from gateway.api.problems import Problem
from gateway.app import Gateway
from gateway.turns.agents import MAIN

_HERE = Address("web", "", "")
"""For agents as they are where no channel says otherwise."""


class Agent(BaseModel):
    """`model` is the default one, "" if it has no name. `turn_cost` limits each turn, in dollars; null: the limit of
    everybody."""

    name: str
    description: str
    model: str
    turn_cost: float | None


class Agents(BaseModel):
    """`main` first: the one that answers where nothing else is said."""

    agents: list[Agent]


class Model(BaseModel):
    """`agents` have it as their default model."""

    name: str
    agents: list[str]


class Models(BaseModel):
    models: list[Model]


class Tool(BaseModel):
    """`effect`: what a call can change; `approval`: when people are asked before."""

    name: str
    description: str
    effect: Effect
    approval: Approval


class Tools(BaseModel):
    agent: str
    tools: list[Tool]


class McpServer(BaseModel):
    """`personal`: each person has an account of their own there. `problems` say what is wrong."""

    name: str
    state: Literal["starting", "running", "down", "signed_out", "personal"]
    tools: int
    problems: list[str]


class McpServers(BaseModel):
    servers: list[McpServer]


class Skill(BaseModel):
    name: str
    description: str


class Skills(BaseModel):
    """`invalid` says why files are no skills."""

    skills: list[Skill]
    invalid: list[str]


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter(tags=["agents and tools"])

    @routes.get("/agents")
    async def agents(caller: Reader) -> Agents:
        """Those that the caller may use."""
        named = {name: info for name, info in gateway.agents.named.items() if caller.may_use(name)}
        return Agents(
            agents=[
                Agent(
                    name=name,
                    description=info.description,
                    model=gateway.agents.default_model(name, _HERE.channel),
                    turn_cost=info.turn_cost,
                )
                for name, info in named.items()
            ]
        )

    @routes.get("/models")
    async def models(caller: Reader) -> Models:
        """Those that a conversation may choose."""
        of = {name: gateway.agents.default_model(name, _HERE.channel) for name in gateway.agents.named}
        return Models(
            models=[
                Model(name=name, agents=[agent for agent, model in of.items() if model == name])
                for name in gateway.models
            ]
        )

    @routes.get("/tools")
    async def tools(caller: Reader, agent: Annotated[str, Query(max_length=100)] = MAIN) -> Tools:
        """The tools of an agent, without those that only some people have."""
        if agent not in gateway.agents.named or not caller.may_use(agent):
            raise Problem(404, "agent_not_found", "There is no agent of this name.")
        # An agent is built when it is first needed.
        found = await asyncio.to_thread(lambda: list(gateway.agents.of(agent, _HERE).tools))
        return Tools(
            agent=agent,
            tools=[
                Tool(name=each.name, description=each.description, effect=each.effect, approval=each.approval)
                for each in found
            ],
        )

    @routes.get("/mcp-servers")
    async def mcp_servers(caller: Operator) -> McpServers:
        """Every MCP server, and whether it runs."""
        shared = {server.name: server.status for server in gateway.mcp.shared}
        servers = [
            McpServer(
                name=name,
                state=status.state,
                tools=status.tools,
                problems=[gateway.mask(each) for each in (status.reason, *status.problems) if each],
            )
            for name, status in shared.items()
        ]
        own = [name for name in gateway.mcp.toolsets if name not in shared]
        servers += [McpServer(name=name, state="personal", tools=0, problems=[]) for name in own]
        return McpServers(servers=servers)

    @routes.get("/skills")
    async def skills(caller: Reader) -> Skills:
        """The operator's skills. What is wrong with others is told to operators only."""
        found = await gateway.files.skills()
        return Skills(
            skills=[Skill(name=each.skill.name, description=each.skill.description) for each in found.found],
            invalid=[gateway.mask(each.short) for each in found.invalid] if caller.may("operate") else [],
        )

    return routes
