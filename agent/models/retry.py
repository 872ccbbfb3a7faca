"""Trying again: a model around a model, for troubles that pass."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from random import random as chance
from typing import assert_never

from agent.events import Charged, Delta, ReasoningDelta, Tell, TextDelta, Waiting, Withdrawn
from agent.log import Call, Text, Usage
from agent.model import Answer, Model, ModelError, ModelTrouble, Request

log = logging.getLogger(__name__)

RETRYABLE: dict[ModelTrouble, str] = {
    "overloaded": "The model is overloaded",
    "rate_limit": "The model asks for a pause",
    "timeout": "The model does not answer",
    "network": "The model cannot be reached",
    "server": "The model has a fault",
}
"""The troubles worth another attempt, in the words of one quiet line."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
LONGEST_WAIT = 60.0


class RetryingModel:
    """Asks up to `attempts` times, with growing, jittered pauses, or those that the provider asked for.

    After a time-out it asks up to `timeouts` times: each has been waited for, and perhaps paid for, in full; 1 is for
    models with another that stands by. A pause of more than 30 s, or more than a minute of them in all, is the person's
    to decide on.

    Text that was already told is withdrawn before the next attempt. An answer without words and calls is asked for
    once more, then is an error; what it cost is told as `Charged`.
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

    async def answer(self, request: Request, tell: Tell) -> Answer:
        was_empty = False
        waited = 0.0
        for attempt in range(1, self._attempts + 1):
            watch = DeltaTracker(tell)
            try:
                answer = await self._model.answer(request, watch.tell)
            except ModelError as error:
                log.warning("the model failed (%s, attempt %d): %s", error.trouble, attempt, error.__cause__ or error)
                if error.retry_after is not None and error.retry_after > LONGEST_DELAY:
                    raise _with_wait(error, error.retry_after) from error
                delay = self._delay(error, attempt)
                waited += delay
                if attempt >= self._attempts_at(error) or waited > LONGEST_WAIT:
                    raise
                await watch.withdraw()
                await tell(Waiting(f"{RETRYABLE[error.trouble]}; trying again in {max(1, round(delay))} s."))
                await self._sleep(delay)
                continue
            if _says_something(answer):
                return answer
            await watch.withdraw()
            if answer.usage != Usage():
                await tell(Charged(answer.usage, answer.model, "failed"))
            if was_empty:
                break
            was_empty = True
        raise ModelError("server", "The model gave an empty answer. Please try again, or put it differently.")

    def _attempts_at(self, error: ModelError) -> int:
        if error.trouble not in RETRYABLE:
            return 1
        return min(self._timeouts, self._attempts) if error.trouble == "timeout" else self._attempts

    def _delay(self, error: ModelError, attempt: int) -> float:
        if error.retry_after is not None:
            # Never sooner; a little later, since all who were told the same would come back at once.
            return error.retry_after * (1 + self._random() / 10)
        longest: float = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
        return longest * (0.5 + self._random() / 2)


class DeltaTracker:
    """Passes on what is told, remembering whether there is something to take back."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._told = False

    async def tell(self, delta: Delta) -> None:
        match delta:
            case TextDelta() | ReasoningDelta():
                self._told = True
            case Withdrawn():
                self._told = False
            case Waiting() | Charged():
                pass
            case _:
                assert_never(delta)
        await self._tell(delta)

    async def withdraw(self) -> None:
        if self._told:
            await self.tell(Withdrawn())


def _with_wait(error: ModelError, seconds: float) -> ModelError:
    return ModelError(error.trouble, f"{error} It asks to wait {math.ceil(seconds / 60)} min.", retry_after=seconds)


def _says_something(answer: Answer) -> bool:
    return any(isinstance(part, Call) or (isinstance(part, Text) and part.text.strip()) for part in answer.parts)
