"""Signing in at MCP servers (OAuth 2.1), over the SDK's client: discovery, registration, PKCE, and refreshed tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.utils import is_valid_client_metadata_url
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from pydantic import AnyUrl, BaseModel, ValidationError

from agent.gate import one_line
from agent.mcp.account import CLIENT_NAME, Account, KeptAccount, Link
from agent.mcp.errors import AccountsUnavailable, McpError
from agent.mcp.http import http_client, is_safe_page

log = logging.getLogger(__name__)

# It logs failures with the codes and states in them; they are told as errors here.
logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL)

PROTOCOL = "2025-06-18"
"""The version of the protocol since which tokens are for one server (RFC 8707)."""

SEND_BACK_TO = "http://127.0.0.1/oauth/callback"
"""Of a client that only refreshes: nobody is sent there."""

HEADERS = {"Accept": "application/json, text/event-stream", MCP_PROTOCOL_VERSION_HEADER: PROTOCOL}

PROBE = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
"""A request that a server with sign-in refuses, which begins the sign-in."""


REFRESH_TIMEOUT = 20.0
"""Seconds in which the authorization server must have answered with new tokens; less than others wait for that."""

STORE_PATIENCE = 60.0
STORE_PAUSE = 0.5
"""For so many seconds it is tried to store new tokens, with this pause: those from before are of no use any more."""

MAX_ATTEMPTS = 3
"""Attempts for one request with other tokens, which other processes may have got."""


class AccountContent(BaseModel):
    """What is kept of an account. `expires_at` is in seconds since 1970; `sign_in` is another one for each sign-in."""

    tokens: OAuthToken | None = None
    expires_at: float | None = None
    client: OAuthClientInformationFull | None = None
    metadata: OAuthMetadata | None = None
    resource: ProtectedResourceMetadata | None = None
    sign_in: str = ""


class AccountStorage:
    """What the SDK keeps. Implements `mcp.client.auth.TokenStorage`.

    With `over`, tokens are stored only if that version is still there: they come from tokens in it.
    """

    def __init__(self, account: Account, content: AccountContent, over: str | None = None) -> None:
        self._account = account
        self._over = over
        self.content = content
        self.provider: OAuthClientProvider | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.content.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        assert self.provider is not None
        context = self.provider.context
        self.content = AccountContent(
            tokens=tokens,
            expires_at=context.token_expiry_time,
            client=context.client_info,
            metadata=context.oauth_metadata,
            resource=context.protected_resource_metadata,
            sign_in=self.content.sign_in or uuid4().hex,
        )
        content = self.content.model_dump(mode="json", exclude_none=True)
        until = time.monotonic() + (0.0 if self._over is None else STORE_PATIENCE)
        while True:
            try:
                await self._account.write(content, over=self._over)
                return
            except AccountsUnavailable as error:
                if time.monotonic() > until:
                    raise
                log.warning("MCP server %s: %s; trying again", self._account.key.server, error)
                await asyncio.sleep(STORE_PAUSE)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.content.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Written with the tokens."""


