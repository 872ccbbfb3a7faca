"""New sessions at Discord: how many connections they are for, and when the next one may begin."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from channels.channel import Shards
from channels.discord.parse import Json

log = logging.getLogger(__name__)

IDENTIFY_INTERVAL = 5.0
"""https://discord.com/developers/docs/events/gateway#rate-limiting: seconds between two new sessions of one bucket."""

MAX_SHARDS = 50_000
"""More are not believed: Discord wants one for about a thousand servers, and no bot is in so many."""

LOOK_INTERVAL = 60.0
"""Seconds until Discord is asked again whether new sessions are allowed."""


@dataclass(frozen=True, slots=True)
class StartLimits:
    """What Discord says of new sessions. `shards` is how many connections it wants, `concurrency` how many may identify
    within the interval, `remaining` how many sessions may begin until the limit is reset in `reset_after` seconds.

    https://discord.com/developers/docs/events/gateway#get-gateway-bot
    https://discord.com/developers/docs/events/gateway#session-start-limit-object
    """

    shards: int = 1
    concurrency: int = 1
    remaining: int = 1000
    reset_after: float = 0.0


def start_limits(answer: Json) -> StartLimits:
    """From the answer of `GET /gateway/bot`. Raises `ValueError`, or another error of `channels.visible.MALFORMED`."""
    limit, shards = answer["session_start_limit"], int(answer["shards"])
    if shards > MAX_SHARDS:
        raise ValueError(f"{shards} connections: more than {MAX_SHARDS}")
    return StartLimits(
        max(1, shards),
        max(1, int(limit["max_concurrency"])),
        int(limit["remaining"]),
        int(limit["reset_after"]) / 1000,
    )


@dataclass(slots=True)
class Turn:
    """The permission to begin one session, until `end` is called, at the latest when the session is there."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    used: bool = False

    def end(self, *, used: bool) -> None:
        """`used`: Discord may have been asked for a session."""
        self.used = self.used or used
        self.ended.set()


class SessionStarts:
    """Turns at beginning a session, for all connections of an account in all workers: one in each bucket, and then none
    for the interval. A connection's bucket is its number modulo `max_concurrency`; see
    https://discord.com/developers/docs/events/gateway#sharding-max-concurrency

    `ask` gives what Discord says now; `problem` is called with the current problem, "" for none. The `interval` is in
    seconds. Turns are held in `tasks`, also for a while after they have ended.
    """

    def __init__(
        self,
        channel: str,
        shards: Shards,
        ask: Callable[[], Awaitable[StartLimits]],
        interval: float,
        problem: Callable[[str], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._channel = channel
        self._shards = shards
        self._ask = ask
        self._interval = interval
        self._problem = problem
        self._tasks = tasks
        self._limits = StartLimits()
        self._asked_at = -math.inf
        self._begun = 0
        """Sessions that have begun here since."""
        self._asking = asyncio.Lock()

    async def limits(self) -> StartLimits:
        """As Discord says now."""
        self._limits, self._asked_at, self._begun = await self._ask(), time.monotonic(), 0
        return self._limits

    async def begin(self, number: int) -> Turn:
        """Waits for the turn of the connection with that number."""
        turn = Turn()
        holding = self._tasks.create_task(self._hold(turn, number % self._limits.concurrency))
        try:
            await turn.begun.wait()
        except asyncio.CancelledError:
            holding.cancel()
            raise
        return turn

    async def _hold(self, turn: Turn, bucket: int) -> None:
        async with self._shards.turn(f"identify {bucket}") as lease:
            if lease.state:
                # Its last holder has ended within the interval, or in the middle of its turn.
                await asyncio.sleep(self._interval)
            await self._until_allowed()
            await lease.save({"begun": True})
            turn.begun.set()
            await turn.ended.wait()
            if turn.used:
                await asyncio.sleep(self._interval)
            await lease.save({})

    async def _until_allowed(self) -> None:
        """More are left than may begin at the same moment: when a bot hits the limit, Discord ends all its sessions and
        resets its token (https://discord.com/developers/docs/events/gateway#identifying)."""
        while (limits := await self._recent_limits()).remaining - self._begun <= limits.concurrency:
            minutes = limits.reset_after / 60
            self._problem(f"Discord allows this bot no new session for {minutes:.0f} minutes")
            log.warning("%s: Discord allows no new session for %.0f minutes", self._channel, minutes)
            await asyncio.sleep(min(max(limits.reset_after, self._interval), LOOK_INTERVAL))
            self._asked_at = -math.inf
        self._begun += 1
        self._problem("")

    async def _recent_limits(self) -> StartLimits:
        """Asked once in an interval, for all that begin in it."""
        async with self._asking:
            return self._limits if time.monotonic() - self._asked_at < self._interval else await self.limits()
