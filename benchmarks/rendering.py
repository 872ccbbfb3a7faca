"""How long the event loop stands still while a large answer is rendered."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.scenarios import Bench
from benchmarks.table import Row, Target
from channels.address import Address
from channels.discord import render as discord
from channels.reply import Reply, TextSegment
from channels.slack import render as slack
from channels.sync import rendered
from channels.telegram import render as telegram

Render = Callable[[Reply], Sequence[object]]

RENDERERS: Mapping[str, Render] = {"Slack": slack.render, "Discord": discord.render, "Telegram": telegram.render}
ROWS = 1650
TABLE = "| a | b | c |\n|---|---|---|\n" + "".join(
    f"| cell **{row}** | `code {row}` | some words here {row} |\n" for row in range(ROWS)
)
MAX_PAUSE_MS = 50


async def rendering(bench: Bench) -> list[Row]:
    """The longest pause of the event loop while a table of 85 kB is rendered; the median of the rounds."""
    rows = []
    # As `interject run` does: what is loaded at the start is never garbage.
    gc.collect()
    gc.freeze()
    for platform, render in RENDERERS.items():
        pauses = [await _longest_pause(render, number) for number in range(bench.sizes.loop_rounds)]
        name = f"Longest pause of the event loop while a table of 85 kB is rendered, {platform}"
        rows.append(Row(name, "ms", statistics.median(pauses), targets=(Target(MAX_PAUSE_MS),), details={"": pauses}))
    gc.unfreeze()
    return rows


async def _longest_pause(render: Render, number: int) -> float:
    """In ms. Each text differs, because texts that were rendered before are cached."""
    text = f"{TABLE}\nRound {number}."
    reply = Reply("r", Address("x", "x", "x"), None, (TextSegment("t", text),), done=True)
    task = asyncio.create_task(rendered(render, reply))
    longest, before = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest * 1000
