"""A server that is told of events by webhooks, as strict as Standard Webhooks (https://www.standardwebhooks.com) asks.

    async with WebhookServer("whsec_...") as server:
        server.answer(503, 503)                # the next answers; afterwards 204
        event = await server.next("run.ended")

What comes with a wrong signature, an old timestamp or another form is refused with 400, and is in `refusals`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from aiohttp import web

MAX_AGE = 300


class WebhookServer:
    """`taken` are the events that were answered with a 2xx status, `seen` the ids of all requests, in order."""

    def __init__(self, secret: str) -> None:
        self.refusals: list[str] = []
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.seen: list[str] = []
        self._key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
        self._answers: deque[int] = deque()
        self._always: int | None = None
        self._changed = asyncio.Condition()
        app = web.Application()
        app.router.add_post("/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        self._site: web.TCPSite | None = None

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/told"

    def answer(self, *statuses: int, always: int | None = None) -> None:
        """The statuses of the next answers; then `always`, or 204."""
        self._answers.extend(statuses)
        self._always = always

    async def seen_at_least(self, count: int) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.seen) >= count)

    async def taken_at_least(self, count: int) -> None:
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.taken) >= count)

    async def next(self, type: str, *, besides: str = "") -> tuple[str, dict[str, Any]]:
        """The id and the body of the first taken event of this type, besides the one with that id."""

        def found() -> list[tuple[str, dict[str, Any]]]:
            return [(id, body) for id, body in self.taken if body["type"] == type and id != besides]

        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(found)
        return found()[0]

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if problem := self._problem(request, body):
            self.refusals.append(problem)
            return web.Response(status=400, text=problem)
        id = request.headers["webhook-id"]
        status = self._answers.popleft() if self._answers else self._always or 204
        async with self._changed:
            self.seen.append(id)
            if status < 300:
                self.taken.append((id, json.loads(body)))
            self._changed.notify_all()
        return web.Response(status=status)

    def _problem(self, request: web.Request, body: bytes) -> str:
        headers = request.headers
        if missing := {"webhook-id", "webhook-timestamp", "webhook-signature"} - {name.lower() for name in headers}:
            return f"headers are missing: {', '.join(sorted(missing))}"
        id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > MAX_AGE:
            return f"the timestamp {timestamp} is too old or too new"
        digest = hmac.digest(self._key, b".".join((id.encode(), timestamp.encode(), body)), hashlib.sha256)
        if f"v1,{base64.b64encode(digest).decode()}" not in headers["webhook-signature"].split(" "):
            return "the signature is wrong"
        if request.content_type != "application/json":
            return f"the content type is {request.content_type}"
        if set(json.loads(body)) != {"type", "timestamp", "data"}:
            return f"the body has other fields: {body!r}"
        return ""
