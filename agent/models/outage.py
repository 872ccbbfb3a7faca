"""Outage: a model wrapper that waits for minutes until a model that is down answers again."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable

from agent.events import Delta, OnDelta, Waiting
from agent.model import Answer, Model, ModelError, Request
from agent.models.retry import RETRYABLE, DeltaTracker

log = logging.getLogger(__name__)

FIRST_PAUSE = 10.0
MAX_PAUSE = 60.0
"""Seconds between two rounds of attempts, growing."""


class OutageModel:
    """Asks again, for up to `patience` seconds, when the models behind it, with their retries and fallbacks, have
    failed with an error that passes by itself. The person sees one quiet line meanwhile.

    Waiting is part of the answer: cancelling, as a stop or a new message does, ends it.
    """

    def __init__(
        self,
        model: Model,
        patience: float,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._patience = patience
        self._sleep = sleep
        self._clock = clock

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        gives_up_at: float | None = None
        pause = FIRST_PAUSE
        while True:
            tracker = DeltaTracker(on_delta if gives_up_at is None else _without_notices(on_delta))
            try:
                return await self._model.answer(request, tracker.on_delta)
            except ModelError as error:
                is_first = gives_up_at is None
                gives_up_at = self._clock() + self._patience if gives_up_at is None else gives_up_at
                wait = max(pause, error.retry_after or 0.0)
                if error.kind not in RETRYABLE or error.was_answer or self._clock() + wait > gives_up_at:
                    raise
                await tracker.withdraw()
                if is_first:
                    minutes = math.ceil(self._patience / 60)
                    log.warning("no model answers (%s); trying again for up to %d min", error.kind, minutes)
                    notice = f"{RETRYABLE[error.kind]}; trying again for up to {minutes} min."
                    await on_delta(Waiting(notice, error=error.kind, seconds=round(wait, 1)))
            await self._sleep(wait)
            pause = min(pause * 2, MAX_PAUSE)


def _without_notices(on_delta: OnDelta) -> OnDelta:
    """The line about the outage stays: the notices of single attempts would replace it."""

    async def quiet(delta: Delta) -> None:
        if not isinstance(delta, Waiting):
            await on_delta(delta)

    return quiet
