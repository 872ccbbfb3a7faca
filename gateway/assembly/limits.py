"""Limits from settings."""

from __future__ import annotations

from config.settings import LimitSettings
from gateway.turns.budgets import SpendingLimits


def spending_limits(limits: LimitSettings) -> SpendingLimits:
    """What turns and people may cost."""
    return SpendingLimits(limits.turn_cost, limits.person_daily_cost, limits.daily_cost, limits.delegate_tokens)
