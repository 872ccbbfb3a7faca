"""Revocation of tokens at the authorization server (RFC 7009), when somebody signs out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
from pydantic import ValidationError

from agent.mcp.account import Account
from agent.mcp.http import http_client, is_safe_page
from agent.mcp.oauth import AccountContent, AccountStorage, account_provider

TIMEOUT = 10.0
"""Seconds in which the server must have answered."""

NOT_OFFERED = "its authorization server offers no way to end it from here"
UNREACHABLE = "its authorization server cannot be reached"
REFUSED = "its authorization server has refused to end it (status {status})"


async def revoke(account: Account, content: Mapping[str, Any]) -> str:
    """Why the tokens of what was kept of the account may still be valid; "" if they are not."""
    try:
        found = AccountContent.model_validate(dict(content))
    except ValidationError:
        return NOT_OFFERED
    if found.tokens is None:
        return ""
    if found.metadata is None or found.metadata.revocation_endpoint is None or found.client is None:
        return NOT_OFFERED
    endpoint = str(found.metadata.revocation_endpoint)
    if not is_safe_page(endpoint):
        return NOT_OFFERED
    # The token with which new ones are got comes first: its end is that of the access for good.
    tokens = [
        (token, hint)
        for token, hint in (
            (found.tokens.refresh_token, "refresh_token"),
            (found.tokens.access_token, "access_token"),
        )
        if token
    ]
    context = account_provider(account, AccountStorage(account, found)).context
    context.client_info = found.client
    try:
        async with http_client({"Accept": "application/json"}, httpx2.Timeout(TIMEOUT)) as client:
            for token, hint in tokens:
                form, headers = context.prepare_token_auth(
                    {"token": token, "token_type_hint": hint, "client_id": found.client.client_id or ""}, {}
                )
                answer = await client.post(endpoint, data=form, headers=headers)
                # A token that is not known there is answered with 200 (section 2.2).
                if answer.status_code != 200:
                    return REFUSED.format(status=answer.status_code)
    except httpx2.HTTPError:
        return UNREACHABLE
    return ""
