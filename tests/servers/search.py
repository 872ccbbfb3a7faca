"""Search services on a local socket: Brave, Tavily, Exa and SearXNG, each strict as its documentation says.

They find the same pages, with markup as these services send it. Brave: https://api-dashboard.search.brave.com; Tavily:
https://docs.tavily.com; Exa: https://docs.exa.ai; SearXNG: https://docs.searxng.org/dev/search_api.html.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.local import LocalServer

KEY = "search-key-0123456789"

PAGES = [
    ("Tea &amp; cake", "https://tea.example/cake", "The <strong>best</strong> cake with tea\nis a sponge."),
    ("Not an address", "javascript:alert(1)", "never shown"),
    ("Coffee", "https://coffee.example/", "Beans " * 2_000),
]


@dataclass
class SearchServer(LocalServer):
    """`fail` answers every request with this status and these headers; `hangs` never answers."""

    fail: tuple[int, dict[str, str]] | None = None
    hangs: bool = False
    finds: bool = True
    json_allowed: bool = True
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._faults])
        app.router.add_get("/brave/web/search", self._brave)
        app.router.add_post("/tavily/search", self._tavily)
        app.router.add_post("/exa/search", self._exa)
        app.router.add_get("/searxng/search", self._searxng)
        return app

    @web.middleware
    async def _faults(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.arrived.set()
        if self.hangs:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.left.set()
        if self.fail is not None:
            status, headers = self.fail
            return web.json_response({"error": f"refused {KEY}"}, status=status, headers=headers)
        response: web.StreamResponse = await handler(request)
        return response

    async def _brave(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-Subscription-Token") != KEY:
            error = {"code": "SUBSCRIPTION_TOKEN_INVALID", "status": 422}
            return web.json_response({"type": "ErrorResponse", "error": error}, status=422)
        query, count = request.query["q"], int(request.query["count"])
        if len(query) > 400 or not 1 <= count <= 20:
            return web.json_response({"type": "ErrorResponse"}, status=422)
        self.asked.append(query)
        results = [
            {"title": title, "url": url, "description": text, "age": "May 1, 2026"} for title, url, text in PAGES
        ]
        web_section = {"web": {"type": "search", "results": results[: count + 1]}} if self.finds else {}
        return web.json_response({"type": "search", "query": {"original": query}, **web_section})

    async def _tavily(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"detail": {"error": "Unauthorized: missing or invalid API key."}}, status=401)
        body = await request.json()
        if set(body) - {"query", "max_results"} or not 0 <= body["max_results"] <= 20:
            return web.json_response({"detail": "unknown field"}, status=400)
        self.asked.append(body["query"])
        results = [{"title": title, "url": url, "content": text, "score": 0.9} for title, url, text in PAGES]
        return web.json_response({"query": body["query"], "results": results if self.finds else []})

    async def _exa(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("x-api-key") != KEY:
            return web.json_response({"error": "Invalid API key"}, status=401)
        body = await request.json()
        if set(body) - {"query", "numResults", "contents"} or not 1 <= body["numResults"] <= 100:
            return web.json_response({"error": "Invalid request body"}, status=400)
        self.asked.append(body["query"])
        results = [{"id": url, "title": title, "url": url, "highlights": [text]} for title, url, text in PAGES]
        return web.json_response({"results": results if self.finds else []})

    async def _searxng(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("format") != "json" or not self.json_allowed:
            return web.Response(status=403)
        self.asked.append(request.query["q"])
        results = [{"title": title, "url": url, "content": text, "engine": "x"} for title, url, text in PAGES]
        return web.json_response({"query": request.query["q"], "results": results if self.finds else []})
