"""A word while one waits: a model around a model that may take long to say its first."""

from __future__ import annotations

import asyncio

from agent.events import Delta, Tell, Waiting
from agent.model import Answer, Model, Request

PATIENCE = 10.0
"""Seconds without a word."""

STILL_WAITING = "Still waiting for the model …"


class WaitingNoticeModel:
    """Tells one quiet line when nothing was told for `seconds` after asking."""

    def __init__(self, model: Model, *, seconds: float = PATIENCE) -> None:
        self._model = model
        self._seconds = seconds

    async def answer(self, request: Request, tell: Tell) -> Answer:
        something = asyncio.Event()

        async def watched(delta: Delta) -> None:
            something.set()
            await tell(delta)

        reassuring = asyncio.ensure_future(_reassure(something, self._seconds, tell))
        try:
            return await self._model.answer(request, watched)
        finally:
            something.set()
            await reassuring


async def _reassure(something: asyncio.Event, seconds: float, tell: Tell) -> None:
    try:
        async with asyncio.timeout(seconds):
            await something.wait()
    except TimeoutError:
        await tell(Waiting(STILL_WAITING))
