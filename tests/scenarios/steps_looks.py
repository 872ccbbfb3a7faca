"""Steps: what is to be seen on the screen, in the log and in the inbox. Each waits until it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.gateway.play import ELSEWHERE, until
from tests.scenarios.forms import fits
from tests.scenarios.steps import step
from tests.scenarios.world import Look, World


async def _until_shown(world: World, look: Look) -> None:
    """Screens ring when they change."""
    world.looking = look
    await world.signal.until(lambda: fits(look.expected, look.see()))
    world.looking = None
    world.looks.append(look)


async def _until_kept(world: World, look: Look) -> None:
    world.looking = look
    while not fits(look.expected, await look.see()):  # noqa: ASYNC110 - what lies in a file rings for nobody
        await asyncio.sleep(0.002)
    world.looking = None
    world.looks.append(look)


def _written(block: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for line in block if line)


@step("screen: {text}", "look")
async def screen(world: World, text: str) -> None:
    """What people see in their chat, one reply after the other with `--` between them; `~` is a status line."""
    await _until_shown(world, Look("the screen", _written(text.split("\n")), world.screen))


@step("screen elsewhere: {text}", "look")
async def screen_elsewhere(world: World, text: str) -> None:
    """The same in the other chat."""
    look = Look("the screen elsewhere", _written(text.split("\n")), lambda: world.screen(ELSEWHERE))
    await _until_shown(world, look)


@step("screen with calls: {text}", "look")
async def screen_with_calls(world: World, text: str) -> None:
    """The same where calls are shown, each with its state."""
    look = Look("the screen with calls", _written(text.split("\n")), lambda: world.screen(calls=True))
    await _until_shown(world, look)


@step("screen is empty", "look")
async def screen_is_empty(world: World) -> None:
    """Nothing was said to them at all."""
    await _until_shown(world, Look("the screen", (), world.screen))


@step("log: {block}", "look")
async def log(world: World, block: tuple[str, ...]) -> None:
    """The logs of all turns, entry by entry, with `--` between two turns."""
    await _until_kept(world, Look("the log", _written(block), world.log))


@step("inbox: {block}", "look")
async def inbox(world: World, block: tuple[str, ...]) -> None:
    """What became of each message."""
    await _until_kept(world, Look("the inbox", _written(block), world.inbox))


@step("all is done", "look")
async def all_is_done(world: World) -> None:
    """Nothing runs, nothing waits to be read and everything is delivered."""
    await world.until_idle()


@step("the task waits for people", "look")
async def waits_for_people(world: World) -> None:
    """It has asked, and does nothing any more. Words come a moment too early before that, and are read as a message."""
    play = await world.gateway()
    await until(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND state = 'running'"))
