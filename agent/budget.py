"""Budgets: cost limits of a turn, checked before each model call, and before tool calls that cost something."""

from __future__ import annotations

from typing import Protocol

from agent.model import Request


class Budget(Protocol):
    """One turn's view of its cost limits: its own, and those that it shares with other turns."""

    async def reserve(self, request: Request, extensions: int) -> str | None:
        """Reserves the estimated cost of the request. None: the request may be made, and `release` follows. Otherwise
        the limit that it would exceed, in words for a person; nothing is reserved. People have extended the limit
        `extensions` times.
        """

    def release(self) -> None:
        """Frees the reservation. The actual cost is in the turn's log."""

    async def reserve_call(self, call_id: str, cost: float, extensions: int) -> str | None:
        """Likewise for a tool call that costs about so much, in dollars; `release_call` follows."""

    async def reserve_request(self, call_id: str, request: Request, extensions: int) -> str | None:
        """Likewise for a request that a tool call makes; `release_call` follows."""

    def release_call(self, call_id: str) -> None:
        """Frees the reservation of a tool call."""


class NoBudget:
    """No limits."""

    async def reserve(self, request: Request, extensions: int) -> str | None:
        return None

    def release(self) -> None:
        return None

    async def reserve_call(self, call_id: str, cost: float, extensions: int) -> str | None:
        return None

    async def reserve_request(self, call_id: str, request: Request, extensions: int) -> str | None:
        return None

    def release_call(self, call_id: str) -> None:
        return None
