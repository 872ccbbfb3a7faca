"""From settings to a house: the only reader of settings; everyone else is handed arguments."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import assert_never

from pydantic import SecretStr

from agent.context import Context
from agent.counting import estimate_tokens
from agent.hook import Hooks
from agent.hooks.chain import Hook, HookChain
from agent.hooks.runner import Runner
from agent.masking import Mask
from agent.media import MediaStore
from agent.mind import Mind
from agent.model import Model, Request
from agent.models.chain import attended, chain
from agent.models.fallback import CoolDowns
from agent.models.prices import Price, price_of
from agent.models.retry import RetryingModel
from agent.models.windows import window_of
from agent.tool import Tool
from agent.tools import toolbox
from channels.address import Address
from channels.channel import Channel, ChannelRejected, Posted
from channels.web.channel import WebChannel
from config.load import Configuration
from config.settings import (
    AgentSettings,
    ChannelSection,
    ChannelSettings,
    DiscordSettings,
    HookSettings,
    HttpHookSettings,
    ModelSettings,
    ProcessHookSettings,
    Provider,
    PythonHookSettings,
    Settings,
    SlackSettings,
    TelegramSettings,
    every_secret,
)
from gateway.broken import BrokenChannel
from gateway.budgets import SpendingLimits
from gateway.cursors import StoredCursors
from gateway.drafts import Shows
from gateway.fetching import ReadFile
from gateway.gate import Gate, Policy
from gateway.house import House, Rules, Service
from gateway.media import DiskMedia
from gateway.reading import FileReader
from gateway.server import App, bind, mounted, serve
from gateway.store import Store, open_store
from gateway.store.work import Limits

log = logging.getLogger(__name__)

SIGN_OF_LIFE = 10.0
"""Seconds a hook's process has to answer anything at all."""

USUAL_ANSWER = 1000
"""Tokens."""

INSTRUCTIONS = """\
You are Interject, an assistant that people talk to in a chat. Answer in their language, plainly and briefly, in
Markdown. People may write to you while you work, and their new message reaches you at once: follow it, and say
truthfully what was done and what was not. Results that begin with "Skipped:" or "Cancelled:" tell you what did not
happen. Pictures and files that your tools make are delivered to the person by themselves; do not repeat their names
or paths."""


@dataclass(frozen=True, slots=True)
class Built:
    """A house that can be run, the services to run beside it, and the web chat's link (None: it is off)."""

    house: House
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
        hooks = await stack.enter_async_context(HookChain(_hooks(configuration)))
        models = await _models(settings, media, stack)
        mask = Mask(secret.get_secret_value() for secret in every_secret(settings))
        small = models.get(settings.agent.small_model or "")
        house = House(
            store,
            media,
            _gate(settings),
            _minds(settings, models, media, hooks, mask),
            _rules(settings, models, hooks),
            hooks=hooks,
            mask=mask,
            small=None if small is None else RetryingModel(small),
            estimate=partial(_cost_of, settings),
            read_file=await stack.enter_async_context(_open_reader(settings, media)),
        )
        platforms = {name: _made(name, section, media, store) for name, section in settings.channels.items()}
        for channel in (*platforms.values(), *extra):
            house.add(channel)
        services: list[Service] = [partial(_sweep, media)]
        link = None
        if settings.web.enabled:
            listener = bind(settings.web.host, settings.web.port)
            stack.callback(listener.close)
            token = web_token(configuration.home)
            link = f"{_origin(listener)}/?token={token}"
            web = WebChannel(name="web", histories=house.screens, runs=house.runs, media=media, token=token)
            house.add(web)
            services.append(
                partial(serve, partial(_site, web, settings.web.host, _posted(settings, platforms)), listener)
            )
        await stack.enter_async_context(house)
        yield Built(house, tuple(services), link)


def web_token(home: Path) -> str:
    """The web chat's token: made once, kept in the data directory, readable by its owner only."""
    file = home / "web-token"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    return file.read_text().strip()


