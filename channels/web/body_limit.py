"""ASGI middleware that limits the size of request bodies, with or without a Content-Length."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DROPPED = 8
"""A body is read and dropped up to so many times the limit: a client that is still sending would not get the answer."""


class BodyLimit:
    """Reading a body of more than `limit` bytes raises the HTTP error 413."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        size = 0

        async def limited_receive() -> Message:
            nonlocal size
            message = await receive()
            size += _length(message)
            while size > self._limit:
                if not message.get("more_body", False) or size > _DROPPED * self._limit:
                    raise HTTPException(413, f"The request has {size:,} bytes; the limit is {self._limit:,}.")
                message = await receive()
                size += _length(message)
            return message

        return limited_receive


def _length(message: Message) -> int:
    return len(message.get("body", b""))
