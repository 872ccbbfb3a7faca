"""Prices of well-known models, used where the settings have none.

Prices change, and special ones (long contexts, batches, other regions, a contract) are not included: the settings take
precedence over this table. These are the providers' list prices as of November 2026, from
https://openai.com/api/pricing and https://docs.anthropic.com/en/docs/about-claude/pricing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.log import Usage

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens. None: tokens read from or written to the cache cost as much as other input."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> float:
        """The cost of the usage, in dollars."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        uncached = max(0, usage.input - usage.cache_read - usage.cache_write)
        dollars = (
            uncached * self.input + usage.cache_read * read + usage.cache_write * write + usage.output * self.output
        )
        return dollars / MILLION


PRICES: dict[str, Price] = {
    "openai:gpt-3.5-turbo": Price(0.5, 1.5),
    "openai:gpt-4": Price(30, 60),
    "openai:gpt-4-turbo": Price(10, 30),
    "openai:gpt-4o": Price(2.5, 10, 1.25),
    "openai:gpt-4o-mini": Price(0.15, 0.6, 0.075),
    "openai:gpt-4.1": Price(2, 8, 0.5),
    "openai:gpt-4.1-mini": Price(0.4, 1.6, 0.1),
    "openai:gpt-4.1-nano": Price(0.1, 0.4, 0.025),
    "openai:o1": Price(15, 60, 7.5),
    "openai:o3": Price(2, 8, 0.5),
    "openai:o3-mini": Price(1.1, 4.4, 0.55),
    "openai:o3-pro": Price(20, 80),
    "openai:o4-mini": Price(1.1, 4.4, 0.275),
    "openai:gpt-5": Price(1.25, 10, 0.125),
    "openai:gpt-5-mini": Price(0.25, 2, 0.025),
    "openai:gpt-5-nano": Price(0.05, 0.4, 0.005),
    "openai:gpt-5-pro": Price(15, 120),
    "openai:gpt-5.1": Price(1.25, 10, 0.125),
    "openai:gpt-5.2": Price(1.75, 14, 0.175),
    "openai:gpt-5.3": Price(1.75, 14, 0.175),
    "openai:gpt-5.4": Price(2.5, 15, 0.25),
    "openai:gpt-5.4-mini": Price(0.75, 4.5, 0.075),
    "openai:gpt-5.4-nano": Price(0.2, 1.25, 0.02),
    "openai:gpt-5.5": Price(5, 30, 0.5),
    "openai:gpt-5.6-luna": Price(0.2, 1.2, 0.02, 0.25),
    "openai:gpt-5.6-terra": Price(2, 12, 0.2, 2.5),
    "openai:gpt-5.6-sol": Price(4, 20, 0.4, 5),
    "openai:gpt-6-luna": Price(0.1, 0.5, 0.01, 0.125),
    "openai:gpt-6-sol": Price(2, 10, 0.2, 2.5),
    "openai:gpt-6-astra": Price(10, 50, 1, 12.5),
    "openai:gpt-6.1-terra": Price(1, 5, 0.05, 1.25),
    "openai:gpt-6.1-sol": Price(2, 10, 0.1, 2.5),
    "anthropic:claude-3-haiku": Price(0.25, 1.25, 0.03, 0.3),
    "anthropic:claude-3-opus": Price(15, 75, 1.5, 18.75),
    "anthropic:claude-3-5-haiku": Price(0.8, 4, 0.08, 1),
    "anthropic:claude-3-5-sonnet": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-3-7-sonnet": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-sonnet-4": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-sonnet-4-0": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-sonnet-4-5": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-sonnet-4-6": Price(3, 15, 0.3, 3.75),
    "anthropic:claude-sonnet-5": Price(2, 10, 0.2, 2.5),
    "anthropic:claude-sonnet-5-5": Price(2, 10, 0.1, 2.5),
    "anthropic:claude-haiku-4-5": Price(1, 5, 0.1, 1.25),
    "anthropic:claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125),
    "anthropic:claude-opus-4": Price(15, 75, 1.5, 18.75),
    "anthropic:claude-opus-4-0": Price(15, 75, 1.5, 18.75),
    "anthropic:claude-opus-4-1": Price(15, 75, 1.5, 18.75),
    "anthropic:claude-opus-4-5": Price(5, 25, 0.5, 6.25),
    "anthropic:claude-opus-4-6": Price(5, 25, 0.5, 6.25),
    "anthropic:claude-opus-4-7": Price(5, 25, 0.5, 6.25),
    "anthropic:claude-opus-4-8": Price(5, 25, 0.5, 6.25),
    "anthropic:claude-opus-5": Price(5, 25, 0.5, 6.25),
    "anthropic:claude-opus-5-5": Price(4, 20, 0.2, 5),
    "anthropic:claude-fable-5": Price(10, 50, 1, 12.5),
    "anthropic:claude-fable-5-1": Price(10, 50, 0.25, 12.5),
    "anthropic:claude-fable-5-2": Price(8, 40, 0.2, 10),
}
"""For inputs below the length from which a price rises."""

_VERSION_SUFFIX = re.compile(r"-(?:latest|\d{8}|\d{4}-\d{2}-\d{2})$")


def price_of(model: str, own: Mapping[str, Price] | None = None, *, is_listed: bool = True) -> Price | None:
    """The price of a model by its name in the settings, like "openai:gpt-5"; None if it is not known.

    `own` are the operator's prices for that provider, by the bare name ("gpt-5"); they take precedence. A dated version
    has the price of its model, unless it has its own. Not `is_listed`: another server under that provider's name, whose
    prices are its own.
    """
    provider, _, name = model.partition(":")
    for candidate in (name, _VERSION_SUFFIX.sub("", name)):
        if own and candidate in own:
            return own[candidate]
        if is_listed and (price := PRICES.get(f"{provider}:{candidate}")) is not None:
            return price
    return None
