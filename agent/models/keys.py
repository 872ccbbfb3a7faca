"""The API keys of a provider: which one a request is sent with, and when it may be sent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.events import OnDelta, Waiting
from agent.model import ModelError
from agent.models.fallback import CoolDowns
from agent.models.provider import Provider
from agent.models.retry import DeltaTracker

log = logging.getLogger(__name__)

NOTICE_AFTER = 5.0
"""Seconds of waiting that people are told about."""

MINUTE = 60.0

T = TypeVar("T")

Send = Callable[[str, OnDelta], Awaitable[T]]
"""Sends a request with this key; "" is none."""


class KeyRing:
    """Sends each request with the next key of the provider, at most `requests_per_minute`; one for all of its models.

    A key that is rejected, has no credit left or has reached its rate limit is in cool-down: the request is repeated
    with the next key, and later ones leave it out. When all are in cool-down, only the one whose cool-down ends first
    is asked. `clock` is monotonic, in seconds.
    """

    def __init__(self, provider: Provider, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider.name
        self._keys = provider.keys or ("",)
        self._per_minute = provider.requests_per_minute
        self._clock = clock
        self._cool_downs = CoolDowns(clock)
        self._next = 0
        self._slots: deque[float] = deque(maxlen=self._per_minute or 1)

    async def ask(self, send: Send[T], on_delta: OnDelta) -> T:
        """The answer to a request. Raises `ModelError`, that of the last key."""
        untried = set(self._keys)
        key = self._take(untried)
        while True:
            await self._wait_for_slot(on_delta)
            tracker = DeltaTracker(on_delta)
            try:
                return await send(key, tracker.on_delta)
            except ModelError as error:
                if not _is_about_the_key(error):
                    raise
                untried.discard(key)
                self._begin_cool_down(key, error)
                ready = {other for other in untried if not self._cool_downs.is_cooling(other)}
                if not ready:
                    raise
                key = self._take(ready)
            await tracker.withdraw()

    def _take(self, keys: set[str]) -> str:
        """The next of these keys that is not in cool-down, else the one whose cool-down ends first."""
        turn = [*self._keys[self._next :], *self._keys[: self._next]]
        candidates = [key for key in turn if key in keys]
        ready = [key for key in candidates if not self._cool_downs.is_cooling(key)]
        key = ready[0] if ready else min(candidates, key=self._cool_downs.end)
        self._next = (self._keys.index(key) + 1) % len(self._keys)
        return key

    def _begin_cool_down(self, key: str, error: ModelError) -> None:
        if len(self._keys) == 1:
            # The fallback model's cool-down is enough.
            return
        seconds = self._cool_downs.begin(key, error)
        number = self._keys.index(key) + 1
        log.warning("key %d of %s failed (%s); in cool-down for %.0f s", number, self._provider, error.kind, seconds)

    async def _wait_for_slot(self, on_delta: OnDelta) -> None:
        """Waits until one more request is allowed, in the order of asking."""
        if not self._per_minute:
            return
        now = self._clock()
        is_full = len(self._slots) == self._per_minute
        slot = max(now, self._slots[0] + MINUTE) if is_full else now
        self._slots.append(slot)
        seconds = slot - now
        if seconds >= NOTICE_AFTER:
            limit = f"{self._per_minute} requests per minute"
            notice = f"The limit of {limit} is reached; waiting {seconds:.0f} s."
            await on_delta(Waiting(notice, seconds=round(seconds, 1)))
        if seconds > 0:
            await asyncio.sleep(seconds)


def _is_about_the_key(error: ModelError) -> bool:
    """A name that the server does not know is an error of the same kind as a key that it does not accept."""
    return error.kind in ("rate_limit", "billing") or (error.kind == "auth" and error.status != 404)
