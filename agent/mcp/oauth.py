"""Signing in at MCP servers (OAuth 2.1), over the SDK's client: discovery, registration, PKCE, and refreshed tokens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

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
from agent.interrupt import shielded
from agent.mcp.account import CLIENT_NAME, Account, Link
from agent.mcp.errors import McpError
from agent.mcp.http import http_client, is_safe_page

# It logs failures with the codes and states in them; they are told as errors here.
logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL)

PROTOCOL = "2025-06-18"
"""The version of the protocol since which tokens are for one server (RFC 8707)."""

SEND_BACK_TO = "http://127.0.0.1/oauth/callback"
"""Of a client that only refreshes: nobody is sent there."""

HEADERS = {"Accept": "application/json, text/event-stream", MCP_PROTOCOL_VERSION_HEADER: PROTOCOL}

PROBE = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
"""A request that a server with sign-in refuses, which begins the sign-in."""


class KeptAccount(BaseModel):
    """The content of an account's file. `expires_at` is in seconds since 1970."""

    tokens: OAuthToken | None = None
    expires_at: float | None = None
    client: OAuthClientInformationFull | None = None
    metadata: OAuthMetadata | None = None
    resource: ProtectedResourceMetadata | None = None


class AccountStorage:
    """What the SDK keeps. Implements `mcp.client.auth.TokenStorage`.

    A new one-time refresh token is on disk before it is used, also if the request that got it is cancelled.
    """

    def __init__(self, account: Account, kept: KeptAccount) -> None:
        self._account = account
        self.kept = kept
        self.provider: OAuthClientProvider | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.kept.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        assert self.provider is not None
        context = self.provider.context
        self.kept = KeptAccount(
            tokens=tokens,
            expires_at=context.token_expiry_time,
            client=context.client_info,
            metadata=context.oauth_metadata,
            resource=context.protected_resource_metadata,
        )
        kept = self.kept.model_dump(mode="json", exclude_none=True)
        await shielded(asyncio.to_thread(self._account.write, kept))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.kept.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Written with the tokens."""


class AccountAuth(httpx2.Auth):
    """Signs the requests of a connection with the account's token, and refreshes it. Nobody is asked to sign in: a
    server that wants more than there is gets its own answer, and the account counts as refused."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._provider = account_provider(account, AccountStorage(account, _read(account)))

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        context = self._provider.context
        for is_last in (False, True):
            flow = self._provider.async_auth_flow(request)
            try:
                # What comes before the request itself refreshes the token. What would come after it is a sign-in.
                outgoing = await anext(flow)
                while outgoing is not request:
                    response = yield outgoing
                    if response.status_code == 429 or response.status_code >= 500:
                        raise httpx2.RemoteProtocolError("the authorization server does not work at the moment")
                    outgoing = await flow.asend(response)
            finally:
                await flow.aclose()
            used = context.current_tokens
            response = yield request
            if response.status_code != 401:
                return
            if is_last or not context.can_refresh_token():
                self._account.refused = True
                return
            if context.current_tokens is used:
                # It was revoked, or is older than it said.
                context.token_expiry_time = 1.0


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

    storage = AccountStorage(account, KeptAccount(client=configured_client(account, redirect_uri)))
    provider = account_provider(account, storage, redirect_uri, link.document)
    provider.context.redirect_handler, provider.context.callback_handler = show, returned
    with sign_in_errors():
        async with (
            http_client(HEADERS, httpx2.Timeout(30.0)) as client,
            client.stream("POST", account.url, json=PROBE, auth=provider),
        ):
            pass
    if storage.kept.tokens is None:
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
    except OSError as error:
        raise McpError(f"the sign-in cannot be stored: {error.strerror or error}") from error


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
    storage.provider, kept, context = provider, storage.kept, provider.context
    # The SDK keeps tokens only; without these it would not know where and when to refresh them.
    context.oauth_metadata, context.protected_resource_metadata = kept.metadata, kept.resource
    context.token_expiry_time = kept.expires_at
    return provider


def _read(account: Account) -> KeptAccount:
    try:
        return KeptAccount.model_validate(account.read())
    except ValidationError:
        return KeptAccount()


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
