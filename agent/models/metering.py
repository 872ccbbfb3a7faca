"""Metering: a model wrapper that computes the cost of answers, and of attempts that give no answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.context.tokens import characters_of, estimate_tokens, tokens_of
from agent.events import Charged, Delta, OnDelta, ReasoningDelta, TextDelta
from agent.log import Usage
from agent.model import Answer, Model, ModelError, Request
from agent.models.prices import Price


class MeteredModel:
    """Fills in the cost of an answer that the provider does not tell; 0 without a price. Token counts that the provider
    does not report are estimated.

    An attempt without an answer may be billed too: one that was cancelled or timed out, as nobody knows how far the
    provider had got, and one that broke off in the middle of its text. For those an estimate is reported as `Charged`.
    Refusals, rate limits and failed connections cost nothing.

    `name` is the model's name in the settings, like "openai:gpt-5". Wrap the provider's model directly, so that each
    attempt is metered by itself.
    """

    def __init__(self, model: Model, name: str, price: Price | None) -> None:
        self._model = model
        self._name = name
        self._price = price

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        counter = _CharacterCounter(on_delta)
        try:
            answer = await self._model.answer(request, counter.on_delta)
        except ModelError as error:
            if counter.characters or error.kind == "timeout":
                await on_delta(self._charged(request, counter.characters, "failed"))
            raise
        except asyncio.CancelledError:
            await on_delta(self._charged(request, counter.characters, "cancelled"))
            raise
        return replace(answer, usage=self._priced(_usage(answer, request)), model=self._name)

    def _charged(self, request: Request, characters: int, purpose: str) -> Charged:
        usage = Usage(estimate_tokens(request), tokens_of(characters), estimated=True)
        return Charged(self._priced(usage), self._name, purpose)

    def _priced(self, usage: Usage) -> Usage:
        if self._price is None or usage.cost:
            return usage
        return replace(usage, cost=self._price.of(usage))


class _CharacterCounter:
    """Passes deltas on, counting their characters."""

    def __init__(self, on_delta: OnDelta) -> None:
        self.characters = 0
        self._on_delta = on_delta

    async def on_delta(self, delta: Delta) -> None:
        if isinstance(delta, TextDelta | ReasoningDelta):
            self.characters += len(delta.text)
        await self._on_delta(delta)


def _usage(answer: Answer, request: Request) -> Usage:
    """The answer's usage, estimated if the provider reports none."""
    usage = answer.usage
    if usage.input or usage.output:
        return usage
    written = tokens_of(characters_of(answer.parts))
    return Usage(estimate_tokens(request), written, cost=usage.cost, estimated=True)
