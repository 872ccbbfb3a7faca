"""A large answer takes long to render; everything else goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from channels.address import Address
from channels.discord import render as discord
from channels.markdown import Table, parse, split
from channels.reply import Reply, TextSegment
from channels.slack import render as slack
from channels.sync import rendered
from channels.telegram import render as telegram

PLACE = Address("memory", "me", "chat")
ROWS = 1650
TABLE = "| a | b | c |\n|---|---|---|\n" + "".join(
    f"| cell **{row}** | `code {row}` | some words here {row} |\n" for row in range(ROWS)
)
RENDERERS: dict[str, Callable[[Reply], Sequence[object]]] = {
    "telegram": telegram.render,
    "slack": slack.render,
    "discord": discord.render,
}


@pytest.mark.parametrize("platform", RENDERERS)
async def test_the_event_loop_goes_on_while_a_large_table_is_rendered(platform: str) -> None:
    render = RENDERERS[platform]
    reply = Reply("r1", PLACE, None, (TextSegment("t", TABLE),), done=True)
    rendering = asyncio.create_task(rendered(render, reply))
    iterations = 0
    while not rendering.done():
        await asyncio.sleep(0)
        iterations += 1
    assert iterations > 100
    assert await rendering == render(reply)


async def test_a_short_answer_is_rendered_at_once() -> None:
    reply = Reply("r1", PLACE, None, (TextSegment("t", "Hello."),), done=True)
    rendering = asyncio.create_task(rendered(telegram.render, reply))
    await asyncio.sleep(0)
    assert rendering.done()


def test_cutting_a_table_measures_few_tables() -> None:
    """As many as there are rows, each measured whole, took half a minute."""
    [table] = parse(TABLE)
    measured = 0

    def measure(block: object) -> int:
        nonlocal measured
        assert isinstance(block, Table)
        measured += len(block.rows)
        return 40 * len(block.rows)

    parts = split([table], 4000, measure)
    assert len(parts) == -(-ROWS // 100)
    assert measured < 20 * ROWS
