"""Receives the updates that Telegram posts to a webhook."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

BODY_LIMIT = 1_000_000
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


def webhook_app(secret: str, take: Callable[[Any], Awaitable[bool]]) -> ASGIApp:
    """Answers 200 once `take` has committed an update, and 401 to whoever does not know the secret. If `take` returns
    False, Telegram sends the update again: https://core.telegram.org/bots/api#setwebhook."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answer(Request(scope, receive), secret, take)
        await response(scope, receive, send)

    return app


async def _answer(request: Request, secret: str, take: Callable[[Any], Awaitable[bool]]) -> Response:
    if request.method != "POST":
        return PlainTextResponse("Telegram's webhook: POST only", 405, {"Allow": "POST"})
    if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), secret.encode()):
        return PlainTextResponse("not from Telegram", 401)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                return PlainTextResponse("too large", 413)
        update = json.loads(body)
    except ClientDisconnect:
        return PlainTextResponse("cut off", 400)
    except ValueError:
        return PlainTextResponse("not JSON", 400)
    return PlainTextResponse("taken") if await take(update) else PlainTextResponse("not now", 503)
