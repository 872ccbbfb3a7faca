"""From settings to a gateway. With its siblings in this package, the only reader of settings; all other parts get
arguments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING

from agent.hook import Hooks
from agent.hooks.chain import HookChain
from agent.log import Ended, dump, load
from agent.masking import Mask
from agent.model import Model
from agent.models.retry import RetryingModel
from channels.channel import Channel
from channels.web.channel import WebChannel
from config.age import parse_age
from config.fingerprint import fingerprint, fingerprints
from config.load import Configuration
from config.settings import Settings, every_secret
from gateway.app import Gateway, GatewayOptions
from gateway.assembly.agent_files import agent_files, warn_of_skills
from gateway.assembly.agents import Parts, build_agents, configured_agents
from gateway.assembly.channels import access, load_replies, platforms, webhooks
from gateway.assembly.context import context_managers
from gateway.assembly.custom_tools import own_tools
from gateway.assembly.events import Following
from gateway.assembly.hooks import configured_hooks
from gateway.assembly.load_ahead import Load, load_ahead
from gateway.assembly.mcp import accounts, mcp_problems, open_servers
from gateway.assembly.models import cost_of, open_models, open_reader, unpriced
from gateway.assembly.shell_policy import ShellPolicy, runs_code, shell_policy, who_may_run_commands
from gateway.assembly.signals import ConfiguredSignals
from gateway.assembly.tools import configured_tools
from gateway.assembly.web import exposure, link, site
from gateway.assembly.workspaces import make_workspace_roots, workspaces_of
from gateway.bus import LocalBus
from gateway.lifecycle.recent_log import recent_log
from gateway.lifecycle.retention import Retention, keep_retention
from gateway.lifecycle.supervision import Service
from gateway.media import DiskMedia
from gateway.outbound.channel_replies import ReplyOptions
from gateway.private_files import private_file, private_folder
from gateway.store import Store, open_store
from gateway.store.background import Limits
from gateway.turns.budgets import SpendingLimits
from gateway.turns.workspaces import Workspaces
from gateway.web.connections import default_limits
from gateway.web.http_server import bind, serve
from gateway.web.token import WebToken

if TYPE_CHECKING:
    # Only where MCP servers are configured.
    from gateway.inbound.sign_ins import SignIns

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Built:
    """A gateway ready to run, the services to run beside it, and the web chat's sign-in link (None: it is off)."""

    gateway: Gateway
    services: tuple[Service, ...]
    link: str | None


@asynccontextmanager
async def build(configuration: Configuration, *extra: Channel) -> AsyncIterator[Built]:
    """Opens the store and builds the gateway; `extra` are channels without settings, such as a terminal.

    Raises `StoreError`, `HookError`, `ContextError`, `PortTaken` and `OSError` with messages for people.
    """
    settings = configuration.settings
    # Conversations are private to the operator's account.
    private_folder(configuration.home)
    for file in configuration.home.iterdir():
        if file.is_file() and not file.is_symlink():
            private_file(file)
    private_folder(settings.media.path)
    make_workspace_roots(settings)
    async with AsyncExitStack() as stack:
        signals = ConfiguredSignals(settings)
        store = await stack.enter_async_context(open_store(settings.store.url, committed=signals.tell))
        await _audit_settings(settings, store)
        media = DiskMedia(settings.media.path, store)
        workspaces = workspaces_of(settings)
        ahead: list[Load] = []
        gateway, sign_ins = await _gateway(configuration, store, media, workspaces, stack, ahead, signals)
        configured = platforms(settings, media, store)
        for channel in (*configured.values(), *extra):
            gateway.add(channel)
        following = Following(gateway)
        services: list[Service] = [
            following.run,
            partial(load_ahead, ahead),
            workspaces.remove_leftovers,
            partial(_sweep, media),
            partial(keep_retention, gateway.deletion, _retention(settings)),
        ]
        address = None
        if settings.web.enabled:
            listener = bind(settings.web.host, settings.web.port)
            stack.callback(listener.close)
            token = WebToken(configuration.home)
            address = link(listener, token())
            if sign_ins is not None:
                sign_ins.local_url = address.partition("/?")[0]
            if warning := exposure(settings.web):
                log.warning("%s", warning)
            web = WebChannel(
                name="web", conversations=gateway.conversation_view, runs=gateway.runs, media=media, token=token
            )
            gateway.add(web)
            watched, beside = signals.serve(gateway, token)
            services += beside
            limits = default_limits(behind_proxy=settings.web.url is not None)
            services.append(
                partial(
                    serve,
                    partial(
                        site,
                        gateway,
                        web,
                        settings.web,
                        webhooks(settings, configured),
                        watched,
                        sign_ins,
                        configuration=configuration,
                        log=stack.enter_context(recent_log(gateway.mask)),
                        following=following,
                    ),
                    listener,
                    limits,
                )
            )
        await stack.enter_async_context(gateway)
        yield Built(gateway, tuple(services), address)


