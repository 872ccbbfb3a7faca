"""Budgets: what a turn may spend, asked before each model call."""

from __future__ import annotations

from typing import Protocol

from agent.model import Request


class Budget(Protocol):
    """One turn's view of what may be spent, by itself and together with others."""

    async def reserve(self, request: Request, extensions: int) -> str | None:
        """Sets aside what the request may cost. None: it may be made, and `release` follows. Else the limit that it
        would pass, in words for a person; nothing is set aside. People have allowed it to go on `extensions` times.
        """

    def release(self) -> None:
        """What was set aside is spent, or was not needed; what it did cost is told by the turn's log."""


class NoBudget:
    async def reserve(self, request: Request, extensions: int) -> str | None:
        return None

    def release(self) -> None:
        return None
