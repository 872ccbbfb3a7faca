"""Waiting notice: a model wrapper that tells the person when the first output takes long."""

from __future__ import annotations

import asyncio

from agent.events import Delta, OnDelta, Waiting
from agent.model import Answer, Model, Request

NOTICE_AFTER = 10.0
"""Seconds without any output."""

STILL_WAITING = "Still waiting for the model …"


class WaitingNoticeModel:
    """Shows one notice when the model has sent nothing for `seconds` after the request."""

    def __init__(self, model: Model, *, seconds: float = NOTICE_AFTER) -> None:
        self._model = model
        self._seconds = seconds

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        first_output = asyncio.Event()

        async def watched(delta: Delta) -> None:
            first_output.set()
            await on_delta(delta)

        notice = asyncio.ensure_future(_notify_unless(first_output, self._seconds, on_delta))
        try:
            return await self._model.answer(request, watched)
        finally:
            first_output.set()
            await notice


async def _notify_unless(first_output: asyncio.Event, seconds: float, on_delta: OnDelta) -> None:
    try:
        async with asyncio.timeout(seconds):
            await first_output.wait()
    except TimeoutError:
        await on_delta(Waiting(STILL_WAITING))
