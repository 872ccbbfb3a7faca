"""How long a wake-up takes from one worker to another, through a real PostgreSQL server, while events are relayed.

Run `python -m benchmarks.bus`.
"""

from __future__ import annotations

import asyncio
import sys
import time

from gateway.bus.postgres import PostgresBus
from tests.engines import engines
from tests.gateway.bus_contract import Gateway, started
from tests.gateway.test_bus_postgres import nothing, until_known

WAKES = 2_000
PAUSE = 0.005
"""Seconds between two wakes."""

EVENTS = 2
"""Events that are relayed with each wake."""


class Listening(Gateway):
    """Notes when it hears of each session."""

    def __init__(self) -> None:
        super().__init__()
        self.heard_at: dict[str, float] = {}

    def hear(self, session: str, *, by: str, anyone: bool) -> None:
        self.heard_at[session] = time.monotonic()


async def main() -> None:
    url = engines.server().create()
    async with (
        PostgresBus(url, "one", look_again=nothing) as one,
        PostgresBus(url, "other", look_again=nothing) as other,
    ):
        here, there = Gateway(), Listening()
        one.attach(here, here)
        other.attach(there, there)
        await until_known(one, other)
        woken_at: dict[str, float] = {}
        for number in range(WAKES):
            woken_at[f"s{number}"] = time.monotonic()
            one.wake(f"s{number}")
            for event in range(EVENTS):
                one.publish(started(event, f"e{number}"))
            await asyncio.sleep(PAUSE)
        await until_known(one, other)
    took = sorted(1000 * (there.heard_at[session] - at) for session, at in woken_at.items())
    shares = ", ".join(f"p{share} {took[len(took) * share // 100]:.1f} ms" for share in (50, 95, 99))
    sys.stdout.write(f"{len(took)} wakes: {shares}, at most {took[-1]:.1f} ms\n")


if __name__ == "__main__":
    asyncio.run(main())