async def _audit_settings(settings: Settings, store: Store) -> None:
    """Records in the audit log which settings were changed since the last start."""
    salt = await store.settings_salt() or token_hex(8)
    hashes = fingerprints(settings, salt)
    await store.record_settings(salt, hashes, fingerprint(hashes))


async def _gateway(
    configuration: Configuration,
    store: Store,
    media: DiskMedia,
    workspaces: Workspaces,
    stack: AsyncExitStack,
    ahead: list[Load],
    signals: ConfiguredSignals,
) -> tuple[Gateway, SignIns | None]:
    """The gateway without its channels; the stack closes what was opened for it. `ahead` gets what the first message
    needs."""
    settings = configuration.settings
    mask = Mask((secret.get_secret_value() for secret in every_secret(settings)), *_changing_secrets(configuration))
    hooks = await stack.enter_async_context(HookChain(configured_hooks(configuration, mask), signals.tell))
    models = await open_models(settings, media, stack, ahead, signals.tell)
    _warn_of_prices(settings)
    running = await shell_policy(configuration)
    _warn_of_commands(settings, running)
    configured = configured_tools(settings, running, stack)
    contexts = await asyncio.to_thread(context_managers, settings, mask)
    own = await asyncio.to_thread(own_tools, configuration, mask)
    signals.tool_labels.own = own
    policy = access(settings)
    mcp, sign_ins = await open_servers(configuration, store, policy, stack)
    agents = configured_agents(
        Parts(settings, models, media, hooks, mask, running, configured, own, mcp.toolsets, contexts), policy
    )
    ahead += [
        partial(asyncio.to_thread, load_replies, settings),
        partial(asyncio.to_thread, build_agents, settings, agents),
        partial(asyncio.to_thread, _read_a_log),
    ]
    files = agent_files(configuration)
    await warn_of_skills(files)
    small = models.get(settings.agent.small_model or "")
    gateway = Gateway(
        store,
        media,
        policy,
        agents,
        _options(settings, models, hooks),
        bus=LocalBus(watch=signals.tell),
        watch=signals.tell,
        hooks=hooks,
        mask=mask,
        small=None if small is None else RetryingModel(small),
        estimate=partial(cost_of, settings),
        workspaces=workspaces,
        files=files,
        reloads=(own.reload,),
        tool_problems=lambda: {**own.problems(), **mcp_problems(mcp.shared)},
        mcp=mcp,
        read_file=await stack.enter_async_context(open_reader(settings, media)),
        remove_files=media.remove,
    )
    return gateway, sign_ins


def _changing_secrets(configuration: Configuration) -> Iterator[Callable[[], Iterable[str]]]:
    if configuration.settings.web.enabled:
        token = WebToken(configuration.home)
        yield lambda: (token(),)
    if configuration.settings.mcp:
        yield accounts(configuration.home)


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
        shutdown_grace=agent.shutdown_grace,
        waiting_notice_at=agent.tell_when_waiting,
        messages_per_minute=limits.messages_per_minute,
        debounce={name: section.debounce for name, section in settings.channels.items() if section.debounce},
        unstreamed=[name for name, channel in settings.channels.items() if not channel.stream],
        reply_options=replies | {"web": ReplyOptions(reasoning=settings.web.show_reasoning and shows_reasoning)},
        background=Limits(depth=limits.delegate_depth, running=limits.delegate_running),
        spending=SpendingLimits(limits.turn_cost, limits.person_daily_cost, limits.daily_cost, limits.delegate_tokens),
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


async def _sweep(media: DiskMedia) -> None:
    """Deletes unreferenced files once a day."""
    while True:
        await asyncio.sleep(24 * 3600)
        await media.sweep(older_than=timedelta(days=1))
