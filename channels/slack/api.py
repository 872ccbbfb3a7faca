"""The Web API through slack_sdk: calls, and its errors in the gateway's words."""

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

from channels.channel import OutcomeUnknown, RetryLater, Undeliverable, Unreachable
from channels.slack.parse import Json

log = logging.getLogger(__name__)

# At debug level the SDK logs what people say, and addresses that open a socket in the app's name.
logging.getLogger("slack_sdk").setLevel(logging.INFO)
logging.getLogger("slack_bolt").setLevel(logging.INFO)

TOKEN_ERRORS = frozenset(
    {
        *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
        *("not_allowed_token_type", "no_permission", "org_login_required", "team_access_not_granted"),
    }
)
"""What keeps an app out altogether, until a person has changed something."""

_BROKEN = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"})
"""Slack itself failed, perhaps after it had done what was asked."""

_IN_JSON = ("chat.", "agents.", "assistant.")
"""Methods called with JSON, as the SDK does. The others read forms only."""

_PATIENCE = 1.0
"""Seconds to wait when Slack does not say how long."""


class Api:
    """The Web API for one app. `url` ends in a slash. Opens its connections with the first call."""

    def __init__(self, token: str, url: str) -> None:
        # Each of the SDK's retries may show a message twice: our own outbox decides what is sent again.
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
        """The address of a new socket, good for one connection."""
        self._connections()
        answer = await self.client.apps_connections_open(app_token=app_token)
        return str(answer["url"])

    async def upload(self, url: str, data: bytes) -> None:
        timeout, sent = aiohttp.ClientTimeout(total=300), BytesIO(data)
        async with self._connections().post(url, data=sent, timeout=timeout, proxy=self.client.proxy) as response:
            response.raise_for_status()
            await response.read()

    async def download(self, url: str, most: int) -> tuple[str, bytes]:
        """The media type and the bytes of a file of Slack's, cut off somewhere beyond `most`.

        The token goes with the request.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=300)
        async with self._connections().get(url, headers=headers, timeout=timeout, proxy=self.client.proxy) as response:
            response.raise_for_status()
            data = bytearray()
            while len(data) <= most and (chunk := await response.content.readany()):
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
    """Says the library's errors in the gateway's words. `sending`: doing it twice would show it twice."""
    try:
        yield
    except SlackApiError as error:
        raise _translated(error, sending) from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(f"Slack cannot be reached: {error}") from error
    except (aiohttp.ClientError, SlackClientError, TimeoutError, OSError) as error:
        if sending:
            raise OutcomeUnknown(f"Slack did not say whether it got the message: {error!r}") from error
        raise Unreachable(f"Slack cannot be reached: {error!r}") from error


def _translated(error: SlackApiError, sending: bool) -> Exception:
    code, status = code_of(error), _status(error)
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return RetryLater(patience(error))
    if code in TOKEN_ERRORS:
        # Until a person has corrected the token, which `listen` asks for, nothing is given up.
        return Unreachable(f"Slack does not accept the token: {code}")
    if not code or status >= 500 or code in _BROKEN:
        if sending:
            return OutcomeUnknown(f"Slack failed, and did not say whether it got the message ({code or status})")
        return Unreachable(f"Slack failed ({code or status})")
    return Undeliverable(f"Slack refuses it: {explained(error)}")


def explained(error: SlackApiError) -> str:
    """Slack's word for it, and what to do where it is not for Slack to say."""
    match code_of(error):
        case "not_in_channel" | "channel_not_found" as code:
            return f"{code} (is the app still a member of that channel?)"
        case "missing_scope":
            return f"the app lacks the scope {_answer(error).get('needed', '')}"
        case code:
            return code


def code_of(error: SlackApiError) -> str:
    """Slack's name for what is wrong; "" when the answer was not Slack's at all."""
    return str(_answer(error).get("error") or "")


def _answer(error: SlackApiError) -> Json:
    # An answer that is not JSON comes as aiohttp's response.
    data = error.response.data if isinstance(error.response, AsyncSlackResponse) else None
    return data if isinstance(data, dict) else {}


def _status(error: SlackApiError) -> int:
    response: Any = error.response
    return int(response.status_code if isinstance(response, AsyncSlackResponse) else response.status)


def patience(error: SlackApiError) -> float:
    """Seconds that Slack asks to wait."""
    try:
        return float(error.response.headers["Retry-After"])
    except (KeyError, ValueError):
        return _PATIENCE


def asks_for_patience(error: SlackApiError) -> bool:
    return _status(error) == 429 or code_of(error) in ("ratelimited", "rate_limited")


def is_refusal(error: SlackApiError, *codes: str) -> bool:
    """Whether Slack understood and said no; with `codes`, for one of these reasons."""
    code = code_of(error)
    if codes:
        return code in codes
    return bool(code) and _status(error) < 500 and code not in _BROKEN | TOKEN_ERRORS and not asks_for_patience(error)


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
        log.debug("%s failed: %r", what, error)
