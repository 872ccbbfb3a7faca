"""Fallback: a chain of models, where the next one is asked when one fails."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.events import Delta, OnDelta, Waiting
from agent.model import Answer, Model, ModelError, ModelErrorKind, Request
from agent.models.refused_features import refused_feature
from agent.models.retry import RETRYABLE, DeltaTracker

log = logging.getLogger(__name__)

FALLBACK_REASONS: dict[ModelErrorKind, str] = RETRYABLE | {
    "auth": "The model is not available at the moment",
    "billing": "The model is not available at the moment",
    "refused": "The model's provider refused to answer",
    "no_vision": "The model does not support pictures",
}
"""The errors that another model may not have, each as the person reads it in a notice."""

LACKS_A_FEATURE = "The model lacks what this request needs"

COOL_DOWN_SECONDS: dict[ModelErrorKind, float] = {
    "overloaded": 30,
    "rate_limit": 60,
    "timeout": 60,
    "network": 30,
    "server": 30,
    "auth": 15 * 60,
    "billing": 30 * 60,
}
"""Seconds for which a model is not asked after an error. A refusal, or a missing ability, concerns one request only: no
cool-down."""

MAX_COOL_DOWN = 60 * 60
"""Seconds, however long the provider asks for, so that a recovered model is noticed."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model of a chain under the name that the operator gave it, like "openai:gpt-5"."""

    name: str
    model: Model


class CoolDowns:
    """Which models are in cool-down, and until when. In memory; one for all chains, so that all conversations share it.

    `clock` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def is_cooling(self, name: str) -> bool:
        return self.end(name) > self._clock()

    def end(self, name: str) -> float:
        """When the cool-down ends, by the clock; minus infinity for a model that has none."""
        return self._ends.get(name, -math.inf)

    def begin(self, name: str, error: ModelError) -> float:
        """Starts a cool-down, as long as the error and the provider require. Returns its length in seconds.

        A longer cool-down that already runs is kept.
        """
        seconds = min(max(COOL_DOWN_SECONDS.get(error.kind, 0), error.retry_after or 0), MAX_COOL_DOWN)
        self._ends[name] = max(self.end(name), self._clock() + seconds)
        return seconds


class FallbackModel:
    """Asks the first model that is not in cool-down, and when it fails the next such one; each at most once.

    When all are in cool-down, only the one whose cool-down ends first is asked. The error of an invalid or too long
    request is raised at once, unless it is about a feature that another model may have. Otherwise the last error is
    raised.

    A request that names a model goes to that model first, then to the chain. The name is looked up in the chain and in
    `available`; if it is in neither, the person is told and the chain is asked.

    Text that was already streamed is withdrawn before the next model is asked. The answer's `model` is the name under
    which the model is in the chain.
    """

    def __init__(
        self, models: Sequence[NamedModel], cool_downs: CoolDowns, *, available: Mapping[str, Model] | None = None
    ) -> None:
        if not models:
            raise ValueError("a chain needs a model")
        self._models = tuple(models)
        self._cool_downs = cool_downs
        self._available = available or {}

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        untried = await self._chain(request.model, on_delta)
        current = self._next(untried) or min(untried, key=lambda named: self._cool_downs.end(named.name))
        while True:
            untried.remove(current)
            tracker = DeltaTracker(_naming(current.name, on_delta))
            try:
                answer = await current.model.answer(request, tracker.on_delta)
            except ModelError as error:
                fallback = self._fallback(error, current, untried)
                if fallback is None:
                    raise
                await tracker.withdraw()
                notice = f"{_reason(error)}; using {fallback.name} instead."
                await on_delta(Waiting(notice, current.name, error.kind, fallback.name))
                current = fallback
            else:
                return replace(answer, model=current.name)

    async def _chain(self, requested: str, on_delta: OnDelta) -> list[NamedModel]:
        """The models to ask, in order."""
        if not requested:
            return list(self._models)
        first = [named for named in self._models if named.name == requested]
        if not first and requested in self._available:
            first = [NamedModel(requested, self._available[requested])]
        if not first:
            default = self._models[0].name
            log.warning("a request names the model %r, which is not configured; using %s instead", requested, default)
            notice = f"{requested} is not configured here; using {default} instead."
            await on_delta(Waiting(notice, requested, instead=default))
        return first + [named for named in self._models if named.name != requested]

    def _fallback(self, error: ModelError, current: NamedModel, untried: Sequence[NamedModel]) -> NamedModel | None:
        """Starts the cool-down of the current model after its error and returns the model to ask next, if any."""
        if _reason(error) is None:
            return None
        seconds = self._cool_downs.begin(current.name, error)
        fallback = self._next(untried)
        outcome = f"using {fallback.name} instead" if fallback else "no other model is available"
        log.warning("%s failed (%s); in cool-down for %.0f s; %s", current.name, error.kind, seconds, outcome)
        return fallback

    def _next(self, untried: Sequence[NamedModel]) -> NamedModel | None:
        return next((named for named in untried if not self._cool_downs.is_cooling(named.name)), None)


def _reason(error: ModelError) -> str | None:
    """Why another model is asked after this error, for the person; None if the error concerns every model."""
    if error.kind == "bad_request" and refused_feature(error) is not None:
        return LACKS_A_FEATURE
    return FALLBACK_REASONS.get(error.kind)


def _naming(model: str, on_delta: OnDelta) -> OnDelta:
    """Adds the model's name to its notices."""

    async def named(delta: Delta) -> None:
        await on_delta(replace(delta, model=model) if isinstance(delta, Waiting) and not delta.model else delta)

    return named
