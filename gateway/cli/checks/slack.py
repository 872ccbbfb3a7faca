"""Checks of a Slack app: its bot token, its scopes, and its app-level token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from config.channels import SlackSettings
from gateway.cli.checks.result import CheckResult

SLACK_SCOPES = (
    "app_mentions:read",
    "assistant:write",
    "channels:history",
    "channels:read",
    "chat:write",
    "commands",
    "files:read",
    "files:write",
    "groups:history",
    "groups:read",
    "im:history",
    "im:read",
    "im:write",
    "mpim:history",
    "mpim:read",
    "reactions:write",
    "usergroups:read",
    "users:read",
)
"""The scopes that the bot token needs; docs/reference/slack-manifest.yaml asks for the same."""

_TOKEN_ERRORS = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
"""https://docs.slack.dev/reference/methods/auth.test#errors"""


async def check_slack(client: httpx.AsyncClient, name: str, channel: SlackSettings) -> list[CheckResult]:
    """Raises `httpx.HTTPError`; ValueError, LookupError or TypeError when it is not Slack's API that responds."""
    return [*await _check_bot_token(client, name, channel), await _check_connection(client, name, channel)]


async def _check_bot_token(client: httpx.AsyncClient, name: str, channel: SlackSettings) -> list[CheckResult]:
    part = f"{name} bot token"
    response = await _call(client, channel.api_url, channel.bot_token.get_secret_value(), "auth.test")
    if response.error:
        advice = "get the Bot User OAuth Token from OAuth & Permissions"
        return [CheckResult(part, False, _describe(response.error, advice))]
    bot = response.body
    if not bot.get("bot_id"):
        text = "this is a user token; the bot token begins with xoxb-, see OAuth & Permissions"
        return [CheckResult(part, False, text)]
    token = CheckResult(part, True, f"valid, the bot is @{bot['user']} in the workspace {bot['team']}")
    return [token, _check_scopes(name, response.scopes)]


def _check_scopes(name: str, scopes: frozenset[str]) -> CheckResult:
    part = f"{name} scopes"
    missing = [scope for scope in SLACK_SCOPES if scope not in scopes]
    if not scopes:
        return CheckResult(part, True, "not reported by Slack")
    if not missing:
        return CheckResult(part, True, "the token has all required scopes")
    advice = "Add them under OAuth & Permissions, then reinstall the app"
    return CheckResult(part, False, f"missing: {', '.join(missing)}. {advice}")


async def _check_connection(client: httpx.AsyncClient, name: str, channel: SlackSettings) -> CheckResult:
    """Socket Mode with an app-level token, else HTTP with a signing secret."""
    if channel.app_token is None:
        text = "cannot be checked from here; Event Subscriptions at Slack shows whether the Request URL responds"
        return CheckResult(f"{name} signing secret", True, text)
    part = f"{name} app token"
    response = await _call(client, channel.api_url, channel.app_token.get_secret_value(), "apps.connections.open")
    match response.error:
        case "":
            return CheckResult(part, True, "valid, Socket Mode is available")
        case "missing_scope":
            text = "the scope connections:write is missing; create another token under Basic Information"
            return CheckResult(part, False, text)
        case error:
            advice = "get one that begins with xapp- from Basic Information, App-Level Tokens, and enable Socket Mode"
            return CheckResult(part, False, _describe(error, advice))


def _describe(error: str, advice: str) -> str:
    return f"token rejected by Slack ({error}); {advice}" if error in _TOKEN_ERRORS else f"Slack returned {error}"


@dataclass(frozen=True, slots=True)
class _Response:
    """`error` is Slack's error code, "" for none; `scopes` are the token's, empty where Slack does not report them."""

    body: Mapping[str, Any]
    error: str
    scopes: frozenset[str]


async def _call(client: httpx.AsyncClient, api_url: str, token: str, method: str) -> _Response:
    """Raises `httpx.HTTPError`; ValueError or LookupError when it is not Slack's API that responds."""
    response = await client.post(f"{api_url.rstrip('/')}/{method}", headers={"Authorization": f"Bearer {token}"})
    body = response.json()
    if not isinstance(body, dict):
        raise ValueError("not a response of Slack's API")
    scopes = (scope.strip() for scope in response.headers.get("x-oauth-scopes", "").split(","))
    return _Response(body, "" if body["ok"] else str(body["error"]), frozenset(filter(None, scopes)))
