"""Retry: a model wrapper for errors that pass by themselves."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from random import random as chance
from typing import assert_never

from agent.events import Charged, Delta, OnDelta, ReasoningDelta, TextDelta, Waiting, Withdrawn
from agent.log import Call, Text, Usage
from agent.model import Answer, Model, ModelError, ModelErrorKind, Request
from agent.transcript import Results, SystemNote

log = logging.getLogger(__name__)

RETRYABLE: dict[ModelErrorKind, str] = {
    "overloaded": "The model is overloaded",
    "rate_limit": "The model's rate limit is reached",
    "timeout": "The model does not respond",
    "network": "The model cannot be reached",
    "server": "The model's provider has an error",
}
"""The errors worth another attempt, each as the person reads it in a notice."""

FIRST_DELAY = 0.5
MAX_DELAY = 30.0
MAX_TOTAL_DELAY = 60.0
"""Seconds: the first delay, the longest one, and all delays of one request together."""


class RetryingModel:
    """Makes up to `attempts` attempts, with exponential, jittered delays, or the delay that the provider asks for.

    Timeouts count separately, up to `timeouts` attempts: each was waited for, and perhaps billed, in full. Use 1 for
    models that have a fallback. If a delay exceeds 30 s, or all of them a minute, the error is raised at once.

    Text that was already streamed is withdrawn before the next attempt. An answer without text and calls is requested
    once more and then is an error; its cost is reported as `Charged`. After results of tools it may be that there is
    nothing to add.
    """

    def __init__(
        self,
        model: Model,
        *,
        attempts: int = 4,
        timeouts: int = 2,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = chance,
    ) -> None:
        self._model = model
        self._attempts = attempts
        self._timeouts = timeouts
        self._sleep = sleep
        self._random = random

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        was_empty = False
        total_delay = 0.0
        for attempt in range(1, self._attempts + 1):
            tracker = DeltaTracker(on_delta)
            try:
                answer = await self._model.answer(request, tracker.on_delta)
            except ModelError as error:
                log.warning("the model failed (%s, attempt %d): %s", error.kind, attempt, error.__cause__ or error)
                if error.retry_after is not None and error.retry_after > MAX_DELAY:
                    raise error.saying(f"{error} Retry after {math.ceil(error.retry_after / 60)} min.") from error
                delay = self._delay(error, attempt)
                total_delay += delay
                if attempt >= self._max_attempts(error) or total_delay > MAX_TOTAL_DELAY:
                    raise
                await tracker.withdraw()
                notice = f"{RETRYABLE[error.kind]}; trying again in {max(1, round(delay))} s."
                await on_delta(Waiting(notice, error=error.kind, seconds=round(delay, 1)))
                await self._sleep(delay)
                continue
            if _has_content(answer) or _is_finished(answer, request):
                return answer
            await tracker.withdraw()
            if answer.usage != Usage():
                await on_delta(Charged(answer.usage, answer.model, "failed"))
            if was_empty:
                break
            was_empty = True
        raise ModelError(
            "server", "The model gave an empty answer. Please try again, or rephrase your message.", was_answer=True
        )

    def _max_attempts(self, error: ModelError) -> int:
        if error.kind not in RETRYABLE:
            return 1
        return min(self._timeouts, self._attempts) if error.kind == "timeout" else self._attempts

    def _delay(self, error: ModelError, attempt: int) -> float:
        if error.retry_after:
            # Never sooner, but a little later: otherwise all clients with the same delay come back at once.
            return error.retry_after * (1 + self._random() / 10)
        # Proxies that ask for a wait of 0 seconds mean that they do not know.
        delay: float = min(FIRST_DELAY * 2**attempt, MAX_DELAY)
        return delay * (0.5 + self._random() / 2)


class DeltaTracker:
    """Passes deltas on, remembering whether there is text to withdraw."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self._has_text = False

    async def on_delta(self, delta: Delta) -> None:
        match delta:
            case TextDelta() | ReasoningDelta():
                self._has_text = True
            case Withdrawn():
                self._has_text = False
            case Waiting() | Charged():
                pass
            case _:
                assert_never(delta)
        await self._on_delta(delta)

    async def withdraw(self) -> None:
        if self._has_text:
            await self.on_delta(Withdrawn())


def _is_finished(answer: Answer, request: Request) -> bool:
    """Whether an answer without content says that the task is done: the model has ended it, after results of tools."""
    last = next((each for each in reversed(request.transcript) if not isinstance(each, SystemNote)), None)
    return answer.finish == "stop" and not request.text_only and isinstance(last, Results)


def _has_content(answer: Answer) -> bool:
    if answer.finish == "length" and answer.has_steps:
        return True
    return any(isinstance(part, Call) or (isinstance(part, Text) and part.text.strip()) for part in answer.parts)
