"""Measuring: a model wrapper that tells how each attempt at a model went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.context.tokens import add_up
from agent.events import Charged, Delta, OnDelta, ReasoningDelta, TextDelta
from agent.log import Usage
from agent.model import Answer, Finish, Model, ModelError, Request


@dataclass(frozen=True, slots=True)
class ModelCalled:
    """One attempt at a model has ended. `model` is its name in the settings; `error` the kind of the error,
    "cancelled", "aborted" if whoever received its text ended it (a hook did), or "" if it answered. `seconds` is how
    long it took, and after `first_token` seconds came the first text or reasoning; None if none came. `finish` is why
    the answer ended, "" without one."""

    model: str
    error: str
    seconds: float
    first_token: float | None
    usage: Usage
    finish: Finish | str = ""


OnModelCalled = Callable[[ModelCalled], None]
"""Never raises."""


def untold(called: ModelCalled) -> None:
    """For whoever does not measure."""


class MeasuredModel:
    """Tells `called` of each attempt. Wrap a metered model directly, so that each attempt is measured by itself."""

    def __init__(self, model: Model, name: str, called: OnModelCalled) -> None:
        self._model = model
        self._name = name
        self._called = called

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        attempt = _Attempt(on_delta)
        try:
            answer = await self._model.answer(request, attempt.on_delta)
        except ModelError as error:
            self._called(attempt.ended(self._name, error.kind))
            raise
        except asyncio.CancelledError:
            self._called(attempt.ended(self._name, "cancelled"))
            raise
        except Exception:
            self._called(attempt.ended(self._name, "aborted"))
            raise
        self._called(attempt.ended(self._name, "", answer))
        return answer


class _Attempt:
    """Passes deltas on, remembering when the first one came and what was charged."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self._since = time.monotonic()
        self._first: float | None = None
        self._charged: list[Usage] = []

    async def on_delta(self, delta: Delta) -> None:
        if self._first is None and isinstance(delta, TextDelta | ReasoningDelta):
            self._first = time.monotonic()
        elif isinstance(delta, Charged):
            self._charged.append(delta.usage)
        await self._on_delta(delta)

    def ended(self, model: str, error: str, answer: Answer | None = None) -> ModelCalled:
        usage = add_up((*self._charged, *(() if answer is None else (answer.usage,))))
        first = None if self._first is None else self._first - self._since
        finish = "" if answer is None else answer.finish
        return ModelCalled(model, error, time.monotonic() - self._since, first, usage, finish)
