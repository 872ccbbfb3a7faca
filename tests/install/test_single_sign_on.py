"""The sites for single sign-on that ship, with the real proxies, a stand-in for the sign-in service, and a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.api.conftest import Api, control_api
from tests.servers.local import LocalServer, free_port
from tests.servers.models import ModelServer, Say
from tests.servers.proxies import PUBLIC, behind_caddy, behind_nginx, browser, make_certificate
from tests.servers.telegram import BotApi

HEADERS = ("X-Forwarded-User", "Remote-User")
PEOPLE = {"cookie-of-ann": "ann@example.com", "cookie-of-root": "root@example.com"}


class SignInService(LocalServer):
    """Knows people by a cookie. Answers as oauth2-proxy does
    (https://oauth2-proxy.github.io/oauth2-proxy/configuration/integration) and as Authelia does
    (https://www.authelia.com/reference/guides/proxy-authorization)."""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/oauth2/auth", self._oauth2_proxy)
        app.router.add_get("/oauth2/start", self._portal)
        app.router.add_get("/api/authz/forward-auth", self._authelia)
        return app

    async def _oauth2_proxy(self, request: web.Request) -> web.Response:
        person = PEOPLE.get(request.cookies.get("session", ""))
        if person is None:
            return web.Response(status=401)
        return web.Response(status=202, headers={"X-Auth-Request-Email": person, "X-Auth-Request-User": "12345"})

    async def _authelia(self, request: web.Request) -> web.Response:
        person = PEOPLE.get(request.cookies.get("session", ""))
        if person is None:
            return await self._portal(request)
        return web.Response(headers={"Remote-User": person})

    async def _portal(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://login.example.com/"})


@dataclass(frozen=True)
class Site:
    url: str
    control: Api
    certificate: Path

    def browser(self, session: str = "", **headers: str) -> httpx.AsyncClient:
        """A browser with this cookie of the sign-in service."""
        cookie = {"Cookie": f"session={session}"} if session else {}
        return browser(self.url, self.certificate, {"Origin": self.url, **cookie, **headers})


Behind = Callable[..., AbstractAsyncContextManager[None]]

SITES: dict[str, tuple[Behind, str, str, int]] = {
    "nginx": (behind_nginx, "nginx/single-sign-on.conf", "X-Forwarded-User", 4180),
    "caddy": (behind_caddy, "caddy/single-sign-on.Caddyfile", "Remote-User", 9091),
}
"""The proxy, its site, the header, and the port of the sign-in service."""


def settings(url: str, header: str) -> str:
    people = 'allow = ["*"]\nadmins = ["root@example.com"]'
    return f'url = "{url}"\ntrusted_header = "{header}"\ntrusted_proxies = ["127.0.0.1"]\n{people}'


@asynccontextmanager
async def site(
    folder: Path, api: BotApi, models: ModelServer, behind: Behind, header: str, ports: dict[int, int], **more: Any
) -> AsyncIterator[Site]:
    models.respond(lambda _: Say("Hello."))
    port, certificate = free_port(), make_certificate(folder)
    url = f"https://{PUBLIC}:{port}"
    async with control_api(folder, api, models, web=settings(url, header)) as control:
        here = int(control.url.rpartition(":")[2])
        async with behind(folder, port, {8321: here, **ports}, certificate, **more):
            yield Site(url, control, certificate)


@pytest.fixture(params=SITES)
async def signed_on(
    request: pytest.FixtureRequest, tmp_path: Path, api: BotApi, models: ModelServer
) -> AsyncIterator[Site]:
    behind, file, header, port = SITES[request.param]
    async with (
        SignInService() as service,
        site(tmp_path, api, models, behind, header, {port: int(service.url.rpartition(":")[2])}, site=file) as made,
    ):
        yield made


async def test_whom_the_service_has_signed_in_uses_page_and_api(signed_on: Site) -> None:
    async with signed_on.browser("cookie-of-ann") as ann, signed_on.browser("cookie-of-root") as root:
        assert (await ann.get("/")).status_code == 200
        body = {"client_id": "message-1", "text": "hi"}
        sent = await ann.post("/api/v1/conversations/web:ann%2540example.com:a/messages?wait=30", json=body)
        assert (sent.status_code, sent.json()["result"]["text"]) == (200, "Hello.")
        sessions = [(await each.get("/api/v1/session")).json() for each in (ann, root)]
        seen = (await root.get("/api/v1/conversations")).json()["conversations"]
        assert (await ann.get("/metrics")).status_code == 404
    assert [(each["name"], each["scope"]) for each in sessions] == [
        ("ann@example.com", "chat"),
        ("root@example.com", "operate"),
    ]
    assert [each["id"] for each in seen] == ["web:ann%40example.com:a"]


@pytest.mark.parametrize("header", [*HEADERS, "X-Auth-Request-Email"])
async def test_nobody_names_themselves(signed_on: Site, header: str) -> None:
    key = (await signed_on.control.client.post("/keys", json={"name": "ci", "scope": "read"})).json()["secret"]
    claimed = {header: "root@example.com"}
    async with (
        signed_on.browser(**claimed) as nobody,
        signed_on.browser("cookie-of-ann", **claimed) as ann,
        signed_on.browser(**claimed, Authorization=f"Bearer {key}") as program,
        signed_on.browser(**claimed, Authorization="Bearer no-key") as stranger,
    ):
        assert (await nobody.get("/api/v1/session")).status_code in (302, 401)
        assert (await nobody.get("/")).headers.get("location") == "https://login.example.com/"
        assert (await ann.get("/api/v1/session")).json()["name"] == "ann@example.com"
        assert (await program.get("/api/v1/session")).json()["name"] == "ci"
        assert (await stranger.get("/api/v1/session")).status_code == 401
        # Paths that need no sign-in.
        assert (await nobody.get("/healthz")).status_code == 200
        assert (await nobody.get("/oauth/start")).status_code in (400, 401, 404)


@pytest.mark.parametrize("proxy", [behind_nginx, behind_caddy], ids=["nginx", "caddy"])
@pytest.mark.parametrize("header", HEADERS)
async def test_the_sites_without_single_sign_on_take_such_headers_out(
    tmp_path: Path, api: BotApi, models: ModelServer, proxy: Behind, header: str
) -> None:
    async with (
        site(tmp_path, api, models, proxy, header, {}) as plain,
        plain.browser(**{header: "root@example.com"}) as browser,
    ):
        assert (await browser.get("/api/v1/session")).status_code == 401
