"""Agents from settings: that of [agent] and those by name, with their models, tools and instructions; routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from agent.agent import Agent
from agent.hook import Hooks
from agent.masking import Mask
from agent.media import MediaStore
from agent.model import Model
from agent.models.chain import model_chain
from agent.models.fallback import CoolDowns
from agent.tool import Tool
from agent.toolset import Changed, Combined, Filtered, Toolset, matches, may_match
from channels.address import Address
from config.agents import NamedAgentSettings
from config.settings import AgentSettings, Settings
from gateway.assembly.context import ContextManagers, context_options
from gateway.assembly.models import default_model, default_parameters, sees_pictures
from gateway.assembly.shell_policy import ShellPolicy
from gateway.assembly.tools import built_in_tools, with_rules
from gateway.inbound.access import AccessPolicy
from gateway.turns.agents import AgentInfo, Agents, ConfiguredAgents, Route

INSTRUCTIONS = """\
You are Interject, an assistant that people talk to in a chat. Answer in their language, plainly and briefly, in
Markdown. People may write to you while you work, and their new message reaches you at once: follow it, and say
truthfully what was done and what was not. Results that begin with "Skipped:" or "Cancelled:" tell you what did not
happen. Pictures and files that your tools make are delivered to the person by themselves; do not repeat their names
or paths."""

DELEGATES = "\n\nYou can give tasks to these agents, by the argument agent of the tool delegate:\n"


@dataclass(frozen=True)
class Parts:
    """What agents are made of. `configured` are the tools that need settings, by name; `own` those of the operator;
    `servers` those of each MCP server, by the server's name; `contexts` creates their context managers."""

    settings: Settings
    models: Mapping[str, Model]
    media: MediaStore
    hooks: Hooks
    mask: Mask
    shell_policy: ShellPolicy
    configured: Mapping[str, Tool]
    own: Toolset
    servers: Mapping[str, Toolset]
    contexts: ContextManagers

    @cached_property
    def cool_downs(self) -> CoolDowns:
        return CoolDowns()

    @cached_property
    def seeing(self) -> frozenset[str]:
        """The models that are known to see pictures."""
        return frozenset(name for name in self.models if sees_pictures(self.settings, name))

    @cached_property
    def built_in(self) -> tuple[Tool, ...]:
        return built_in_tools(self.settings, self.configured)

    @cached_property
    def with_own_rules(self) -> Toolset:
        """The operator's own tools, by the rules of their sections."""
        return Changed(self.own, partial(with_rules, self.settings))


def configured_agents(parts: Parts, access: AccessPolicy) -> Agents:
    """The agents of the settings; each is built on first use."""
    return named_agents(parts.settings, access, partial(_agent, parts))


def named_agents(settings: Settings, access: AccessPolicy, build: Callable[[str, str], Agent]) -> Agents:
    """Which agent answers where; `build` makes the one of a name on a channel."""
    return ConfiguredAgents(
        {name: AgentInfo(named.description, named.turn_cost) for name, named in settings.agents.items()},
        [Route(each.agent, each.channel, each.chat, each.thread, each.person, each.role) for each in settings.routes],
        build=build,
        default_model=lambda name, channel: default_model(settings, channel, name),
        role_of=access.role_of,
    )


def build_agents(settings: Settings, agents: Agents) -> None:
    """Builds the agents that channels have by default, which their first messages would do otherwise."""
    names = [*settings.channels, "web"] if settings.web.enabled else list(settings.channels)
    for name in names:
        address = Address(name, "", "", kind="direct")
        agents.of(agents.pick("", address, None), address)


def _agent(parts: Parts, name: str, channel: str) -> Agent:
    """The agent of this name as it is on a channel, which may have a model and instructions of its own."""
    settings, given = parts.settings, parts.settings.agent
    own = settings.agents.get(name)
    default = default_model(settings, channel, name)
    fallback = given.fallback if own is None or own.fallback is None else own.fallback
    summariser = model_chain([given.small_model or default], parts.models, parts.cool_downs, mask=parts.mask)
    skills = (own or given).skills
    return Agent(
        model_chain(
            tuple(dict.fromkeys([default, *fallback])),
            parts.models,
            parts.cool_downs,
            mask=parts.mask,
            small=(given.small_model or "") if given.routing else "",
            vision=given.vision_model or "",
            see=parts.seeing,
            settings=default_parameters(settings, channel, name),
            outage_patience=given.outage_patience,
        ),
        parts.media,
        (own and own.workspace) or given.workspace,
        _tools(parts, own or given, with_code=parts.shell_policy.offered(channel)),
        _instructions(settings, name, channel),
        (own and own.max_steps) or given.max_steps,
        hooks=parts.hooks,
        compactor=parts.contexts(context_options(settings, default, summariser)),
        mask=parts.mask,
        approval_timeout=settings.tools.approval_expires,
        foreign_text=settings.safety.foreign_text,
        skills=None if skills is None else tuple(skills),
        name=name,
        delegates=tuple((own or given).delegates),
        servers=_servers(parts, own or given),
    )


def _tools(parts: Parts, section: AgentSettings | NamedAgentSettings, *, with_code: bool) -> Toolset:
    """The agent's tools, without those that run code where that is not offered."""
    servers = [parts.servers[name] for name in _servers(parts, section)]
    tools = Combined(_with_code(parts.built_in, with_code), _with_code(parts.with_own_rules, with_code), *servers)
    patterns = section.tools
    return tools if patterns is None else Filtered(tools, lambda tool: matches(tool.name, patterns))


def _servers(parts: Parts, section: AgentSettings | NamedAgentSettings) -> tuple[str, ...]:
    """The names of the MCP servers that the agent may have tools of."""
    return tuple(
        name
        for name in parts.servers
        if (section.mcp is None or matches(name, section.mcp))
        and (section.tools is None or may_match(f"{name}_", section.tools))
    )


def _with_code(tools: Toolset, with_code: bool) -> Toolset:
    return tools if with_code else Filtered(tools, lambda tool: not tool.runs_code)


def _instructions(settings: Settings, name: str, channel: str) -> str:
    """The agent's own, else the channel's, else those of [agent]; with the agents that it may delegate to."""
    own, at_channel = settings.agents.get(name), settings.channels.get(channel)
    text = (own and _written(own)) or (at_channel and at_channel.instructions) or _written(settings.agent)
    others = [other for other in (own or settings.agent).delegates if other != name]
    return (text or INSTRUCTIONS) + (DELEGATES + _described(settings, others) if others else "")


def _written(section: AgentSettings | NamedAgentSettings) -> str:
    if section.instructions_file is not None:
        return section.instructions_file.read_text(encoding="utf-8")
    return section.instructions or ""


def _described(settings: Settings, names: Iterable[str]) -> str:
    known = ((name, settings.agents[name].description if name in settings.agents else "") for name in names)
    return "\n".join(f"- {name}: {description}" if description else f"- {name}" for name, description in known)
