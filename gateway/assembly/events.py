"""Events for programs: the follower, made when something needs it first, and webhooks. Their libraries take a while to
load."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from config.webhooks import WebhookSettings
from gateway.app import Gateway

if TYPE_CHECKING:
    # Only where somebody watches.
    from gateway.api.follower import Follower


class Following:
    """`run` is a service of the gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._made: asyncio.Future[Follower] = asyncio.get_running_loop().create_future()

    async def follower(self) -> Follower:
        """The one follower of this process."""
        if not self._made.done():
            module = await asyncio.to_thread(importlib.import_module, "gateway.api.follower")
            if not self._made.done():
                self._made.set_result(module.Follower(self._gateway))
        return self._made.result()

    async def run(self) -> None:
        follower = await asyncio.shield(self._made)
        await follower.run()


async def run_webhooks(gateway: Gateway, following: Following, settings: Sequence[WebhookSettings]) -> None:
    """A service of the gateway: tells the configured webhooks of events."""
    if not settings:
        return
    module = await asyncio.to_thread(importlib.import_module, "gateway.api.webhooks")
    hooks = [
        module.Webhook(
            url=given.url,
            secret=given.secret.get_secret_value(),
            events=frozenset(given.events),
            conversations=None if given.conversations is None else tuple(given.conversations),
            channels=None if given.channels is None else tuple(given.channels),
        )
        for given in settings
    ]
    await module.Webhooks(gateway, await following.follower(), hooks).run()
