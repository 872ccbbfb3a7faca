"""Settings of agents by name, and of routes, which say which of them answers where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from config.channels import User
from config.errors import Fault
from config.models import ModelName, ModelParameters, RealModelName
from config.section import PathText, Positive, Section, wrong

DEFAULT_AGENT = "main"
"""The name of the agent of [agent]."""

NO_CHOICE = "default"
"""What `/agent` takes for "as the routes say", so that no agent has this name."""


def _agent_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text):
        raise wrong('expected a name of up to 32 lower-case letters, digits, "-" and "_"')
    return text


AgentName = Annotated[str, AfterValidator(_agent_name)]

Pattern = Annotated[str, Field(min_length=1, max_length=64)]
"""A name, or a pattern of names: `github_*`."""

AgentTools = Annotated[
    list[Pattern] | None,
    Field(
        description="Its tools, by name or pattern, of those that are enabled or configured. Default: all of them.",
        examples=[["*_file", "fetch_url", "github_*"]],
    ),
]
AgentServers = Annotated[
    list[Pattern] | None,
    Field(description="Its MCP servers, by name or pattern. Default: all of them.", examples=[["github"]]),
]
AgentSkills = Annotated[
    list[Pattern] | None,
    Field(description="Its skills, by name or pattern. Default: all of them.", examples=[["release-*"]]),
]


class AgentSection(ModelParameters):
    """What the sections of all agents have in common."""

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """The parameters of its models last."""
        return dict(sorted(cls.model_fields.items(), key=lambda field: field[0] in ModelParameters.model_fields))

    @field_validator("instructions_file", check_fields=False)
    @classmethod
    def _one_source_of_instructions(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is not None and info.data.get("instructions") is not None:
            raise wrong("cannot be combined with instructions. Keep one of the two")
        return file


class NamedAgentSettings(AgentSection):
    """An agent of your own, beside the one of [agent]: what it leaves out is as there. Routes, `/agent` and `delegate`
    lead to it."""

    description: str = Field(
        default="",
        max_length=500,
        description="What it is for, in a line: for people who choose an agent, and for agents that delegate.",
        examples=["Finds and compares sources."],
    )
    model: ModelName | None = Field(
        default=None, description="The model. Default: that of the channel or of [agent].", examples=["openai:gpt-5"]
    )
    fallback: list[RealModelName] | None = Field(
        default=None,
        description="Fallback models, in this order. Default: those of [agent].",
        examples=[["anthropic:claude-sonnet-5"]],
    )
    instructions: str | None = Field(
        default=None,
        description="System prompt: its task and style. Default: that of the channel or of [agent].",
        examples=["You find sources, compare them and quote them."],
    )
    instructions_file: PathText | None = Field(
        default=None,
        description="Text file with the system prompt, instead of `instructions`.",
        examples=["research.md"],
    )
    tools: AgentTools = None
    mcp: AgentServers = None
    skills: AgentSkills = None
    workspace: PathText | None = Field(
        default=None,
        description="Directory of its workspaces, apart from those of other agents. Default: that of [agent], shared "
        "with the other agents of the same conversation.",
        examples=["research"],
    )
    max_steps: int | None = Field(
        default=None,
        ge=1,
        description="Maximum number of model calls in one turn. Default: that of [agent].",
        examples=[20],
    )
    turn_cost: Positive | None = Field(
        default=None,
        description="Maximum cost of one of its turns in dollars, instead of [limits] turn_cost.",
        examples=[0.5],
    )
    delegates: list[AgentName] = Field(
        default_factory=list,
        description="Other agents that it may give tasks to with the tool `delegate`. They work with their own tools.",
        examples=[["main"]],
    )


class RouteSettings(Section):
    """Which agent answers where. The first route whose conditions all hold counts; without one, the agent of [agent]
    answers. There may be any number of routes."""

    agent: str = Field(
        description=f'The agent: a name of [agents], or "{DEFAULT_AGENT}", the one of [agent].', examples=["research"]
    )
    channel: str | None = Field(
        default=None, description="A channel, by its name in these settings.", examples=["slack"]
    )
    chat: User | None = Field(
        default=None, description="The platform's id of a chat, group or channel.", examples=["C012AB3CD"]
    )
    thread: User | None = Field(
        default=None, description="The platform's id of a thread or topic in that chat.", examples=["1700000000.000100"]
    )
    person: User | None = Field(
        default=None, description="The platform's id of the person who begins the task.", examples=["U012AB3CD"]
    )
    role: Literal["admin", "member", "guest"] | None = Field(
        default=None, description="The role of the person who begins the task.", examples=["guest"]
    )

    @property
    def conditions(self) -> Mapping[str, str]:
        given = {name: getattr(self, name) for name in ("channel", "chat", "thread", "person", "role")}
        return {name: value for name, value in given.items() if value is not None}


def faults_of_agents(
    agents: Mapping[str, NamedAgentSettings], delegates: list[str], routes: list[RouteSettings], channels: set[str]
) -> Iterator[Fault]:
    """A fault for each name that means nothing; `delegates` are those of [agent], `channels` the names of all."""
    known = {*agents, DEFAULT_AGENT}
    if DEFAULT_AGENT in agents:
        yield Fault(("agents", DEFAULT_AGENT), f"{DEFAULT_AGENT} is the agent of [agent]. Choose another name")
    if NO_CHOICE in agents:
        yield Fault(("agents", NO_CHOICE), f"`/agent {NO_CHOICE}` undoes a choice. Choose another name")
    for at, given in ((("agent",), delegates), *((("agents", name), agents[name].delegates) for name in agents)):
        for index, name in enumerate(given):
            if name not in known:
                yield Fault((*at, "delegates", index), f"there is no agent of this name in [agents]: {_listed(known)}")
    for index, route in enumerate(routes):
        if route.agent not in known:
            yield Fault(("routes", index, "agent"), f"there is no agent of this name: {_listed(known)}")
        if route.channel is not None and route.channel not in channels:
            yield Fault(("routes", index, "channel"), f"there is no channel of this name: {_listed(channels)}")
        if route.thread is not None and route.chat is None:
            yield Fault(("routes", index, "thread"), "needs chat, the chat that the thread is in")
        if route.person is not None and route.person.startswith("@"):
            yield Fault(("routes", index, "person"), "expected the platform's id of the person: names can change")
        if not route.conditions:
            yield Fault(("routes", index), "needs a condition: channel, chat, thread, person or role")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
