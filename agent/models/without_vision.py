"""Words for pictures: a model around one that may turn out to take words only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from agent.events import Tell, Waiting
from agent.log import MessagesRead, UserMessage
from agent.model import Answer, Model, ModelError, Request
from agent.models.content import UnavailableImage, pictures, unavailable_text
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Result, Results

log = logging.getLogger(__name__)

BLIND = UnavailableImage("this model cannot look at pictures")


class WithoutVisionModel:
    """Asks again in words where the model says that it cannot look at pictures, and from then on at once.

    The person is told when it is found out, and not again as long as the process lives. `name` is the model's in the
    settings.
    """

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._is_blind = False

    async def answer(self, request: Request, tell: Tell) -> Answer:
        if self._is_blind:
            return await self._model.answer(_in_words(request), tell)
        try:
            return await self._model.answer(request, tell)
        except ModelError as error:
            if error.trouble != "no_vision" or not pictures(request.transcript):
                raise
        if not self._is_blind:
            self._is_blind = True
            log.info("%s cannot look at pictures; it is told about them in words", self._name)
            await tell(Waiting(f"{self._name} cannot look at pictures; it is told about them in words."))
        return await self._model.answer(_in_words(request), tell)


def _in_words(request: Request) -> Request:
    """The request with a sentence for each picture; the same object where there are none."""
    if not pictures(request.transcript):
        return request
    return replace(request, transcript=described(request.transcript))


def described(transcript: Sequence[Exchange]) -> list[Exchange]:
    """The conversation with a sentence in place of each picture, behind the words that came with it."""
    return [_described(exchange) if pictures((exchange,)) else exchange for exchange in transcript]


def _described(exchange: Exchange) -> Exchange:
    match exchange:
        case MessagesRead():
            return replace(exchange, messages=tuple(map(_said, exchange.messages)))
        case Results():
            return Results(tuple(map(_result, exchange.results)))
        case _:
            return exchange


def _said(said: UserMessage) -> UserMessage:
    seen = [file for file in said.attachments if file.is_picture]
    others = tuple(file for file in said.attachments if not file.is_picture)
    sentences = [unavailable_text(file, BLIND, where=f", in the workspace as {workspace_path(file)}") for file in seen]
    return replace(said, text=_joined(said.text, sentences), attachments=others)


def _result(result: Result) -> Result:
    sentences = [unavailable_text(image, BLIND) for image in result.images]
    return replace(result, text=_joined(result.text, sentences), images=())


def _joined(text: str, sentences: Sequence[str]) -> str:
    return "\n\n".join(words for words in (text, *sentences) if words.strip())
