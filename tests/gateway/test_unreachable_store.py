"""Turns wait while the database cannot be reached, also for what they read of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.models.scripted import ScriptedModel
from gateway.app import GatewayOptions
from gateway.lifecycle import retry
from gateway.store import Store
from gateway.store.errors import StoreUnreachable
from gateway.turns.budgets import SpendingLimits
from tests.gateway.play import playing

pytestmark = pytest.mark.engines

ATTEMPTS = 2
"""Calls in vain of each operation."""


class AwayFor:
    """A store whose database does not answer the first calls of these operations."""

    def __init__(self, store: Store, operations: set[str]) -> None:
        self._store = store
        self._operations = operations
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        return self._at_first_unreachable(name, operation) if name in self._operations else operation

    def _at_first_unreachable(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.asked[name] += 1
            if self.asked[name] <= ATTEMPTS:
                raise StoreUnreachable("the server does not answer")
            return await operation(*args, **kwargs)

        return call


@pytest.mark.parametrize("operation", ["history", "reserve_spending", "spent"])
async def test_a_turn_waits_for_the_database_and_does_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(retry, "UNREACHABLE_PAUSE", 0.01)
    options = GatewayOptions(spending=SpendingLimits(daily=100.0))
    async with playing(tmp_path, ScriptedModel("One."), options=options) as play:
        await play.say("first")
        await play.reply("One.")
        await play.until_idle()
    stores: list[AwayFor] = []

    def away(store: Store) -> AwayFor:
        stores.append(AwayFor(store, {operation}))
        return stores[0]

    async with playing(tmp_path, ScriptedModel("Two."), options=options, store=away) as play:
        if operation == ("spent" if play.store.is_shared else "reserve_spending"):
            pytest.skip("the other engine asks this")
        await play.say("second")
        await play.reply("Two.")
        await play.until_idle()
        assert play.sql("SELECT DISTINCT state FROM turns") == [("completed",)]
    assert stores[0].asked[operation] > ATTEMPTS
