"""From settings to a house: with `building`, the only reader of settings; everyone else is handed arguments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from agent.hook import Hooks
from agent.hooks.chain import HookChain
from agent.masking import Mask
from agent.media import MediaStore
from agent.model import Model
from agent.models.retry import RetryingModel
from channels.channel import Channel
from channels.web.channel import WebChannel
from config.load import Configuration
from config.settings import Settings, every_secret
from gateway.app import Gateway, Rules
from gateway.assembly.agents import agents
from gateway.assembly.channels import access, platforms, webhooks
from gateway.assembly.hooks import configured_hooks
from gateway.assembly.models import cost_of, open_models, open_reader
from gateway.assembly.web import link, site, web_token
from gateway.lifecycle.supervision import Service
from gateway.media import DiskMedia
from gateway.outbound.channel_replies import ReplyOptions
from gateway.store import Store, open_store
from gateway.store.background import Limits
from gateway.turns.budgets import SpendingLimits
from gateway.web.http_server import bind, serve


@dataclass(frozen=True, slots=True)
class Built:
    """A house that can be run, the services to run beside it, and the web chat's link (None: it is off)."""

    gateway: Gateway
    services: tuple[Service, ...]
    link: str | None


@asynccontextmanager
async def build(configuration: Configuration, *extra: Channel) -> AsyncIterator[Built]:
    """Opens the store and puts the house together; `extra` are channels that no setting names, such as a terminal.

    Raises `StoreError`, `HookError`, `PortTaken` and `OSError` with words for a person.
    """
    settings = configuration.settings
    # Conversations are nobody else's business.
    configuration.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.agent.workspace.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.url))
        media = DiskMedia(settings.media.path, store)
        gateway = await _gateway(configuration, store, media, stack)
        configured = platforms(settings, media, store)
        for channel in (*configured.values(), *extra):
            gateway.add(channel)
        services: list[Service] = [partial(_sweep, media)]
        address = None
        if settings.web.enabled:
            listener = bind(settings.web.host, settings.web.port)
            stack.callback(listener.close)
            token = web_token(configuration.home)
            address = link(listener, token)
            web = WebChannel(
                name="web", histories=gateway.conversation_view, runs=gateway.runs, media=media, token=token
            )
            gateway.add(web)
            services.append(
                partial(serve, partial(site, web, settings.web.host, webhooks(settings, configured)), listener)
            )
        await stack.enter_async_context(gateway)
        yield Built(gateway, tuple(services), address)


async def _gateway(configuration: Configuration, store: Store, media: MediaStore, stack: AsyncExitStack) -> Gateway:
    """The house without its channels; the stack closes what was opened for it."""
    settings = configuration.settings
    mask = Mask(secret.get_secret_value() for secret in every_secret(settings))
    hooks = await stack.enter_async_context(HookChain(configured_hooks(configuration, mask)))
    models = await open_models(settings, media, stack)
    small = models.get(settings.agent.small_model or "")
    return Gateway(
        store,
        media,
        access(settings),
        agents(settings, models, media, hooks, mask),
        _rules(settings, models, hooks),
        hooks=hooks,
        mask=mask,
        small=None if small is None else RetryingModel(small),
        estimate=partial(cost_of, settings),
        read_file=await stack.enter_async_context(open_reader(settings, media)),
    )


def _rules(settings: Settings, models: Mapping[str, Model], hooks: Hooks) -> Rules:
    agent, limits = settings.agent, settings.limits
    # Hooks that stand before replies do not see what a model thinks, and so nobody does.
    thinks = not hooks.active("before_reply")
    shows = {
        name: ReplyOptions(channel.activity, channel.show_reasoning and thinks)
        for name, channel in settings.channels.items()
    }
    return Rules(
        most_running=agent.max_running_turns,
        grace=agent.shutdown_grace,
        many=agent.tell_when_waiting,
        whole=[name for name, channel in settings.channels.items() if not channel.stream],
        shows=shows | {"web": ReplyOptions(reasoning=settings.web.show_reasoning and thinks)},
        work=Limits(depth=limits.delegate_depth, running=limits.delegate_running),
        spending=SpendingLimits(limits.turn_cost, limits.person_daily_cost, limits.daily_cost, limits.delegate_tokens),
        models=tuple(models),
    )


async def _sweep(media: DiskMedia) -> None:
    """Deletes, once a day, the files that nothing refers to any more."""
    while True:
        await asyncio.sleep(24 * 3600)
        await media.sweep(older_than=timedelta(days=1))
