"""Whole answers: a model around a model, that goes on where the length limit cut it off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from agent.context.tokens import add_up
from agent.events import Charged, Delta, Tell, TextDelta, Withdrawn
from agent.log import Call, ModelAnswered, Part, Text
from agent.model import Answer, Model, ModelError, Request
from agent.transcript import SystemNote

log = logging.getLogger(__name__)

MOST_CONTINUATIONS = 2

GO_ON = SystemNote("You were cut off at the length limit. Go on exactly where you stopped, without repeating anything.")


class ContinuingModel:
    """Asks on, up to twice, for an answer in words that was cut off, and makes one answer of it.

    What is told goes on seamlessly: when a continuation is taken back, the part before it is told again. One that fails
    leaves the answer cut off. An answer with calls, or with a length that was asked for, stays as it is.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    async def answer(self, request: Request, tell: Tell) -> Answer:
        answer = await self._model.answer(request, tell)
        if request.settings.max_tokens is not None:
            return answer
        for _ in range(MOST_CONTINUATIONS):
            if not _can_go_on(answer):
                break
            more = await self._go_on(request, answer, tell)
            if more is None:
                break
            answer = _one(answer, more)
        return answer

    async def _go_on(self, request: Request, answer: Answer, tell: Tell) -> Answer | None:
        """The next part of the answer, or None when it cannot be had."""
        so_far = (*request.transcript, ModelAnswered(0, answer.parts), GO_ON)
        told = _Continued(_text(answer.parts), tell)
        try:
            return await self._model.answer(replace(request, transcript=so_far), told.tell)
        except ModelError as error:
            log.warning("an answer that was cut off could not be completed: %s", error)
            await told.take_back()
            return None
        except asyncio.CancelledError:
            # What comes of a cancelled call has no usage, and the part before was paid for.
            await tell(Charged(answer.usage, answer.model, "cancelled"))
            raise


class _Continued:
    """Passes on what is told of a continuation. Taking it back leaves the text that came before it."""

    def __init__(self, before: str, tell: Tell) -> None:
        self._before = before
        self._tell = tell
        self._told = False

    async def tell(self, delta: Delta) -> None:
        self._told = isinstance(delta, TextDelta) or (self._told and not isinstance(delta, Withdrawn))
        await self._tell(delta)
        if isinstance(delta, Withdrawn):
            await self._tell(TextDelta(self._before))

    async def take_back(self) -> None:
        if self._told:
            await self.tell(Withdrawn())


def merge_texts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts with neighbouring texts made one."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(last, Text):
            whole[-1] = Text(last.text + part.text)
        else:
            whole.append(part)
    return tuple(whole)


def _can_go_on(answer: Answer) -> bool:
    calls = any(isinstance(part, Call) for part in answer.parts)
    return answer.finish == "length" and not calls and bool(_text(answer.parts).strip())


def _one(first: Answer, second: Answer) -> Answer:
    parts = merge_texts((*first.parts, *second.parts))
    return replace(second, parts=parts, usage=add_up((first.usage, second.usage)))


def _text(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))
