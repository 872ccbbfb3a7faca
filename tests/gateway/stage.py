"""The real gateway on free ports, built from a real settings file, between local servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from config.load import Configuration, load
from gateway.assembly.build import Built, build
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi

SETTINGS = """\
[agent]
model = "{model}"
workspaces = "shared"
shutdown_grace = 0
[models.openai]
api_key = "test-key"
base_url = "{models}"
[web]
port = 0
[channels.telegram]
token = "{token}"
api_url = "{api}"
allow = ["*"]
"""


def write_settings(
    folder: Path, api: BotApi, models: ModelServer, *, model: str = "openai:test", more: str = ""
) -> Path:
    """An interject.toml for these servers; `more` is added at its end."""
    file = folder / "interject.toml"
    text = SETTINGS.format(model=model, models=models.openai_url, token=api.token, api=api.url)
    file.write_text(text + more)
    return file


@asynccontextmanager
async def gateway(
    settings: Path | Configuration,
    prepare: Callable[[Built], None] = lambda _: None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Built]:
    """A running gateway in this process; leaving ends it as Ctrl-C would. `prepare` may add channels before it runs."""
    if isinstance(settings, Path):
        settings = load(settings, environ or {}, settings.parent / "home")
    async with build(settings, environ=environ or {}) as built:
        prepare(built)
        running = asyncio.create_task(built.gateway.run(*built.services))
        try:
            yield built
        finally:
            running.cancel()
            ended = await asyncio.gather(running, return_exceptions=True)
            if not isinstance(ended[0], asyncio.CancelledError):
                raise AssertionError("the gateway ended by itself") from ended[0]
