"""Signing in with a code on another device (RFC 8628, device authorization grant), where no browser could come back.

The SDK's client knows no such sign-in, and its metadata leave its endpoint out: what the servers say of themselves
(RFC 9728, RFC 8414) is read here. Tokens are kept and refreshed as those of any other sign-in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Annotated, Any

import httpx2
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
    get_client_metadata_scopes,
    validate_metadata_issuer,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthMetadata, OAuthToken, ProtectedResourceMetadata
from pydantic import BaseModel, Field

from agent.gate import one_line
from agent.interrupt import cancel_and_wait
from agent.mcp.account import CLIENT_NAME, Account, Link
from agent.mcp.errors import McpError
from agent.mcp.http import http_client, is_safe_page
from agent.mcp.oauth import (
    HEADERS,
    PROBE,
    SEND_BACK_TO,
    AccountContent,
    AccountStorage,
    account_provider,
    configured_client,
    sign_in_errors,
)

GRANT = "urn:ietf:params:oauth:grant-type:device_code"

DEFAULT_INTERVAL = 5.0
"""Seconds between two questions, unless the server names them (RFC 8628, section 3.2)."""

SLOWER = 5.0
"""Seconds by which "slow_down" makes that longer (section 3.5)."""

MAX_INTERVAL = 60.0
MAX_CODE = 40


class _Metadata(OAuthMetadata):
    device_authorization_endpoint: str | None = None


class _Device(BaseModel):
    """The answer of the device authorization endpoint (section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: Annotated[float, Field(gt=0)]
    interval: Annotated[float, Field(ge=0)] = DEFAULT_INTERVAL


async def sign_in_with_code(account: Account, link: Link, *, slower: float = SLOWER) -> None:
    """Signs a person in, who is shown an address and a code. `slower` is in seconds. Raises `McpError` with why it
    did not work."""
    with sign_in_errors():
        async with http_client(HEADERS, httpx2.Timeout(30.0)) as client:
            await _sign_in(client, account, link, slower)


async def _sign_in(client: httpx2.AsyncClient, account: Account, link: Link, slower: float) -> None:
    refusal = await client.post(account.url, json=PROBE)
    if refusal.status_code not in (401, 403):
        raise McpError("the server does not ask for a sign-in")
    resource = await _resource(client, account.url, refusal)
    metadata = await _metadata(client, account.url, resource)
    endpoint = metadata.device_authorization_endpoint
    if endpoint is None or not is_safe_page(endpoint) or not is_safe_page(str(metadata.token_endpoint)):
        raise McpError(link.without_code)
    scope = account.client.scope or get_client_metadata_scopes(
        extract_scope_from_www_auth(refusal), resource, metadata, ["refresh_token"]
    )
    known = configured_client(account, SEND_BACK_TO) or await _registered(client, metadata, scope)
    storage = AccountStorage(account, AccountContent(client=known))
    context = account_provider(account, storage).context
    context.oauth_metadata, context.protected_resource_metadata, context.client_info = metadata, resource, known
    about = {"client_id": known.client_id, "resource": context.get_resource_url()}
    device = await _begun(client, endpoint, about | ({"scope": scope} if scope else {}), known)
    await link.show_code(_page(device), one_line(device.user_code, MAX_CODE), device.expires_in)
    form = about | _secret(known) | {"grant_type": GRANT, "device_code": device.device_code}
    tokens = await _until_ended(_poll(client, str(metadata.token_endpoint), device, form, slower), link)
    context.update_token_expiry(tokens)
    context.current_tokens = tokens
    await storage.set_tokens(tokens)


def _page(device: _Device) -> str:
    """The page with the code filled in, if there is one."""
    page = device.verification_uri_complete or device.verification_uri
    if not is_safe_page(page):
        raise McpError("its sign-in page is not at an https address")
    return page


async def _resource(client: httpx2.AsyncClient, url: str, refusal: httpx2.Response) -> ProtectedResourceMetadata | None:
    named = extract_resource_metadata_from_www_auth(refusal)
    for place in build_protected_resource_metadata_discovery_urls(named, url):
        answer = await client.get(place)
        if answer.status_code == 200:
            return ProtectedResourceMetadata.model_validate_json(answer.content)
    return None


async def _metadata(client: httpx2.AsyncClient, url: str, resource: ProtectedResourceMetadata | None) -> _Metadata:
    """What the authorization server says of itself. Raises `McpError`."""
    issuer = str(resource.authorization_servers[0]) if resource and resource.authorization_servers else None
    for place in build_oauth_authorization_server_metadata_discovery_urls(issuer, url):
        answer = await client.get(place)
        if answer.status_code == 200:
            about: Any = answer.json()
            if isinstance(about, dict):
                # A server without pages for browsers that come back has none; nobody is sent there.
                about.setdefault("authorization_endpoint", about.get("issuer"))
            metadata = _Metadata.model_validate(about)
            if issuer is not None:
                validate_metadata_issuer(metadata, issuer)
            return metadata
    raise McpError("its authorization server does not say how to sign in")


async def _registered(client: httpx2.AsyncClient, metadata: _Metadata, scope: str | None) -> OAuthClientInformationFull:
    """A client that the server has registered now (RFC 7591). Raises `McpError` if it does not register any."""
    if metadata.registration_endpoint is None:
        raise McpError(
            "its authorization server does not register clients. Set client_id in the settings of the server"
        )
    wanted: dict[str, Any] = {
        "client_name": CLIENT_NAME,
        "grant_types": [GRANT, "refresh_token"],
        "response_types": [],
        "redirect_uris": [],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
    }
    answer = await client.post(str(metadata.registration_endpoint), json=wanted | ({"scope": scope} if scope else {}))
    if answer.status_code not in (200, 201):
        raise McpError(f"signing in did not work: this client is not registered (status {answer.status_code})")
    return OAuthClientInformationFull.model_validate_json(answer.content)


async def _begun(
    client: httpx2.AsyncClient, endpoint: str, about: dict[str, str], known: OAuthClientInformationFull
) -> _Device:
    answer = await client.post(endpoint, data=about | _secret(known))
    if answer.status_code != 200:
        raise McpError(f"signing in did not work: {_error(answer) or f'status {answer.status_code}'}")
    return _Device.model_validate_json(answer.content)


async def _until_ended(polling: Coroutine[Any, Any, OAuthToken], link: Link) -> OAuthToken:
    """The tokens, unless the link ends first, as when a newer one was sent. Raises `McpError`."""
    asking, ended = asyncio.ensure_future(polling), asyncio.ensure_future(link.returned())
    try:
        done, _ = await asyncio.wait((asking, ended), return_when=asyncio.FIRST_COMPLETED)
        if asking not in done:
            ended.result()
            raise McpError("the sign-in has ended")
        return asking.result()
    finally:
        await cancel_and_wait(asking, ended)


async def _poll(
    client: httpx2.AsyncClient, endpoint: str, device: _Device, form: dict[str, str], slower: float
) -> OAuthToken:
    """Asks as often as the server allows (section 3.5). Raises `McpError`."""
    until, interval = time.monotonic() + device.expires_in, device.interval
    while time.monotonic() < until:
        await asyncio.sleep(interval)
        try:
            answer = await client.post(endpoint, data=form)
        except httpx2.TimeoutException:
            interval = min(2 * interval + 1, MAX_INTERVAL)
            continue
        if answer.status_code == 200:
            return OAuthToken.model_validate_json(answer.content)
        match _error(answer):
            case "authorization_pending":
                pass
            case "slow_down":
                interval = min(interval + slower, MAX_INTERVAL)
            case "access_denied":
                raise McpError("the sign-in was refused (access denied)")
            case "expired_token":
                break
            case "" if answer.status_code == 429 or answer.status_code >= 500:
                interval = min(2 * interval + 1, MAX_INTERVAL)
            case error:
                raise McpError(f"signing in did not work: {error or f'status {answer.status_code}'}")
    raise McpError("nobody has entered the code in time")


def _error(answer: httpx2.Response) -> str:
    """The error of OAuth in it; "" if there is none."""
    try:
        found = answer.json()
    except ValueError:
        return ""
    return one_line(found.get("error") or "", 100) if isinstance(found, dict) else ""


def _secret(known: OAuthClientInformationFull) -> dict[str, str]:
    return {} if known.client_secret is None else {"client_secret": known.client_secret}
