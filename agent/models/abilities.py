"""What a model can do, as far as it is known: learnt from what its server refuses, and tried again daily."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from agent.events import OnDelta, Waiting
from agent.model import Answer, ModelError, Request
from agent.models.content import images_in
from agent.models.protocols.wire import Feature
from agent.models.refused_features import refused_feature
from agent.models.retry import DeltaTracker
from agent.models.without_images import without_images

log = logging.getLogger(__name__)

FORGOTTEN_AFTER = 24 * 60 * 60
"""Seconds after which a refused feature is tried again: servers and models are updated."""

STATE_FORGOTTEN_AFTER = 5 * 60
"""The same for the earlier conversation at the server, which may just have been lost."""

TOLD: dict[Feature, str] = {
    "images": "{name} does not support pictures; it gets a text in place of each.",
    "tools": "{name} does not support tools; it answers without them.",
}
"""The features whose absence people notice, each as they read it."""


class LearnedAbilities:
    """The features that one model refuses: known from the settings, and learnt. In memory.

    `name` is the model's name in the settings, for people; `clock` is monotonic, in seconds.
    """

    def __init__(
        self, name: str, known: frozenset[Feature] = frozenset(), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._known = known
        self._clock = clock
        self._learnt: dict[Feature, float] = {}
        self._told: set[Feature] = set()

    @property
    def without(self) -> frozenset[Feature]:
        """The features that requests must do without."""
        if not self._learnt:
            return self._known
        now = self._clock()
        return self._known.union(feature for feature, until in self._learnt.items() if until > now)

    def learn(self, error: ModelError, sent_without: frozenset[Feature] | None = None) -> bool:
        """Whether the error is about a feature that the request had, so that it is worth repeating without.

        `sent_without` are the features that the request did without; by default those known now.
        """
        feature = refused_feature(error)
        if feature == "max_tokens" and "max_completion_tokens" in self._known and "max_completion" in error.detail:
            # The settings know the server as an older one than it is for this model.
            self._known -= {"max_completion_tokens"}
        if feature is None or feature in (self.without if sent_without is None else sent_without):
            return False
        if feature not in self.without:
            log.warning("%s refuses %s, and is asked without from now on: %s", self._name, feature, error.detail)
        keep = STATE_FORGOTTEN_AFTER if feature == "previous_response_id" else FORGOTTEN_AFTER
        self._learnt[feature] = self._clock() + keep
        return True

    def untold(self, request: Request) -> list[str]:
        """What people have to know about what this request does without; each only once."""
        without = self.without
        missing: list[Feature] = []
        if "images" in without and images_in(request.transcript):
            missing.append("images")
        if "tools" in self._learnt and "tools" in without and request.tools:
            missing.append("tools")
        news = [feature for feature in missing if feature not in self._told]
        self._told.update(news)
        return [TOLD[feature].format(name=self._name) for feature in news]


Ask = Callable[[Request, frozenset[Feature], OnDelta], Awaitable[Answer]]
"""Sends a request that does without these features."""


async def ask_within(abilities: LearnedAbilities, request: Request, ask: Ask, on_delta: OnDelta) -> Answer:
    """Asks, and again without each feature that the server refuses. Raises `ModelError` if it refuses something else.

    Images that the model does not take are a text in the request that `ask` gets.
    """
    while True:
        without = abilities.without
        for notice in abilities.untold(request):
            await on_delta(Waiting(notice))
        tracker = DeltaTracker(on_delta)
        adapted = without_images(request) if "images" in without else request
        try:
            return await ask(adapted, without, tracker.on_delta)
        except ModelError as error:
            if error.kind == "no_vision" and not images_in(request.transcript):
                raise
            if not abilities.learn(error, without):
                raise
        await tracker.withdraw()
