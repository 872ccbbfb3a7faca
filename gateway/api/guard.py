"""Who may send requests: checks of host and origin, and the caller of each request."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from channels.web.access_guard import Site, bearer_token
from channels.web.parse import OWNER
from gateway.api.caller import Caller
from gateway.api.problems import Problem


class Callers(Protocol):
    """Finds who a secret belongs to."""

    async def find(self, secret: str) -> Caller | None: ...


class OwnerOnly:
    """The web chat's token, whose owner may do everything."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    async def find(self, secret: str) -> Caller | None:
        return Caller(OWNER, "admin") if hmac.compare_digest(secret.encode(), self._token().encode()) else None


class Guard:
    """ASGI middleware: puts the caller into the scope, or refuses. `host` is the host that the server binds, `url` its
    public address behind a proxy."""

    def __init__(self, app: ASGIApp, callers: Callers, host: str, url: str = "") -> None:
        self._app = app
        self._callers = callers
        self._site = Site(host, url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["caller"] = await self._caller(HTTPConnection(scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _caller(self, request: HTTPConnection) -> Caller:
        if not self._site.knows_host(request):
            raise Problem(403, "unknown_host", "Unknown host.")
        if not self._site.knows_origin(request):
            raise Problem(403, "foreign_origin", "Requests from other sites are not allowed.")
        secret = bearer_token(request) or request.cookies.get(self._site.cookie_name(request)) or ""
        caller = await self._callers.find(secret) if secret else None
        if caller is None:
            raise Problem(401, "key_missing", "Send a valid key as a Bearer token: interject keys create makes one.")
        return caller
