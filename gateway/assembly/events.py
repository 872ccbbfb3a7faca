"""Events for programs: the follower, made when something needs it first, and webhooks. Their libraries take a while to
load."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from agent.loading import load
from config.webhooks import WebhookSettings
from gateway.app import Gateway
from gateway.lifecycle.connectors import Connectors
from gateway.lifecycle.supervision import supervised
from gateway.lifecycle.tasks import BackgroundTasks

if TYPE_CHECKING:
    # Only where somebody watches.
    from gateway.api.follower import Follower


Kind = Literal["all", "all without progress", "own"]


class Following:
    """Use as `async with`, around the gateway: what ends while it stops is told as well."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        loop = asyncio.get_running_loop()
        self._made: dict[Kind, asyncio.Future[Follower]] = {kind: loop.create_future() for kind in get_args(Kind)}
        self._tasks = BackgroundTasks("following events failed")

    async def __aenter__(self) -> Following:
        await self._tasks.__aenter__()
        for made in self._made.values():
            self._tasks.start(partial(supervised, partial(_run, made)))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)

    async def follower(self) -> Follower:
        """The one that tells what happens in any worker."""
        return await self._make("all")

    async def follower_for(self, types: Collection[str]) -> Follower:
        """One that tells at least events of these types, of any worker."""
        module = await load("gateway.api.follower")
        needs_none = module.WITHOUT_PROGRESS.issuperset(types)
        return await self._make("all without progress" if needs_none else "all")

    async def follower_of_own(self) -> Follower:
        """The one that tells what happens in this worker, such as the troubles of its channels."""
        return await self._make("own" if self._gateway.store.is_shared else "all")

    async def _make(self, kind: Kind) -> Follower:
        made = self._made[kind]
        if not made.done():
            module = await load("gateway.api.follower")
            if not made.done():
                with_progress = kind != "all without progress"
                made.set_result(module.Follower(self._gateway, own_only=kind == "own", with_progress=with_progress))
        return made.result()


async def _run(made: asyncio.Future[Follower]) -> None:
    follower = await asyncio.shield(made)
    await follower.run()


async def run_webhooks(
    gateway: Gateway, following: Following, connectors: Connectors, lease: float, settings: Sequence[WebhookSettings]
) -> None:
    """A service of the gateway: tells the configured webhooks of events. `lease` is the seconds of a worker's."""
    if not settings:
        return
    since = datetime.now(UTC)
    module = await load("gateway.api.webhooks")
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
    # A worker that was killed is buried after its lease, and that is noticed at the next look.
    look_interval, unnoticed = lease / 2, timedelta(seconds=3 * lease if gateway.store.is_shared else 0)
    await module.Webhooks(
        gateway,
        connectors,
        await following.follower_for({type for hook in hooks for type in hook.events}),
        await following.follower_of_own(),
        hooks,
        since=since,
        overlap=module.OVERLAP + unnoticed,
        look_interval=look_interval,
    ).run()
