"""Who may send requests: checks of host and origin, and the caller of each request."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Protocol

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from channels.address import Sender
from channels.web.access_guard import Site, bearer_token
from channels.web.parse import OWNER
from gateway.api.caller import Caller
from gateway.api.limits import REQUESTS_PER_MINUTE, RequestRate
from gateway.api.problems import Problem
from gateway.inbound.api_keys import ApiKeys
from gateway.store.api_keys import SENDER
from gateway.store.errors import StoreError


class Callers(Protocol):
    """Finds who a secret belongs to."""

    async def find(self, secret: str) -> Caller | None: ...


class KeyCallers:
    """Those with a key of the API, and the owner of the web chat's token, who may do everything."""

    def __init__(self, token: Callable[[], str], keys: ApiKeys) -> None:
        self._token = token
        self._keys = keys

    async def find(self, secret: str) -> Caller | None:
        if hmac.compare_digest(secret.encode(), self._token().encode()):
            return Caller(OWNER, "admin")
        key = await self._keys.find(secret)
        if key is None:
            return None
        return Caller(Sender(f"{SENDER}{key.id}", key.name), key.scope, key.conversations, key.agents)


class Guard:
    """ASGI middleware: puts the caller into the scope, or refuses. `host` is the host that the server binds, `url` its
    public address behind a proxy."""

    def __init__(
        self, app: ASGIApp, callers: Callers, host: str, url: str = "", requests_per_minute: int = REQUESTS_PER_MINUTE
    ) -> None:
        self._app = app
        self._callers = callers
        self._site = Site(host, url)
        self._rate = RequestRate(requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope["caller"] = await self._caller(HTTPConnection(scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        except StoreError as error:
            failed = Problem(503, "store_failed", str(error), retry_after=5)
            await failed.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _caller(self, request: HTTPConnection) -> Caller:
        if not self._site.knows_host(request):
            raise Problem(403, "unknown_host", "Unknown host.")
        if not self._site.knows_origin(request):
            raise Problem(403, "foreign_origin", "Requests from other sites are not allowed.")
        for secret in self._secrets(request):
            caller = await self._callers.find(secret)
            if caller is not None:
                self._take(caller.sender.id)
                return caller
        self._take(f"nobody {request.client.host if request.client else ''}")
        raise Problem(401, "key_missing", "Send a valid key as a Bearer token: interject keys create makes one.")

    def _secrets(self, request: HTTPConnection) -> list[str]:
        """What the request may be signed in with: a Bearer token, or else the cookies of a browser."""
        given = bearer_token(request)
        if given is not None:
            return [given]
        names = (self._site.session_cookie(request), self._site.cookie_name(request))
        return [secret for name in names if (secret := request.cookies.get(name))]

    def _take(self, caller: str) -> None:
        if after := self._rate.take(caller):
            raise Problem(429, "too_many_requests", "Too many requests. Please slow down.", retry_after=after)
