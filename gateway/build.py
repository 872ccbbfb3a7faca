"""From settings to a house: the only reader of settings; everyone else is handed arguments."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path

from agent.media import MediaStore
from agent.model import Model
from agent.tools import toolbox
from agent.turn import Mind
from channels.channel import Channel
from config.load import Configuration
from config.settings import ModelSettings, Provider, Settings
from gateway.gate import Gate, policy
from gateway.house import House, Service
from gateway.media import DiskMedia
from gateway.server import bind, serve
from gateway.store import open_store

log = logging.getLogger(__name__)

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

    Raises `StoreError`, `PortTaken` and `OSError` with words for a person.
    """
    settings = configuration.settings
    # Conversations are nobody else's business.
    configuration.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.agent.workspace.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.url))
        media = DiskMedia(settings.media.path, store)
        model = await stack.enter_async_context(_open_model(settings, media))
        mind = cache(partial(_mind, settings, model, media))
        house = House(store, media, _gate(settings), mind, most_running=settings.agent.max_running_turns)
        for channel in (*_platforms(settings, media), *extra):
            house.add(channel)
        services: list[Service] = [partial(_sweep, media)]
        link = None
        if settings.web.enabled:
            listener = bind(settings.web.host, settings.web.port)
            stack.callback(listener.close)
            token = web_token(configuration.home)
            link = f"{_origin(listener)}/?token={token}"
            services.append(_add_web(house, media, settings.web.host, token, listener))
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


def _platforms(settings: Settings, media: MediaStore) -> list[Channel]:
    """The configured platforms. Each one's library is imported only here, when it is enabled."""
    found: list[Channel] = []
    for name, channel in settings.channels.items():
        from channels.telegram.channel import TelegramChannel

        found.append(TelegramChannel(name, channel.token.get_secret_value(), channel.api_url, media))
    return found


def _gate(settings: Settings) -> Gate:
    return Gate({name: policy(channel.allow, channel.groups) for name, channel in settings.channels.items()})


def _mind(settings: Settings, model: Model, media: MediaStore) -> Mind:
    agent = settings.agent
    instructions = agent.instructions or INSTRUCTIONS
    if agent.instructions_file is not None:
        instructions = agent.instructions_file.read_text(encoding="utf-8")
    return Mind(model, media, agent.workspace, toolbox(settings.tools.enabled), instructions, agent.max_steps)


@asynccontextmanager
async def _open_model(settings: Settings, media: MediaStore) -> AsyncIterator[Model]:
    provider, _, name = settings.agent.model.partition(":")
    if provider == "demo":
        from agent.models.demo import DemoModel

        yield DemoModel()
        return
    from agent.models.providers import provider_model
    from agent.models.retry import RetryingModel

    known: Provider = "anthropic" if provider == "anthropic" else "openai"
    given = settings.models.get(known, ModelSettings())
    key = given.api_key.get_secret_value() if given.api_key is not None else None
    model = provider_model(known, name, api_key=key, base_url=given.base_url, media=media)
    try:
        yield RetryingModel(model)
    finally:
        await model.aclose()


def _add_web(house: House, media: MediaStore, host: str, token: str, listener: socket.socket) -> Service:
    """Adds the web channel, and returns the server through which it hears."""
    from channels.web.channel import WebChannel

    web = WebChannel(name="web", histories=house.screens, media=media, token=token)
    house.add(web)

    async def make_app() -> object:
        page = await asyncio.to_thread(importlib.import_module, "channels.web.app")
        return page.app(web, host=host)

    return partial(serve, make_app, listener)


async def _sweep(media: DiskMedia) -> None:
    """Deletes, once a day, the files that nothing refers to any more."""
    while True:
        await asyncio.sleep(24 * 3600)
        await media.sweep(older_than=timedelta(days=1))