def _origin(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _made(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> Channel:
    try:
        return _platform(name, section, media, store)
    except ChannelRejected as error:
        return BrokenChannel(name, error)


def _platform(name: str, section: ChannelSettings, media: MediaStore, store: Store) -> Channel:
    """A configured platform. Its library is imported only here, when it is enabled."""
    match section:
        case TelegramSettings():
            from channels.telegram.channel import TelegramChannel

            token = section.token.get_secret_value()
            return TelegramChannel(name, token, section.api_url, media, reactions=section.reactions)
        case SlackSettings():
            from channels.slack.channel import SlackChannel

            return SlackChannel(
                name,
                section.bot_token.get_secret_value(),
                media,
                app_token=_secret(section.app_token),
                signing_secret=_secret(section.signing_secret),
                api_url=section.api_url,
                reactions=section.reactions,
            )
        case DiscordSettings():
            from channels.discord.channel import DiscordChannel

            return DiscordChannel(
                name,
                section.token.get_secret_value(),
                media,
                StoredCursors(store, name),
                api_url=section.api_url,
                gateway_url=section.gateway_url,
                reactions=section.reactions,
            )
        case _:
            assert_never(section)


def _secret(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _gate(settings: Settings) -> Gate:
    return Gate({name: _policy(channel) for name, channel in settings.channels.items()})


def _policy(channel: ChannelSection) -> Policy:
    return Policy(
        frozenset(map(str.lower, channel.allow)),
        channel.groups,
        frozenset(map(str.lower, channel.admins)),
        channel.pair,
        channel.busy,
    )


def _rules(settings: Settings, models: Mapping[str, Model], hooks: Hooks) -> Rules:
    agent, limits = settings.agent, settings.limits
    # Hooks that stand before replies do not see what a model thinks, and so nobody does.
    thinks = not hooks.active("before_reply")
    shows = {
        name: Shows(channel.activity, channel.show_reasoning and thinks) for name, channel in settings.channels.items()
    }
    return Rules(
        most_running=agent.max_running_turns,
        grace=agent.shutdown_grace,
        many=agent.tell_when_waiting,
        whole=[name for name, channel in settings.channels.items() if not channel.stream],
        shows=shows | {"web": Shows(reasoning=settings.web.show_reasoning and thinks)},
        work=Limits(depth=limits.delegate_depth, running=limits.delegate_running),
        spending=SpendingLimits(limits.turn_cost, limits.person_daily_cost, limits.daily_cost),
        models=tuple(models),
    )


async def _models(settings: Settings, media: MediaStore, stack: AsyncExitStack) -> dict[str, Model]:
    """Every model that is named anywhere, by its name; each connects when it is first asked."""
    agent = settings.agent
    named = [
        agent.model,
        *agent.fallback,
        agent.small_model,
        *(channel.model for channel in settings.channels.values()),
    ]
    names = dict.fromkeys(name for name in named if name)
    return {name: await stack.enter_async_context(_open_model(settings, name, media)) for name in names}


def _minds(
    settings: Settings, models: Mapping[str, Model], media: MediaStore, hooks: Hooks, mask: Mask
) -> Callable[[Address], Mind]:
    """The agent for each place, the general one or its channel's own; each is made when it is first asked for."""
    agent, cool_downs = settings.agent, CoolDowns()

    @cache
    def tools() -> tuple[Tool, ...]:
        return tuple(_tool(settings, tool) for tool in toolbox(settings.tools.enabled))

    @cache
    def mind(channel: str) -> Mind:
        own = settings.channels.get(channel)
        usual = _usual_model(settings, channel)
        names = tuple(dict.fromkeys([usual, *agent.fallback]))
        small = (agent.small_model or "") if agent.routing else ""
        summing_up = chain([agent.small_model or usual], models, cool_downs, mask=mask)
        return Mind(
            chain(names, models, cool_downs, mask=mask, small=small),
            media,
            agent.workspace,
            tools(),
            (own and own.instructions) or _instructions(agent),
            agent.max_steps,
            hooks=hooks,
            context=Context(agent.context_window or window_of(usual), summing_up),
            mask=mask,
            decide_within=settings.tools.approval_expires,
        )

    return lambda address: mind(address.channel)


def _usual_model(settings: Settings, channel: str) -> str:
    own = settings.channels.get(channel)
    return (own and own.model) or settings.agent.model


def _tool(settings: Settings, tool: Tool) -> Tool:
    """The tool as the operator wants it."""
    rules = settings.tools.rules(tool.name)
    return replace(
        tool,
        approval=rules.approval,
        on_steer=rules.on_steer or tool.on_steer,
        timeout=rules.timeout or tool.timeout,
    )


def _price(settings: Settings, model: str) -> Price | None:
    provider = model.partition(":")[0]
    given = next((known for name, known in settings.models.items() if name == provider), ModelSettings())
    own = {name: Price(p.input, p.output, p.cache_read, p.cache_write) for name, p in given.price.items()}
    return price_of(model, own)


def _cost_of(settings: Settings, request: Request, channel: str) -> float:
    """About what the request will cost there, in dollars, with an answer of usual length."""
    price = _price(settings, request.model or _usual_model(settings, channel))
    if price is None:
        return 0.0
    written = request.settings.max_tokens or USUAL_ANSWER
    return (estimate_tokens(request) * price.input + written * price.output) / 1_000_000


def _hooks(configuration: Configuration) -> list[Hook]:
    """The operator's hooks, of whichever kind. Raises `HookError` for one that cannot be had."""
    return [
        Hook(
            section.name,
            _runner(configuration, section),
            tuple(section.points),
            section.priority,
            section.timeout,
            section.on_error,
            section.trusted,
        )
        for section in configuration.settings.hooks
    ]


def _runner(configuration: Configuration, section: HookSettings) -> Runner:
    match section:
        case PythonHookSettings():
            from agent.hooks.python import python_hook

            return python_hook(section.path, section.points)
        case ProcessHookSettings():
            from agent.hooks.process import Pace, ProcessHook

            directory = configuration.file.absolute().parent if configuration.file else None
            pace = Pace(sign=max(SIGN_OF_LIFE, section.timeout))
            return ProcessHook(section.name, section.command, section.points, directory=directory, pace=pace)
        case HttpHookSettings():
            from agent.hooks.http import HttpHook

            return HttpHook(section.name, section.url, section.secret.get_secret_value())
        case _:
            assert_never(section)


def _instructions(agent: AgentSettings) -> str:
    if agent.instructions_file is not None:
        return agent.instructions_file.read_text(encoding="utf-8")
    return agent.instructions or INSTRUCTIONS


@asynccontextmanager
async def _open_model(settings: Settings, model: str, media: MediaStore) -> AsyncIterator[Model]:
    provider, _, name = model.partition(":")
    if provider == "demo":
        from agent.models.demo import DemoModel

        yield DemoModel()
        return
    from agent.models.providers import provider_model

    known: Provider = "anthropic" if provider == "anthropic" else "openai"
    given = settings.models.get(known, ModelSettings())
    opened = provider_model(
        known,
        name,
        api_key=_key(given),
        base_url=given.base_url,
        media=media,
        first_token_timeout=given.first_token_timeout,
        silence_timeout=given.silence_timeout,
    )
    try:
        yield attended(opened, model, _price(settings, model))
    finally:
        await opened.aclose()


def _key(given: ModelSettings) -> str | None:
    return None if given.api_key is None else given.api_key.get_secret_value()


@asynccontextmanager
async def _open_reader(settings: Settings, media: MediaStore) -> AsyncIterator[ReadFile]:
    """What reads people's files out; voice notes only where a model for them is set."""
    if settings.agent.transcription_model is None:
        yield FileReader(media).read
        return
    from agent.hearing import OpenAITranscriber

    _, _, name = settings.agent.transcription_model.partition(":")
    given = settings.models.get("openai", ModelSettings())
    transcriber = OpenAITranscriber(name, api_key=_key(given), base_url=given.base_url)
    try:
        yield FileReader(media, transcriber).read
    finally:
        await transcriber.aclose()


def _posted(settings: Settings, platforms: Mapping[str, Channel]) -> dict[str, Posted]:
    """The channels to which their platform posts what happens, by the path to which it does."""
    return {
        f"/slack/{name}/": channel
        for name, channel in platforms.items()
        if isinstance(section := settings.channels[name], SlackSettings)
        and section.signing_secret is not None
        and isinstance(channel, Posted)
    }


async def _site(web: WebChannel, host: str, posted: Mapping[str, Posted]) -> App:
    """The web chat, and beside it what platforms post to. Loaded when somebody knocks."""
    page = await asyncio.to_thread(importlib.import_module, "channels.web.app")
    return mounted(page.app(web, host=host), {path: channel.asgi() for path, channel in posted.items()})


async def _sweep(media: DiskMedia) -> None:
    """Deletes, once a day, the files that nothing refers to any more."""
    while True:
        await asyncio.sleep(24 * 3600)
        await media.sweep(older_than=timedelta(days=1))
