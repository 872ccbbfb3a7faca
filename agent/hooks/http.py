"""Hooks as HTTP endpoints: each question a signed POST, its answer the decision."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from agent.agent import unmasked
from agent.hook import Point, Ruling, Subject, HookContext
from agent.hooks.runner import HookError, shortened
from agent.hooks.wire import LONGEST, VERSION, decision, news, question, read, written

# It logs the url of each request, which may hold a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

TIMESTAMP = "X-Interject-Timestamp"
SIGNATURE = "X-Interject-Signature"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The signature's header, by which the endpoint knows that we ask. `timestamp` is in seconds since 1970."""
    signed = f"v1:{timestamp}:".encode() + body
    return f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class HttpHook:
    """Asks an endpoint. No redirect is followed, and neither the url nor the secret gets into any message.

    `mask` takes known secrets out of what is sent there.
    """

    def __init__(self, name: str, url: str, secret: str, mask: Callable[[str], str] = unmasked) -> None:
        self._name = name
        self._url = url
        self._secret = secret
        self._mask = mask
        # The time limit is the caller's.
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
        answer = await self._post(point, question(context, subject))
        return decision(point, subject, read(answer)) if answer.strip() else None

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        await self._post("on_event", news(context, event))

    async def _post(self, point: Point, form: Mapping[str, Any]) -> bytes:
        body = self._mask(written({"protocol": VERSION, "hook": self._name, "point": point, **form}).decode()).encode()
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
            raise HookError("its url is none") from None
        except httpx.HTTPError as error:
            raise HookError(f"it could not be asked: {shortened(error) or type(error).__name__}") from error


async def _body(response: httpx.Response) -> bytes:
    if not response.is_success:
        raise HookError(f"it answered {response.status_code}")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LONGEST:
            raise HookError(f"it answered with more than {LONGEST:,} bytes")
    return bytes(body)
