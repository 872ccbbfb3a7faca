"""ASGI middleware that limits the size of request bodies, with or without a Content-Length."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DROPPED = 8
"""A body is read and dropped up to so many times the limit: a client that is still sending would not get the answer."""


class BodyLimit:
    """Reading a body of more than `limit` bytes raises the HTTP error 413: before any of it is sent, if its client asks
    first (`Expect: 100-continue`)."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, self._limited(receive, _size_asked_for(scope)), send)

    def _limited(self, receive: Receive, asked_for: int) -> Receive:
        size = 0

        async def limited_receive() -> Message:
            nonlocal size
            if asked_for > self._limit:
                raise self._too_large(asked_for)
            message = await receive()
            size += _length(message)
            while size > self._limit:
                if not message.get("more_body", False) or size > _DROPPED * self._limit:
                    raise self._too_large(size)
                message = await receive()
                size += _length(message)
            return message

        return limited_receive

    def _too_large(self, size: int) -> HTTPException:
        return HTTPException(413, f"The request has {size:,} bytes; the limit is {self._limit:,}.")


def _size_asked_for(scope: Scope) -> int:
    """The size of a body that the client sends when it is told to; 0 if it sends it at once."""
    if scope["type"] != "http":
        return 0
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    is_asking = headers.get(b"expect", b"").lower() == b"100-continue"
    return int(length) if is_asking and length.isdigit() else 0


def _length(message: Message) -> int:
    return len(message.get("body", b""))
