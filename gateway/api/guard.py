"""Who may send requests: checks of host and origin, and the caller of each request."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from channels.address import Sender
from channels.web.access_guard import Site, bearer_token
from channels.web.parse import OWNER
from channels.web.trusted_proxy import BadIdentity
from gateway.api.caller import Caller
from gateway.api.ids import conversation_id
from gateway.api.limits import REQUESTS_PER_MINUTE, RequestRate
from gateway.api.problems import Problem
from gateway.inbound.api_keys import ApiKeys
from gateway.inbound.logins import Logins
from gateway.store.api_keys import SENDER
from gateway.store.errors import StoreError
from gateway.store.records import ApiKeyScope
from gateway.store.web_sessions import PREFIX

CHECK_EVERY = 1.0
"""Seconds for which a stream is sent without asking again whether its caller still has access."""


class _AccessEnded(Exception):
    """The caller of a stream has no access any more."""


SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class Callers(Protocol):
    async def find(self, secret: str) -> Caller | None:
        """Whom the secret belongs to."""

    async def find_person(self, name: str) -> Caller | None:
        """Whom a trusted proxy names so; None if they are not admitted."""


class KeyCallers:
    """Those with a key of the API, and the owner of the web chat's token, who may do everything."""

    def __init__(self, token: Callable[[], Awaitable[str]], keys: ApiKeys) -> None:
        self._token = token
        self._keys = keys

    async def find(self, secret: str) -> Caller | None:
        if hmac.compare_digest(secret.encode(), (await self._token()).encode()):
            return Caller(OWNER, "admin")
        key = await self._keys.find(secret)
        if key is None:
            return None
        return Caller(Sender(f"{SENDER}{key.id}", key.name), key.scope, key.conversations, key.agents)


class SignedInCallers:
    """Those with a key, and people who are signed in, with their roles. Admins act for everybody on their channel.
    Others of a chat platform act in the conversations in which they have written, and guests only read there. Others
    of the web channel have conversations of their own."""

    def __init__(self, keys: KeyCallers, logins: Logins) -> None:
        self._keys = keys
        self._logins = logins

    async def find(self, secret: str) -> Caller | None:
        if not secret.startswith(PREFIX):
            return await self._keys.find(secret)
        found = await self._logins.find(secret)
        if found is None:
            return None
        channel, sender = found.channel, found.sender
        if found.role == "admin":
            return Caller(sender, "operate", (f"{quote(channel, safe='')}:*",), channel=channel)
        own = await self._logins.conversations(channel, sender.id)
        scope: ApiKeyScope = "chat" if found.role == "member" else "read"
        return Caller(sender, scope, tuple(map(conversation_id, own)), channel=channel)

    async def find_person(self, name: str) -> Caller | None:
        found = self._logins.by_proxy(name)
        if found is None:
            return None
        account = found.sender.id
        is_admin = found.role == "admin"
        names = ("*",) if is_admin else tuple(f"{quote(each, safe='')}:*" for each in found.accounts)
        own = tuple(f"{found.channel}:{name}" for name in names)
        scope: ApiKeyScope = "operate" if is_admin else "chat"
        return Caller(found.sender, scope, own, channel=found.channel, account=account)


class Guard:
    """ASGI middleware: puts the caller into the scope, or refuses. `refusal` is the answer to a request that is
    refused."""

    def __init__(
        self,
        app: ASGIApp,
        callers: Callers,
        site: Site,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        refusal: Callable[[Problem], Response] = Problem.response,
    ) -> None:
        self._app = app
        self._refusal = refusal
        self._callers = callers
        self._site = site
        self._rate = RequestRate(requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        try:
            scope["caller"] = await self._caller(request)
        except Problem as problem:
            await self._refusal(problem)(scope, receive, send)
            return
        except StoreError as error:
            failed = Problem(503, "store_failed", str(error), retry_after=5)
            await self._refusal(failed)(scope, receive, send)
            return
        with suppress(_AccessEnded):
            await self._app(scope, receive, self._while_admitted(request, send))

    def _while_admitted(self, request: HTTPConnection, send: Send) -> Send:
        """Ends an event stream whose caller has no access any more, or less than when it began."""
        checked_at = time.monotonic()
        caller = request.scope["caller"]

        async def send_while_admitted(message: Message) -> None:
            nonlocal checked_at
            if message.get("more_body") and time.monotonic() - checked_at > CHECK_EVERY:
                checked_at, found = time.monotonic(), None
                with suppress(Problem):
                    found = await self._find(request)
                if found is None or not found.covers(caller):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    raise _AccessEnded
            await send(message)

        return send_while_admitted

    async def _caller(self, request: HTTPConnection) -> Caller:
        if not self._site.knows_host(request):
            raise Problem(403, "unknown_host", "Unknown host.")
        if not self._site.knows_origin(request):
            raise Problem(403, "foreign_origin", "Requests from other sites are not allowed.")
        caller = await self._find(request)
        self._take(f"nobody {request.client.host if request.client else ''}" if caller is None else caller.actor)
        if caller is None:
            detail = "Send a valid key as a Bearer token: interject keys create makes one."
            raise Problem(401, "key_missing", detail, headers={"WWW-Authenticate": "Bearer"})
        return caller

    async def _find(self, request: HTTPConnection) -> Caller | None:
        """By a Bearer token, or else by what a browser sends of itself: what a proxy says of it goes before cookies."""
        given = bearer_token(request)
        caller = None if given is None else await self._callers.find(given)
        if caller is not None:
            return caller
        try:
            name = self._site.proxies.person(request)
        except BadIdentity as error:
            raise Problem(400, "identity_invalid", str(error)) from error
        if name is not None:
            return await self._find_person(request, name)
        return await self._find_by_cookie(request) if given is None else None

    async def _find_person(self, request: HTTPConnection, name: str) -> Caller:
        if request.scope["method"] not in SAFE and not self._site.is_from_its_page(request):
            raise Problem(
                403,
                "foreign_origin",
                "People whom a proxy signs in send this from a page of this server: a browser says so in Origin or "
                "Sec-Fetch-Site. Programs send a key.",
            )
        caller = await self._callers.find_person(name)
        if caller is None:
            raise Problem(
                403, "not_admitted", f'"{name}" may not write to the agent. The operator adds them to allow in [web].'
            )
        return caller

    async def _find_by_cookie(self, request: HTTPConnection) -> Caller | None:
        for name in (self._site.session_cookie(request), self._site.cookie_name(request)):
            secret = request.cookies.get(name)
            caller = await self._callers.find(secret) if secret else None
            if caller is not None:
                return caller
        return None

    def _take(self, caller: str) -> None:
        if after := self._rate.take(caller):
            raise Problem(429, "too_many_requests", "Too many requests. Please slow down.", retry_after=after)
