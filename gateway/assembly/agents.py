"""Agents from settings: one per channel, with its models, tools and instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.hook import Hooks
from agent.masking import Mask
from agent.media import MediaStore
from agent.model import Model
from agent.models.chain import model_chain
from agent.models.fallback import CoolDowns
from agent.tool import Tool
from agent.tools import load_tool
from channels.address import Address
from config.settings import AgentSettings, Settings
from gateway.assembly.models import context_window, default_model, default_parameters, sees_pictures
from gateway.assembly.shell_policy import ShellPolicy
from gateway.assembly.tools import NEED_SETTINGS

INSTRUCTIONS = """\
You are Interject, an assistant that people talk to in a chat. Answer in their language, plainly and briefly, in
Markdown. People may write to you while you work, and their new message reaches you at once: follow it, and say
truthfully what was done and what was not. Results that begin with "Skipped:" or "Cancelled:" tell you what did not
happen. Pictures and files that your tools make are delivered to the person by themselves; do not repeat their names
or paths."""


def agents(
    settings: Settings,
    models: Mapping[str, Model],
    media: MediaStore,
    hooks: Hooks,
    mask: Mask,
    shell_policy: ShellPolicy,
    configured: Mapping[str, Tool],
) -> Callable[[Address], Agent]:
    """The agent of each address, by its channel; each is created on first use. `configured` are the tools that need
    settings."""
    given, cool_downs = settings.agent, CoolDowns()
    seeing = frozenset(name for name in models if sees_pictures(settings, name))

    @cache
    def tools(runs_code: bool) -> tuple[Tool, ...]:
        names = [name for name in settings.tools.enabled if name in configured or name not in NEED_SETTINGS]
        found = (configured[name] if name in configured else load_tool(name) for name in dict.fromkeys(names))
        return tuple(_with_rules(settings, tool) for tool in found if runs_code or not tool.runs_code)

    @cache
    def agent(channel: str) -> Agent:
        own = settings.channels.get(channel)
        default = default_model(settings, channel)
        names = tuple(dict.fromkeys([default, *given.fallback]))
        small = (given.small_model or "") if given.routing else ""
        summariser = model_chain([given.small_model or default], models, cool_downs, mask=mask)
        return Agent(
            model_chain(
                names,
                models,
                cool_downs,
                mask=mask,
                small=small,
                vision=given.vision_model or "",
                see=seeing,
                settings=default_parameters(settings, channel),
                outage_patience=given.outage_patience,
            ),
            media,
            given.workspace,
            tools(shell_policy.offered(channel)),
            (own and own.instructions) or _instructions(given),
            given.max_steps,
            hooks=hooks,
            compactor=Compactor(
                context_window(settings, default),
                summariser,
                window_of=partial(context_window, settings),
                reserve=given.context_reserve,
                full_at=given.context_full_at,
                keep=given.context_keep,
                auto=given.auto_compact,
            ),
            mask=mask,
            approval_timeout=settings.tools.approval_expires,
            foreign_text=settings.safety.foreign_text,
        )

    return lambda address: agent(address.channel)


def build_agents(settings: Settings, agent_for: Callable[[Address], Agent]) -> None:
    """Builds the agents of the channels, which their first messages would do otherwise."""
    names = [*settings.channels, "web"] if settings.web.enabled else list(settings.channels)
    for name in names:
        agent_for(Address(name, "", "", kind="direct"))


def _with_rules(settings: Settings, tool: Tool) -> Tool:
    """The tool with the operator's settings."""
    rules = settings.tools.rules(tool.name)
    return replace(
        tool,
        approval=rules.approval or tool.approval,
        on_steer=rules.on_steer or tool.on_steer,
        timeout=rules.timeout or tool.timeout,
    )


def _instructions(agent: AgentSettings) -> str:
    if agent.instructions_file is not None:
        return agent.instructions_file.read_text(encoding="utf-8")
    return agent.instructions or INSTRUCTIONS
