"""Text in place of images, for a model that does not support them or refused them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.log import MessagesRead, UserMessage
from agent.media import Attachment, for_model
from agent.model import Request
from agent.models.content import UnavailableImage, images_in, unavailable_text
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Result, Results

NO_VISION = UnavailableImage("this model does not support pictures")


def without_images(
    request: Request, reason: UnavailableImage = NO_VISION, which: Callable[[Attachment], bool] | None = None
) -> Request:
    """The request with a text in place of each image, or of each for which `which` holds; the same object if it has
    none."""
    if not any(which is None or which(image) for image in images_in(request.transcript)):
        return request
    replaced = _Replaced(reason, which)
    transcript = [
        replaced.exchange(exchange) if images_in((exchange,)) else exchange for exchange in request.transcript
    ]
    return replace(request, transcript=transcript)


class _Replaced:
    def __init__(self, reason: UnavailableImage, which: Callable[[Attachment], bool] | None) -> None:
        self._reason = reason
        self._which = which

    def exchange(self, exchange: Exchange) -> Exchange:
        """The exchange with a text for each image, after the text that came with it."""
        match exchange:
            case MessagesRead():
                return replace(exchange, messages=tuple(map(self._message, exchange.messages)))
            case Results():
                return Results(tuple(map(self._result, exchange.results)))
            case _:
                return exchange

    def _message(self, message: UserMessage) -> UserMessage:
        files = for_model(message.attachments)
        images = [file for file in files if file.is_picture and self._is_meant(file)]
        others = tuple(file for file in files if file not in images)
        texts = [
            unavailable_text(file, self._reason, where=f", in the workspace as {workspace_path(file)}")
            for file in images
        ]
        return replace(message, text=_joined(message.text, texts), attachments=others)

    def _result(self, result: Result) -> Result:
        images = [image for image in result.images if self._is_meant(image)]
        others = tuple(image for image in result.images if image not in images)
        texts = [unavailable_text(image, self._reason) for image in images]
        return replace(result, text=_joined(result.text, texts), images=others)

    def _is_meant(self, image: Attachment) -> bool:
        return self._which is None or self._which(image)


def _joined(text: str, texts: Sequence[str]) -> str:
    return "\n\n".join(part for part in (text, *texts) if part.strip())
