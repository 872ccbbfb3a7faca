"""Sampling of what nobody tells: the event loop's delay, and whether channels work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from gateway.signals.metrics import Metrics

INTERVAL = 1.0
"""Seconds between two samples."""


class Sampler:
    """Samples once a second, from the first scrape on: nothing is sampled for nobody."""

    def __init__(self, metrics: Metrics, channels: Callable[[], Mapping[str, str]], interval: float = INTERVAL) -> None:
        self._metrics = metrics
        self._channels = channels
        self._interval = interval
        self._wanted = asyncio.Event()

    def start(self) -> None:
        """There is somebody who reads the samples."""
        self._wanted.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._wanted.wait()
        while True:
            due = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            self._metrics.sample(max(0.0, loop.time() - due), self._channels())
