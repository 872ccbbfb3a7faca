"""What a conversation fills of its context window."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Context:
    """What a conversation fills of its model's context window of so many tokens, 1 for all of it."""

    share: float
    window: int
