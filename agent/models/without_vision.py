"""Text in place of images: a model wrapper for a model that may turn out not to support images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from agent.events import OnDelta, Waiting
from agent.log import MessagesRead, UserMessage
from agent.model import Answer, Model, ModelError, Request
from agent.models.content import UnavailableImage, images_in, unavailable_text
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Result, Results

log = logging.getLogger(__name__)

NO_VISION = UnavailableImage("this model does not support pictures")


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
            return await self._model.answer(_with_texts(request), on_delta)
        try:
            return await self._model.answer(request, on_delta)
        except ModelError as error:
            if error.kind != "no_vision" or not images_in(request.transcript):
                raise
        if not self._has_no_vision:
            self._has_no_vision = True
            log.info("%s does not support pictures; it gets a text in place of each", self._name)
            await on_delta(Waiting(f"{self._name} does not support pictures; it gets a text in place of each."))
        return await self._model.answer(_with_texts(request), on_delta)


def _with_texts(request: Request) -> Request:
    """The request with a text in place of each image; the same object if it has none."""
    if not images_in(request.transcript):
        return request
    transcript = [_exchange(exchange) if images_in((exchange,)) else exchange for exchange in request.transcript]
    return replace(request, transcript=transcript)


def _exchange(exchange: Exchange) -> Exchange:
    """The exchange with a text for each image, after the text that came with it."""
    match exchange:
        case MessagesRead():
            return replace(exchange, messages=tuple(map(_message, exchange.messages)))
        case Results():
            return Results(tuple(map(_result, exchange.results)))
        case _:
            return exchange


def _message(message: UserMessage) -> UserMessage:
    images = [file for file in message.attachments if file.is_picture]
    others = tuple(file for file in message.attachments if not file.is_picture)
    texts = [
        unavailable_text(file, NO_VISION, where=f", in the workspace as {workspace_path(file)}") for file in images
    ]
    return replace(message, text=_joined(message.text, texts), attachments=others)


def _result(result: Result) -> Result:
    texts = [unavailable_text(image, NO_VISION) for image in result.images]
    return replace(result, text=_joined(result.text, texts), images=())


def _joined(text: str, texts: Sequence[str]) -> str:
    return "\n\n".join(part for part in (text, *texts) if part.strip())
