"""Continuation: a model wrapper that asks the model to continue an answer cut off at the length limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from agent.context.tokens import add_up
from agent.events import Charged, Delta, OnDelta, TextDelta, Withdrawn
from agent.log import Call, ModelAnswered, Part, Text
from agent.model import Answer, Model, ModelError, Request
from agent.transcript import SystemNote

log = logging.getLogger(__name__)

MAX_CONTINUATIONS = 2

CONTINUE = SystemNote(
    "You were cut off at the length limit. Continue exactly where you stopped, without repeating anything."
)


class ContinuingModel:
    """Continues a text answer that was cut off, up to twice, and joins the parts into one answer. So it does with one
    of steps of the provider's own only: it pauses after many web searches.

    The stream continues seamlessly: when a continuation is withdrawn, the text before it is sent again. If a
    continuation fails, the answer stays cut off. An answer with tool calls, or to a request with `max_tokens`, is not
    continued.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        answer = await self._model.answer(request, on_delta)
        if request.settings.max_tokens is not None:
            return answer
        for _ in range(MAX_CONTINUATIONS):
            if not _can_continue(answer):
                break
            more = await self._continue(request, answer, on_delta)
            if more is None:
                break
            answer = _combined(answer, more)
        return answer

    async def _continue(self, request: Request, answer: Answer, on_delta: OnDelta) -> Answer | None:
        """The next part of the answer, or None if the model fails."""
        transcript = (*request.transcript, ModelAnswered(0, answer.parts), CONTINUE)
        stream = _ContinuationStream(answer.text, on_delta)
        try:
            asked = replace(request, transcript=transcript, continues=True)
            return await self._model.answer(asked, stream.on_delta)
        except ModelError as error:
            log.warning("an answer that was cut off could not be continued: %s", error)
            await stream.withdraw()
            return None
        except asyncio.CancelledError:
            # A cancelled call reports no usage, but the part before it was billed.
            await on_delta(Charged(answer.usage, answer.model, "cancelled"))
            raise


class _ContinuationStream:
    """Passes on the deltas of a continuation. Withdrawing it keeps the text before it."""

    def __init__(self, before: str, on_delta: OnDelta) -> None:
        self._before = before
        self._on_delta = on_delta
        self._has_text = False

    async def on_delta(self, delta: Delta) -> None:
        self._has_text = isinstance(delta, TextDelta) or (self._has_text and not isinstance(delta, Withdrawn))
        await self._on_delta(delta)
        if isinstance(delta, Withdrawn):
            await self._on_delta(TextDelta(self._before))

    async def withdraw(self) -> None:
        if self._has_text:
            await self.on_delta(Withdrawn())


def merge_texts(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts, with adjacent texts merged into one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Text) and isinstance(last, Text):
            merged[-1] = Text(last.text + part.text)
        else:
            merged.append(part)
    return tuple(merged)


def _can_continue(answer: Answer) -> bool:
    calls = any(isinstance(part, Call) for part in answer.parts)
    return answer.finish == "length" and not calls and (bool(answer.text.strip()) or answer.has_steps)


def _combined(first: Answer, second: Answer) -> Answer:
    parts = merge_texts((*first.parts, *second.parts))
    return replace(second, parts=parts, usage=add_up((first.usage, second.usage)))
