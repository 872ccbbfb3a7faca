"""Who gets the page, over HTTP: a real server, real requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from channels.web.access_guard import Site
from channels.web.http_app import app
from tests.channels.web_gateway import TOKEN, Gateway, Served, served, token

FORMULA = {"formulas": [{"tex": "x"}]}


@pytest.fixture
async def site() -> AsyncIterator[Served]:
    async with served(Gateway()) as site:
        yield site


@asynccontextmanager
async def bound_to(host: str, named: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that binds this host, which it asks by this name."""
    transport = httpx.ASGITransport(app=app(token, Site(host)))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{named}", headers=headers) as client:
        yield client


async def test_the_printed_link_becomes_a_cookie_that_opens_the_page_and_the_api(site: Served) -> None:
    async with httpx.AsyncClient(base_url=site.url) as browser:
        assert (await browser.get("/")).status_code == 401
        let_in = await browser.get(f"/?token={TOKEN}")
        assert (let_in.status_code, let_in.headers["location"]) == (303, "/")
        cookie = let_in.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = await browser.get("/")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        assert (await browser.get("/api/v1/session")).status_code == 200
        assert "<math" in (await browser.post("/page/formulas", json=FORMULA)).json()["mathml"][0]


async def test_without_the_token_the_page_says_what_to_do_and_nothing_is_computed(site: Served) -> None:
    async with httpx.AsyncClient(base_url=site.url) as stranger:
        assert "Open the link" in (await stranger.get("/")).text
        assert (await stranger.get("/?token=wrong")).status_code == 401
        refused = await stranger.post("/page/formulas", json=FORMULA, headers={"Authorization": "Bearer wrong"})
        assert (refused.status_code, "link" in refused.json()["error"]) == (401, True)
        assert (await stranger.get("/page/style.css")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7", ""])
async def test_a_foreign_host_name_is_refused_so_that_rebinding_reads_nothing(site: Served, host: str) -> None:
    async with site.client(Host=host) as client:
        for path in ("/", "/page/app.js", "/api/v1/conversations?channel=web"):
            assert (await client.get(path)).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:9"])
async def test_loopback_names_are_answered(site: Served, host: str) -> None:
    async with site.client(Host=host) as client:
        for path in ("/", "/api/v1/conversations?channel=web"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("host", "named", "status"),
    [
        ("box.lan", "box.lan:8321", 200),
        ("0.0.0.0", "192.168.1.7:8321", 200),
        ("0.0.0.0", "evil.example", 403),
    ],
)
async def test_the_bound_host_is_answered_and_any_ip_when_all_are(host: str, named: str, status: int) -> None:
    async with bound_to(host, named) as client:
        assert (await client.get("/")).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_foreign_page_can_not_post(site: Served, origin: str) -> None:
    message = {"client_id": "client-0001", "text": "hi"}
    async with site.client(Origin=origin) as client:
        assert (await client.post("/api/v1/conversations/web:local:c1/messages", json=message)).status_code == 403
        assert (await client.post("/page/formulas", json=FORMULA)).status_code == 403
    assert site.gateway.heard == []
    async with site.client(Origin=site.url) as client:
        assert (await client.post("/api/v1/conversations/web:local:c1/messages", json=message)).status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"formulas": [{}]}', b'{"formulas": [], "more": 1}'])
async def test_what_is_no_formula_is_refused_in_words(site: Served, body: bytes) -> None:
    async with site.client() as client:
        refused = await client.post("/page/formulas", content=body, headers={"Content-Type": "application/json"})
    assert (refused.status_code, bool(refused.json()["error"])) == (422, True)


async def test_there_is_nothing_else_to_find(site: Served) -> None:
    async with site.client() as client:
        for path in (
            "/docs",
            "/openapi.json",
            "/page/../app.py",
            "/page/%2e%2e/app.py",
            "/page/",
            "/nothing",
            "/media/x/y",
        ):
            answer = await client.get(path)
            assert (answer.status_code, bool(answer.json()["error"])) == (404, True)
        for path in ("/api/conversations", "/api/runs/x"):
            assert (await client.get(path)).status_code == 404
