"""The Web API through slack_sdk: calls, and its errors translated into the gateway's."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from channels.channel import OutcomeUnknown, Refused, RetryLater, ServerFailed, Undeliverable, Unreachable
from channels.slack.content import Json

log = logging.getLogger(__name__)

# At debug level the SDK logs people's messages, and URLs that open a socket for the app.
logging.getLogger("slack_sdk").setLevel(logging.INFO)
logging.getLogger("slack_bolt").setLevel(logging.INFO)

TOKEN_ERRORS = frozenset(
    {
        *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
        *("not_allowed_token_type", "org_login_required", "team_access_not_granted"),
    }
)
"""Errors of the token itself: nothing works until a person changes something."""

_CHAT_ERRORS = frozenset(
    {
        *("channel_not_found", "not_in_channel", "is_archived", "is_inactive", "no_permission", "access_denied"),
        *("restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel"),
        *("restricted_action_thread_locked", "restricted_action_non_threadable_channel", "user_is_restricted"),
        *("user_disabled", "user_not_found", "messages_tab_disabled", "cannot_dm_bot", "ekm_access_denied"),
        *("thread_not_found", "cannot_reply_to_message", "message_limit_exceeded"),
    }
)
"""The conversation or thread takes no messages of the app:
https://docs.slack.dev/reference/methods/chat.postMessage#errors"""

_SERVER_ERRORS = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}
)
"""Slack failed, perhaps after it had carried out the call."""

_IN_JSON = ("chat.", "agents.", "assistant.")
"""Methods called with JSON, as the SDK does. The others accept forms only."""

_DEFAULT_RETRY = 1.0
"""Seconds to wait when Slack does not say how long."""


class SignInPage(Exception):
    """Slack shows its sign-in page instead of a file: the app may not read that."""


class Api:
    """The Web API for one app. `url` ends in a slash. Opens its connections with the first call."""

    def __init__(self, token: str, url: str) -> None:
        # A retry of the SDK may show a message twice: our own outbox decides about retries.
        self.client = AsyncWebClient(token, base_url=url, retry_handlers=[])
        self._token = token

    async def call(self, method: str, /, **arguments: object) -> Json:
        """One request, its answer. Raises the SDK's and aiohttp's errors. Arguments that are None are left out."""
        self._connections()
        given = {name: value for name, value in arguments.items() if value is not None}
        if method.startswith(_IN_JSON):
            answer = await self.client.api_call(method, json=given)
        else:
            answer = await self.client.api_call(method, data={name: _form(value) for name, value in given.items()})
        return answer.data if isinstance(answer.data, dict) else {}

    async def open_socket(self, app_token: str) -> str:
        """The URL of a new socket, valid for one connection."""
        self._connections()
        answer = await self.client.apps_connections_open(app_token=app_token)
        return str(answer["url"])

    async def upload(self, url: str, data: bytes) -> None:
        timeout, sent = aiohttp.ClientTimeout(total=300), BytesIO(data)
        async with self._connections().post(url, data=sent, timeout=timeout, proxy=self.client.proxy) as response:
            response.raise_for_status()
            await response.read()

    async def download(self, url: str, limit: int) -> tuple[str, bytes]:
        """The media type and the bytes of a file, cut off somewhere beyond `limit` bytes.

        The request carries the token. Raises `SignInPage`.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=300)
        async with self._connections().get(url, headers=headers, timeout=timeout, proxy=self.client.proxy) as response:
            response.raise_for_status()
            if response.history and response.content_type == "text/html":
                raise SignInPage
            data = bytearray()
            while len(data) <= limit and (chunk := await response.content.readany()):
                data += chunk
            return response.content_type, bytes(data)

    def _connections(self) -> aiohttp.ClientSession:
        if self.client.session is None:
            self.client.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30, sock_connect=10))
        return self.client.session

    async def aclose(self) -> None:
        if self.client.session is not None:
            await self.client.session.close()


def _form(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def slack_errors(*, sending: bool = False) -> Iterator[None]:
    """Translates the library's errors. `sending`: a second attempt would show the message twice."""
    try:
        yield
    except SlackApiError as error:
        raise _translated(error, sending) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(f"Slack is not reachable: {error}") from error
    except (aiohttp.ClientError, SlackClientError, TimeoutError, OSError) as error:
        if sending:
            raise OutcomeUnknown(f"Slack did not confirm the message: {error!r}") from error
        raise ServerFailed(f"Slack did not answer: {error!r}") from error


def _translated(error: SlackApiError, sending: bool) -> Exception:
    code, status = error_code(error), _status(error)
    if is_rate_limit(error):
        return RetryLater(retry_seconds(error))
    if code in TOKEN_ERRORS:
        # Replies stay queued until a person corrects the token; `listen` reports it.
        return Unreachable(f"Slack rejects the token: {code}")
    if status >= 500 or code in _SERVER_ERRORS or (not code and status < 400):
        if sending:
            return OutcomeUnknown(f"Slack failed and did not confirm the message ({code or status})")
        return ServerFailed(f"Slack failed ({code or status})")
    reason = f"Slack rejects it: {explanation(error)}"
    return Undeliverable(reason) if code in _CHAT_ERRORS else Refused(reason)


def explanation(error: SlackApiError) -> str:
    """Slack's error code, and what a person can do about it."""
    match error_code(error):
        case "not_in_channel" | "channel_not_found" as code:
            return f"{code} (is the app still a member of that channel?)"
        case "missing_scope":
            return f"the app lacks the scope {_answer(error).get('needed', '')}"
        case code:
            return code or str(_status(error))


def error_code(error: SlackApiError) -> str:
    """Slack's error code; "" when the answer did not come from Slack."""
    return str(_answer(error).get("error") or "")


def _answer(error: SlackApiError) -> Json:
    # An answer that is not JSON is aiohttp's response.
    data = error.response.data if isinstance(error.response, AsyncSlackResponse) else None
    return data if isinstance(data, dict) else {}


def _status(error: SlackApiError) -> int:
    response: Any = error.response
    return int(response.status_code if isinstance(response, AsyncSlackResponse) else response.status)


def retry_seconds(error: SlackApiError) -> float:
    """Seconds that Slack asks to wait."""
    try:
        return float(error.response.headers["Retry-After"])
    except (KeyError, ValueError):
        return _DEFAULT_RETRY


def is_rate_limit(error: SlackApiError) -> bool:
    return _status(error) == 429 or error_code(error) in ("ratelimited", "rate_limited")


def is_refusal(error: SlackApiError, *codes: str) -> bool:
    """Whether Slack understood the call and rejected it; with `codes`, for one of these reasons."""
    code = error_code(error)
    if codes:
        return code in codes
    is_answer = bool(code) or 400 <= _status(error) < 500
    return is_answer and _status(error) < 500 and code not in _SERVER_ERRORS | TOKEN_ERRORS and not is_rate_limit(error)


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    """Logs an error of the library instead of raising it."""
    try:
        yield
    except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.debug("%s failed: %r", what, error)
