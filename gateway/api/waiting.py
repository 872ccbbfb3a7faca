"""Requests that wait: they end when their client goes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

T = TypeVar("T")

MAX_WAIT = 300.0
"""Seconds."""


class ClientGone(Exception):
    """Nobody reads the answer any more."""


async def within(request: Request, seconds: float, awaited: Awaitable[T]) -> T | None:
    """The result; None if there is none in so many seconds. The body of the request must have been read. Raises
    `ClientGone` as soon as the client disconnects."""
    working = asyncio.ensure_future(awaited)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        if leaving.done():
            raise ClientGone
        return None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
