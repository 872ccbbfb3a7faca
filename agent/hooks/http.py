"""Hooks as HTTP endpoints: each call is a signed POST, and the response is the decision."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from agent.agent import unmasked
from agent.gate import one_line
from agent.hook import HookContext, Point, Ruling, Subject
from agent.hooks.runner import HookError
from agent.hooks.wire import MAX_ANSWER_BYTES, VERSION, decode, encode, event_params, parse_decision, question_params

# httpx logs the URL of each request, which may contain a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

TIMESTAMP = "X-Interject-Timestamp"
SIGNATURE = "X-Interject-Signature"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header, by which the endpoint authenticates us. `timestamp` is in seconds since 1970."""
    signed = f"v1:{timestamp}:".encode() + body
    return f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class HttpHook:
    """Calls an endpoint. Redirects are not followed. Neither the URL nor the secret appears in any message.

    `mask` removes known secrets from the requests.
    """

    problem = ""

    def __init__(self, name: str, url: str, secret: str, mask: Callable[[str], str] = unmasked) -> None:
        self._name = name
        self._url = url
        self._secret = secret
        self._mask = mask
        # The caller limits the time.
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            timeout=None,
            headers={"User-Agent": "Interject", "Accept": "application/json", "Accept-Encoding": "identity"},
            trust_env=False,
        )

    async def __aenter__(self) -> HttpHook:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        answer = await self._post(point, question_params(context, subject))
        return parse_decision(point, subject, decode(answer)) if answer.strip() else None

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        await self._post("on_event", event_params(context, event))

    async def _post(self, point: Point, form: Mapping[str, Any]) -> bytes:
        body = self._mask(encode({"protocol": VERSION, "hook": self._name, "point": point, **form}).decode()).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP: timestamp,
            SIGNATURE: signature(self._secret, timestamp, body),
        }
        try:
            async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                return await _body(response)
        except httpx.InvalidURL:
            raise HookError("its URL is invalid") from None
        except httpx.HTTPError as error:
            raise HookError(f"its endpoint is not reachable: {one_line(error) or type(error).__name__}") from error


async def _body(response: httpx.Response) -> bytes:
    if not response.is_success:
        raise HookError(f"it answered {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise HookError(f"its response exceeds {MAX_ANSWER_BYTES:,} bytes")
    return bytes(body)