class AccountAuth(httpx2.Auth):
    """Signs the requests of a connection with the account's token, which is refreshed by one process at a time. Nobody
    is asked to sign in: a server that wants more than there is gets its own answer, and the account counts as
    refused."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._content: AccountContent | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        with _as_http_errors():
            content = self._content or content_of(await self._account.read())
            if _has_ended(content) and _can_refresh(content):
                content = await self._renewed(content, request)
        for attempt in range(MAX_ATTEMPTS):
            self._content = content
            if content.tokens is not None:
                request.headers["Authorization"] = f"Bearer {content.tokens.access_token}"
            response = yield request
            if response.status_code != 401:
                return
            if not _can_refresh(content) or attempt == MAX_ATTEMPTS - 1:
                break
            # It was revoked, or is older than it said.
            with _as_http_errors():
                content = await self._renewed(content, request)
            if content.tokens is None:
                break
        self._content = None
        self._account.refused = True

    async def _renewed(self, used: AccountContent, request: httpx2.Request) -> AccountContent:
        """The account with other tokens than these; without tokens, if there are none any more."""
        assert used.tokens is not None
        version = request.headers.get(MCP_PROTOCOL_VERSION_HEADER)
        await self._account.once(used.tokens.access_token, lambda: refresh(self._account, used, version))
        content = content_of(await self._account.read())
        return AccountContent() if content.tokens == used.tokens else content


async def refresh(account: Account, used: AccountContent, protocol: str | None) -> None:
    """Gets new tokens for the account, unless it has others than those that were `used`. It has the same ones if the
    authorization server refuses them. Raises `httpx2.HTTPError`, and `AccountsUnavailable`."""
    async with account.alone():
        kept = await account.read()
        content = content_of(kept)
        if kept is None or content.tokens != used.tokens or not _can_refresh(content):
            return
        storage = AccountStorage(account, content, kept.version)
        provider = account_provider(account, storage)
        provider.context.token_expiry_time = 1.0
        headers = {} if protocol is None else {MCP_PROTOCOL_VERSION_HEADER: protocol}
        request = httpx2.Request("POST", account.url, headers=headers)
        flow = provider.async_auth_flow(request)
        try:
            async with http_client(timeout=httpx2.Timeout(REFRESH_TIMEOUT)) as client:
                # What comes before the request itself refreshes the token. What would come after it is a sign-in.
                outgoing = await anext(flow)
                while outgoing is not request:
                    outgoing = await flow.asend(await _answer(client, outgoing))
        finally:
            await flow.aclose()


async def _answer(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """Raises `httpx2.HTTPError`, also if the authorization server cannot answer at the moment."""
    try:
        async with asyncio.timeout(REFRESH_TIMEOUT):
            response = await client.send(request)
    except TimeoutError:
        raise httpx2.ReadTimeout("the authorization server does not answer", request=request) from None
    if response.status_code == 429 or response.status_code >= 500:
        raise httpx2.RemoteProtocolError("the authorization server does not work at the moment")
    return response


def content_of(kept: KeptAccount | None) -> AccountContent:
    """Without tokens if there are none, or if what is kept cannot be read any more."""
    try:
        return AccountContent() if kept is None else AccountContent.model_validate(dict(kept.content))
    except ValidationError:
        return AccountContent()


def _can_refresh(content: AccountContent) -> bool:
    return content.tokens is not None and bool(content.tokens.refresh_token) and content.client is not None


def _has_ended(content: AccountContent) -> bool:
    return content.expires_at is not None and time.time() > content.expires_at


@contextmanager
def _as_http_errors() -> Iterator[None]:
    """What goes wrong with accounts, as the client of a connection expects it."""
    try:
        yield
    except AccountsUnavailable as error:
        raise httpx2.RemoteProtocolError(str(error)) from error


async def sign_in_in_browser(account: Account, link: Link, redirect_uri: str) -> None:
    """Signs a person in, who is shown the page of the authorization server and comes back from there. Raises
    `McpError` with why it did not work."""

    async def show(url: str) -> None:
        if not is_safe_page(url):
            raise McpError("its sign-in page is not at an https address")
        await link.show(url)

    async def returned() -> AuthorizationCodeResult:
        callback = await link.returned()
        return AuthorizationCodeResult(code=callback.code, state=callback.state, iss=callback.issuer)

    storage = AccountStorage(account, AccountContent(client=configured_client(account, redirect_uri)))
    provider = account_provider(account, storage, redirect_uri, link.document)
    provider.context.redirect_handler, provider.context.callback_handler = show, returned
    with sign_in_errors():
        async with (
            http_client(HEADERS, httpx2.Timeout(30.0)) as client,
            client.stream("POST", account.url, json=PROBE, auth=provider),
        ):
            pass
    if storage.content.tokens is None:
        raise McpError("the server does not ask for a sign-in")


@contextmanager
def sign_in_errors() -> Iterator[None]:
    """Raises what goes wrong with a sign-in as `McpError`."""
    try:
        yield
    except (OAuthFlowError, ValidationError, ValueError) as error:
        problem = one_line(error, 300) if isinstance(error, OAuthFlowError) else "its answer breaks the protocol"
        raise McpError(f"signing in did not work: {problem}") from error
    except httpx2.HTTPError as error:
        raise McpError(f"signing in did not work: it cannot be reached ({type(error).__name__})") from error


def account_provider(
    account: Account, storage: AccountStorage, redirect_uri: str = SEND_BACK_TO, document: str | None = None
) -> OAuthClientProvider:
    metadata = OAuthClientMetadata(
        redirect_uris=[AnyUrl(redirect_uri)],
        client_name=CLIENT_NAME,
        scope=account.client.scope or None,
        application_type="native" if urlsplit(redirect_uri).scheme == "http" else "web",
    )
    document = document if document is not None and is_valid_client_metadata_url(document) else None
    provider = OAuthClientProvider(account.url, metadata, storage, client_metadata_url=document)
    storage.provider, content, context = provider, storage.content, provider.context
    # The SDK keeps tokens only; without these it would not know where and when to refresh them.
    context.oauth_metadata, context.protected_resource_metadata = content.metadata, content.resource
    context.token_expiry_time = content.expires_at
    return provider


def configured_client(account: Account, redirect_uri: str) -> OAuthClientInformationFull | None:
    client = account.client
    if not client.client_id:
        return None
    return OAuthClientInformationFull(
        client_id=client.client_id,
        client_secret=client.client_secret or None,
        token_endpoint_auth_method="client_secret_post" if client.client_secret else "none",
        redirect_uris=[AnyUrl(redirect_uri)],
    )
