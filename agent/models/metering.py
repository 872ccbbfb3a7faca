"""Metering: a model around a provider's, that knows what its answers cost, and what is paid for without an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.context.tokens import characters_of, estimate_tokens, tokens_of
from agent.events import Charged, Delta, ReasoningDelta, Tell, TextDelta
from agent.log import Usage
from agent.model import Answer, Model, ModelError, Request
from agent.models.prices import Price


class MeteredModel:
    """Fills in what an answer costs; without a price that is 0. Tokens that the provider does not tell are estimated.

    An attempt that gives no answer may be billed all the same: one that was cancelled or timed out, since nobody can
    say how much of it the provider had worked off, and one that broke off in the middle of its text. Of those an
    estimate is told as `Charged`. Refusals, rate limits and failed connections cost nothing.

    `name` is the model's in the settings, like "openai:gpt-5". It stands directly around the provider's model: each
    attempt is metered by itself.
    """

    def __init__(self, model: Model, name: str, price: Price | None) -> None:
        self._model = model
        self._name = name
        self._price = price

    async def answer(self, request: Request, tell: Tell) -> Answer:
        streamed = _Streamed(tell)
        try:
            answer = await self._model.answer(request, streamed.tell)
        except ModelError as error:
            if streamed.characters or error.trouble == "timeout":
                await tell(self._charged(request, streamed, "failed"))
            raise
        except asyncio.CancelledError:
            await tell(self._charged(request, streamed, "cancelled"))
            raise
        return replace(answer, usage=self._priced(_known(answer, request)), model=self._name)

    def _charged(self, request: Request, streamed: _Streamed, purpose: str) -> Charged:
        used = Usage(estimate_tokens(request), tokens_of(streamed.characters), estimated=True)
        return Charged(self._priced(used), self._name, purpose)

    def _priced(self, usage: Usage) -> Usage:
        return usage if self._price is None else replace(usage, cost=self._price.of(usage))


class _Streamed:
    """Passes on what is told, and counts its characters."""

    def __init__(self, tell: Tell) -> None:
        self.characters = 0
        self._tell = tell

    async def tell(self, delta: Delta) -> None:
        if isinstance(delta, TextDelta | ReasoningDelta):
            self.characters += len(delta.text)
        await self._tell(delta)


def _known(answer: Answer, request: Request) -> Usage:
    """The answer's usage, estimated where a provider tells none."""
    used = answer.usage
    if used.input or used.output:
        return used
    return Usage(estimate_tokens(request), tokens_of(characters_of(answer.parts)), estimated=True)
