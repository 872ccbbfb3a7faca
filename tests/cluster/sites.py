"""Two whole gateways in this process, built from the same settings on one PostgreSQL database, each with a web server
and a home folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from config.load import load
from gateway.assembly.build import Built
from tests.engines import engines
from tests.gateway.stage import gateway


@dataclass
class Site:
    """A worker with the address of its web server, and the token that its owner signs in with."""

    built: Built
    url: str
    token: str

    def client(self, secret: str = "") -> httpx.AsyncClient:
        """A client of this worker; with this secret, one of the API. Close it."""
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=60)


@asynccontextmanager
async def two_sites(settings: Path) -> AsyncIterator[tuple[Site, Site]]:
    """Both run until left."""
    environ = {"INTERJECT_STORE__URL": engines.url(settings.parent / "interject.db")}
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(site(settings, environ, name)) for name in ("a", "b")]
        yield one, other


@asynccontextmanager
async def site(settings: Path, environ: dict[str, str], name: str) -> AsyncIterator[Site]:
    """One that runs until left; `name` is that of its home folder."""
    async with gateway(load(settings, environ, settings.parent / name), environ=environ) as built:
        assert built.link is not None
        link = urlsplit(built.link)
        made = Site(built, f"http://{link.netloc}", parse_qs(link.query)["token"][0])
        # Loads the site. FastAPI silences warnings for all threads while it does, so two in one process would meet.
        async with made.client() as client:
            await client.get("/api/v1/session")
        yield made
