"""Asking another: a chain of models, for troubles that one has and the next may not have."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.events import Tell, Waiting
from agent.model import Answer, Model, ModelError, ModelTrouble, Request
from agent.models.retry import RETRYABLE, DeltaTracker

log = logging.getLogger(__name__)

FALLBACK_REASONS: dict[ModelTrouble, str] = RETRYABLE | {
    "auth": "The model cannot be used at the moment",
    "billing": "The model cannot be used at the moment",
    "refused": "The model's provider refused to answer",
}
"""The troubles that another model may not have, in the words of one quiet line."""

COOL_DOWN_SECONDS: dict[ModelTrouble, float] = {
    "overloaded": 30,
    "rate_limit": 60,
    "timeout": 60,
    "network": 30,
    "server": 30,
    "auth": 15 * 60,
    "billing": 30 * 60,
}
"""For how many seconds a model is left alone after a trouble. A refusal is about one request: others go on."""

MAX_COOL_DOWN = 60 * 60
"""Whatever a provider asks for, so that what was mended is found out."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model of a chain under the name that the operator gave it, like "openai:gpt-5"."""

    name: str
    model: Model


class CoolDowns:
    """Which models are left alone, and until when. In memory; one for all chains, so that all conversations share it.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def is_cooling(self, name: str) -> bool:
        return self.end(name) > self._clock()

    def end(self, name: str) -> float:
        """When the model may be asked again, by the clock; long ago for one that had no trouble."""
        return self._ends.get(name, -math.inf)

    def begin(self, name: str, error: ModelError) -> float:
        """Leaves the model alone for as long as the trouble and the provider want, and returns that, in seconds.

        A longer time that already runs stays.
        """
        seconds = min(max(COOL_DOWN_SECONDS.get(error.trouble, 0), error.retry_after or 0), MAX_COOL_DOWN)
        self._ends[name] = max(self.end(name), self._clock() + seconds)
        return seconds


class FallbackModel:
    """Asks the first model that is not cooling down, and after its trouble the next such; each at most once.

    When all are cooling down, the one that is back first is asked, and no other. A request that is wrong or too long is
    not the model's trouble: that is raised at once. Else the last trouble is raised.

    A request that names a model goes to that one before the chain, as `available` has it; a name that is in neither is
    told, and the chain is asked.

    Text that was already told is withdrawn before the next model is asked. The answer's `model` is a name of the chain.
    """

    def __init__(
        self, models: Sequence[NamedModel], cool_downs: CoolDowns, *, available: Mapping[str, Model] | None = None
    ) -> None:
        if not models:
            raise ValueError("a chain needs a model")
        self._models = tuple(models)
        self._cool_downs = cool_downs
        self._available = available or {}

    async def answer(self, request: Request, tell: Tell) -> Answer:
        untried = await self._chain(request.model, tell)
        current = self._next(untried) or min(untried, key=lambda named: self._cool_downs.end(named.name))
        while True:
            untried.remove(current)
            watch = DeltaTracker(tell)
            try:
                answer = await current.model.answer(request, watch.tell)
            except ModelError as error:
                following = self._after(error, current, untried)
                if following is None:
                    raise
                await watch.withdraw()
                await tell(Waiting(f"{FALLBACK_REASONS[error.trouble]}; {following.name} is asked instead."))
                current = following
            else:
                return replace(answer, model=current.name)

    async def _chain(self, wanted: str, tell: Tell) -> list[NamedModel]:
        """The models to ask, in this order."""
        if not wanted:
            return list(self._models)
        first = [named for named in self._models if named.name == wanted]
        if not first and wanted in self._available:
            first = [NamedModel(wanted, self._available[wanted])]
        if not first:
            usual = self._models[0].name
            log.warning("a request names %r, which is not set up; %s is asked instead", wanted, usual)
            await tell(Waiting(f"{wanted} is not set up here; {usual} is asked instead."))
        return first + [named for named in self._models if named.name != wanted]

    def _after(self, error: ModelError, current: NamedModel, untried: Sequence[NamedModel]) -> NamedModel | None:
        """The model to ask after this trouble of the current one, which is left alone from now on."""
        if error.trouble not in FALLBACK_REASONS:
            return None
        seconds = self._cool_downs.begin(current.name, error)
        following = self._next(untried)
        told = f"{following.name} is asked instead" if following else "there is no other to ask"
        log.warning("%s has trouble (%s) and is left alone for %.0f s; %s", current.name, error.trouble, seconds, told)
        return following

    def _next(self, untried: Sequence[NamedModel]) -> NamedModel | None:
        return next((named for named in untried if not self._cool_downs.is_cooling(named.name)), None)
