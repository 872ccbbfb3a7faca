"""Compares the store on PostgreSQL with that on SQLite: the CPU time of this process per message, of a whole gateway
with a model that answers at once (without the server's).

`python -m benchmarks.postgres [--messages 300]`

It starts a PostgreSQL server of its own on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from agent.models.scripted import ScriptedModel
from channels.address import Address
from channels.memory import MemoryChannel
from tests.engines import KINDS, Kind, engines
from tests.gateway.play import inbound, playing

PLACES = 30
"""Conversations that are used at once when CPU time is measured."""


async def cpu_per_message(kind: Kind, folder: Path, messages: int) -> float:
    """Milliseconds of this process."""
    with engines.of(kind):
        async with playing(folder, ScriptedModel(*["It is."] * messages * 2), bound=3600) as play:
            places = [Address("memory", "me", str(number)) for number in range(PLACES)]

            async def rounds(count: int, before: int) -> None:
                for number in range(1, count + 1):
                    await play.deliver(*(inbound("Is it?", address=place) for place in places))
                    await play.channel.until(partial(_are_done, before + number * PLACES))

            await rounds(2, 0)
            since = time.process_time()
            await rounds(messages // PLACES, 2 * PLACES)
            return (time.process_time() - since) / (messages // PLACES * PLACES) * 1000


def _are_done(count: int, channel: MemoryChannel) -> bool:
    return sum(reply.done for reply in channel.replies.values()) >= count


def _row(name: str, *values: float) -> None:
    sys.stdout.write(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |\n")


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres")
    parser.add_argument("--messages", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cpu = {kind: await cpu_per_message(kind, Path(folder) / kind, given.messages) for kind in KINDS}
    sys.stdout.write("| CPU per message, ms | SQLite | PostgreSQL | ratio |\n|---|---|---|---|\n")
    _row("a message and its answer", cpu["sqlite"], cpu["postgresql"], cpu["postgresql"] / cpu["sqlite"])


if __name__ == "__main__":
    asyncio.run(main())
