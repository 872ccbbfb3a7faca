"""Text in place of images: a model wrapper for a model that may turn out not to support images."""

from __future__ import annotations

import logging

from agent.events import OnDelta, Waiting
from agent.model import Answer, Model, ModelError, Request
from agent.models.content import images_in
from agent.models.without_images import without_images

log = logging.getLogger(__name__)


class WithoutVisionModel:
    """Repeats a request with text in place of the images if the model rejects them, and from then on sends only text.

    The person is told once, until the next start of the process. `name` is the model's name in the settings.
    """

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._has_no_vision = False

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        if self._has_no_vision:
            return await self._model.answer(without_images(request), on_delta)
        try:
            return await self._model.answer(request, on_delta)
        except ModelError as error:
            if error.kind != "no_vision" or not images_in(request.transcript):
                raise
        if not self._has_no_vision:
            self._has_no_vision = True
            log.info("%s does not support pictures; it gets a text in place of each", self._name)
            await on_delta(Waiting(f"{self._name} does not support pictures; it gets a text in place of each."))
        return await self._model.answer(without_images(request), on_delta)
