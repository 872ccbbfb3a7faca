"""Vision: a model wrapper that sends turns with pictures to a model that sees them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from agent.events import OnDelta
from agent.log import MessagesRead
from agent.model import Answer, Model, Request
from agent.models.content import images_in
from agent.transcript import Exchange


class VisionModel:
    """Sends a request to the model `vision`, a name that the chain knows, if its turn has pictures.

    Not if the model that would be asked is among those that `see` pictures; `default` is the one that is asked when a
    request names none. Pictures of earlier turns do not count: they would bind the conversation to that model for ever.
    """

    def __init__(self, model: Model, vision: str, *, default: str, see: Container[str]) -> None:
        self._model = model
        self._vision = vision
        self._default = default
        self._see = see

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        if (request.model or self._default) not in self._see and images_in(_of_this_turn(request.transcript)):
            request = replace(request, model=self._vision)
        return await self._model.answer(request, on_delta)


def _of_this_turn(transcript: Sequence[Exchange]) -> Sequence[Exchange]:
    """From the messages that began the turn; everything if a compaction has covered those."""
    for number in range(len(transcript) - 1, -1, -1):
        exchange = transcript[number]
        if isinstance(exchange, MessagesRead) and exchange.step == 1:
            return transcript[number:]
    return transcript
