"""How much a model is to reason, in the two forms that providers take: an effort, or a budget of tokens."""

from __future__ import annotations

from typing import get_args

from agent.model import Effort

BUDGETS: dict[Effort, int] = {"off": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "max": 49_152}

EFFORTS: dict[Effort, str] = {
    "off": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "xhigh",
}
"""The efforts in OpenAI's words."""


def effort_of(reasoning: Effort | int) -> Effort:
    """The effort; of a budget the one that it suffices for."""
    if not isinstance(reasoning, int):
        return reasoning
    return next((effort for effort in get_args(Effort) if reasoning <= BUDGETS[effort]), "max")


def budget_of(reasoning: Effort | int) -> int:
    """The budget in tokens, 0 for no reasoning."""
    return max(reasoning, 0) if isinstance(reasoning, int) else BUDGETS[reasoning]
