"""A real gateway with its control API, between local servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from gateway.assembly.build import Built
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi


@dataclass
class Api:
    """The API of a running gateway, and a client with the owner's token."""

    built: Built
    url: str
    token: str
    client: httpx.AsyncClient

    def using(self, key: str) -> httpx.AsyncClient:
        """Another client, with this key; close it."""
        return httpx.AsyncClient(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60
        )


@asynccontextmanager
async def control_api(
    folder: Path, telegram: BotApi, models: ModelServer, *, more: str = "", access: str = "", web: str = ""
) -> AsyncIterator[Api]:
    """A gateway with the web channel and Telegram, which everybody may use, or whom `access` says; `web` is added to
    its section [web], `more` at the end of its settings."""
    settings = write_settings(folder, telegram, models, more=more)
    if web:
        settings.write_text(settings.read_text().replace("port = 0", f"port = 0\n{web}"))
    if access:
        settings.write_text(settings.read_text().replace('allow = ["*"]', access))
    async with gateway(settings) as built:
        assert built.link is not None
        link = urlsplit(built.link)
        url, token = f"http://{link.netloc}", parse_qs(link.query)["token"][0]
        async with httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
        ) as client:
            yield Api(built, url, token, client)
