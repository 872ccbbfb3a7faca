"""The follower of events, made when something needs it first: its libraries take a while to load."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING

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
