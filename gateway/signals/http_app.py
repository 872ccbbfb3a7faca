"""/healthz, /readyz and /metrics, as an ASGI app without a framework: they answer before the web chat is loaded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.loading import load
from gateway.signals.metrics import Metrics, State

PATHS = ("/healthz", "/readyz", "/metrics")

JSON = "application/json"
NOT_AUTHORIZED = (
    "Send a key of the API with the scope operate, or the web chat's token, as a Bearer token; or set [metrics] "
    "public = true."
)


class SignalsApp:
    """`authorized` tells whether a Bearer token may read the metrics; None: everybody may. `state` is asked at each
    scrape, and `scraped` is told of it first."""

    def __init__(
        self,
        metrics: Metrics,
        readiness: Callable[[], Awaitable[Mapping[str, str]]],
        state: Callable[[], Awaitable[State]],
        scraped: Callable[[], None],
        authorized: Callable[[str], Awaitable[bool]] | None,
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._state = state
        self._scraped = scraped
        self._authorized = authorized
        self._expose: Callable[[], bytes] | None = None
        self._content_type = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = await self._answer(scope)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Any) -> tuple[int, str, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, JSON, _json({"error": "Only GET and HEAD are possible here."})
        match scope["path"]:
            case "/healthz":
                return 200, JSON, _json({"status": "alive"})
            case "/readyz":
                problems = await self._readiness()
                return (503 if problems else 200), JSON, _json({"ready": not problems, "problems": dict(problems)})
            case "/metrics":
                if self._authorized is not None and not await self._authorized(_bearer(scope)):
                    return 401, JSON, _json({"error": NOT_AUTHORIZED})
                return 200, *await self._scrape()
            case _:
                return 404, JSON, _json({"error": "There is no such page."})

    async def _scrape(self) -> tuple[str, bytes]:
        self._scraped()
        if self._expose is None:
            library = await load("gateway.signals.exposition")
            self._expose, self._content_type = library.Exposition(self._metrics.all), library.CONTENT_TYPE
        self._metrics.set(await self._state())
        return self._content_type, self._expose()


def _bearer(scope: Any) -> str:
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, token = header.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content).encode() + b"\n"
