"""What one configuration makes of the gateway: built at the start, and anew at each reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from agent.hook import Hooks
from agent.hooks.chain import HookChain
from agent.log import Ended, dump, load
from agent.masking import Mask
from agent.model import Model
from agent.models.retry import RetryingModel
from channels.channel import Channel
from config.age import parse_age
from config.load import Configuration
from config.settings import Settings
from gateway.app import Configured, GatewayOptions
from gateway.assembly.agent_files import agent_files, warn_of_skills
from gateway.assembly.agents import Parts, build_agents, configured_agents
from gateway.assembly.channels import access_settings, load_replies, open_platforms
from gateway.assembly.context import context_managers
from gateway.assembly.custom_tools import OwnTools
from gateway.assembly.hooks import open_hooks
from gateway.assembly.limits import spending_limits
from gateway.assembly.load_ahead import Load
from gateway.assembly.mcp import SignInLinks, open_servers
from gateway.assembly.models import cost_of, open_models, open_reader, unpriced
from gateway.assembly.shell_policy import ShellPolicy, runs_code, shell_policy, who_may_run_commands
from gateway.assembly.signals import ConfiguredSignals
from gateway.assembly.tools import configured_tools
from gateway.assembly.workspaces import make_workspace_roots, workspaces_of
from gateway.inbound.access import AccessPolicy
from gateway.lifecycle.retention import Retention
from gateway.lifecycle.shared_parts import SharedParts
from gateway.media import Media
from gateway.outbound.channel_replies import ReplyOptions
from gateway.store import Store
from gateway.store.background import Limits
from gateway.workspaces.sync import WorkspaceSync

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Permanent:
    """What stays while the process runs, whatever the configuration. `own` are the operator's tools as they are now."""

    store: Store
    media: Media
    mask: Mask
    policy: AccessPolicy
    links: SignInLinks
    own: OwnTools
    signals: ConfiguredSignals
    shared: SharedParts
    sync: WorkspaceSync


@dataclass(frozen=True, slots=True)
class Generation:
    """`platforms` are the channels of the settings; `ahead` is what the first message needs. Closing the `stack` closes
    what only this generation uses."""

    configuration: Configuration
    configured: Configured
    hooks: HookChain
    platforms: Mapping[str, Channel]
    retention: Retention
    ahead: tuple[Load, ...]
    stack: AsyncExitStack


async def build_generation(configuration: Configuration, permanent: Permanent) -> Generation:
    """Raises `HookError`, `ContextError` and `OSError` with messages for people; nothing stays open then."""
    async with AsyncExitStack() as stack:
        generation = await _build(configuration, permanent, stack)
        return replace(generation, stack=stack.pop_all())


async def _build(configuration: Configuration, permanent: Permanent, stack: AsyncExitStack) -> Generation:
    settings = configuration.settings
    media, mask, shared, policy = permanent.media, permanent.mask, permanent.shared, permanent.policy
    ahead: list[Load] = []
    make_workspace_roots(settings)
    hooks = await open_hooks(configuration, mask, shared, stack, permanent.signals.tell)
    models = await open_models(settings, media, shared, stack, ahead, permanent.signals.tell)
    _warn_of_prices(settings)
    running = await shell_policy(configuration)
    _warn_of_commands(settings, running)
    tools = configured_tools(settings, running, stack)
    contexts = await asyncio.to_thread(context_managers, settings, mask)
    mcp = await open_servers(configuration, permanent.links, policy, shared, stack)
    parts = Parts(settings, models, media, hooks, mask, running, tools, permanent.own, mcp.toolsets, contexts)
    agents = configured_agents(parts, policy)
    ahead += [
        partial(asyncio.to_thread, load_replies, settings),
        partial(asyncio.to_thread, build_agents, settings, agents),
        partial(asyncio.to_thread, _read_a_log),
    ]
    files = agent_files(configuration)
    await warn_of_skills(files)
    small = models.get(settings.agent.small_model or "")
    access, roles = access_settings(settings)
    configured = Configured(
        access,
        roles,
        agents,
        _options(settings, models, hooks),
        hooks,
        None if small is None else RetryingModel(small),
        partial(cost_of, settings),
        await stack.enter_async_context(open_reader(settings, media)),
        workspaces_of(configuration, permanent.store, permanent.sync),
        files,
        mcp,
    )
    platforms = await open_platforms(settings, media, permanent.store, shared, stack)
    return Generation(configuration, configured, hooks, platforms, _retention(settings), tuple(ahead), stack)


def _read_a_log() -> None:
    """What reads and writes logs is built when it is used first."""
    load([dump(Ended("completed"))])


def _warn_of_prices(settings: Settings) -> None:
    if names := unpriced(settings):
        log.warning("no price is known, so these models count as free: %s", ", ".join(names))


def _warn_of_commands(settings: Settings, running: ShellPolicy) -> None:
    if not running.policy.sandboxed and runs_code(settings):
        log.warning("shell commands: %s", who_may_run_commands(settings, running))


def _options(settings: Settings, models: Mapping[str, Model], hooks: Hooks) -> GatewayOptions:
    agent, limits = settings.agent, settings.limits
    # Hooks that review replies do not see reasoning, so nobody does.
    shows_reasoning = not hooks.active("before_reply")
    replies = {
        name: ReplyOptions(channel.activity, channel.show_reasoning and shows_reasoning)
        for name, channel in settings.channels.items()
    }
    return GatewayOptions(
        max_running_turns=agent.max_running_turns,
        max_running_turns_total=agent.max_running_turns_total,
        shutdown_grace=agent.shutdown_grace,
        waiting_notice_at=agent.tell_when_waiting,
        messages_per_minute=limits.messages_per_minute,
        debounce={name: section.debounce for name, section in settings.channels.items() if section.debounce},
        unstreamed=[name for name, channel in settings.channels.items() if not channel.stream],
        reply_options=replies | {"web": ReplyOptions(reasoning=settings.web.show_reasoning and shows_reasoning)},
        background=Limits(depth=limits.delegate_depth, running=limits.delegate_running),
        spending=spending_limits(limits),
        models=tuple(models),
        topics=[name for name, section in settings.channels.items() if section.topic_instructions],
    )


def _retention(settings: Settings) -> Retention:
    given = settings.retention
    channels = {name: parse_age(channel.retention) for name, channel in settings.channels.items() if channel.retention}
    return Retention(
        parse_age(given.conversations or ""),
        parse_age(given.media or ""),
        parse_age(given.logs),
        {name: age for name, age in channels.items() if age is not None},
    )
