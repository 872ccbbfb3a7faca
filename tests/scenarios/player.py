"""The player: takes a scenario's steps one after the other, and says where and how it does not come out."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from agent.interrupt import Interrupted, race
from agent.log import CallEnded, Ended, ModelAnswered
from agent.models.protocols.wire import ProtocolName
from tests.scenarios import steps_given, steps_looks, steps_models, steps_people, steps_tools
from tests.scenarios.forms import difference, fits
from tests.scenarios.models import Asked, HttpStage, ScriptedStage, Stage
from tests.scenarios.reading import Scenario, Step
from tests.scenarios.steps import TABLE, Found, found
from tests.scenarios.world import Look, World, Wrong
from tests.servers.models import Refused

STEPS = {
    steps_given: "What is so",
    steps_people: "People",
    steps_models: "Models",
    steps_tools: "Tools",
    steps_looks: "What is seen",
}
"""The modules that fill the table of steps by being imported, and what their steps are about."""

Patience = Callable[[Step | None], float]
"""For how many seconds a step is waited for, or (None) the end, before the scenario has failed."""


def a_minute(step: Step | None) -> float:
    return 60.0


LONGEST = 60
"""Lines of a log or a screen in a report."""


class DidNotComeOut(AssertionError):
    """The message names the file, the line and the scenario, what was to happen, and what was seen instead."""


async def play(scenario: Scenario, folder: Path, *, patience: Patience = a_minute) -> None:
    """Plays the scenario with the scripted model. Raises `DidNotComeOut` and `NotReadable`."""
    await _play(scenario, folder, ScriptedStage, patience)


async def play_over_http(
    scenario: Scenario,
    folder: Path,
    provider: ProtocolName,
    *,
    keeps_state: bool = False,
    patience: Patience = a_minute,
) -> None:
    """The same with the real client of a protocol and a local server, which may keep the conversations."""
    await _play(scenario, folder, lambda notify: HttpStage(notify, provider, keeps_state=keeps_state), patience)


async def _play(
    scenario: Scenario, folder: Path, stage: Callable[[Callable[[Asked], None]], Stage], patience: Patience
) -> None:
    steps = found(scenario)
    async with World(folder, stage) as world:
        for each in steps:
            await _take(scenario, world, each, patience)
        await _finish(scenario, world, patience)


async def _take(scenario: Scenario, world: World, each: Found, patience: Patience) -> None:
    if each.kind.kind != "look":
        world.looks.clear()
    where = f"tests/scenarios/{scenario.file}:{each.step.line}"
    try:
        if each.kind.kind == "given" and world.play is not None:
            raise Wrong("this has to stand before anything happens, or while the gateway is killed")
        async with asyncio.timeout(patience(each.step)):
            await each.kind.handler(world, **each.values)
    except (Wrong, Refused, TimeoutError) as error:
        why = str(error) or f"after {patience(each.step):g} s that was not so"
        raise DidNotComeOut(await _report(scenario, world, where, f"`{each.step.head}`: {why}")) from None


async def _finish(scenario: Scenario, world: World, patience: Patience) -> None:
    """At its end nothing may be left over, and what was last to be seen has to be seen still."""
    where = f"tests/scenarios/{scenario.file}:{scenario.line}"
    try:
        async with asyncio.timeout(patience(None)):
            await _until_idle(world)
            for look in world.looks:
                await _look_again(look)
            await _check_laws(world)
    except (Wrong, TimeoutError) as error:
        why = str(error) or f"after {patience(None):g} s not all was done"
        raise DidNotComeOut(await _report(scenario, world, where, f"at its end: {why}")) from None


async def _until_idle(world: World) -> None:
    with suppress(Interrupted):
        await race(world.until_idle(), world.until_left_over())
    if world.left_over():
        raise Wrong("something is left over that no step accounts for")


async def _look_again(look: Look) -> None:
    seen = await _seen(look)
    if not fits(look.expected, seen):
        raise Wrong(f"{look.what} did not stay as it was:\n{difference(look.expected, seen)}")


async def _seen(look: Look) -> list[str]:
    seen = look.see()
    lines: list[str] = await seen if inspect.isawaitable(seen) else seen
    return lines


async def _check_laws(world: World) -> None:
    """What holds at the end of every scenario: each message has one end, each turn, and each call."""
    play = await world.gateway()
    if play.states()["waiting"]:
        raise Wrong("there are messages that nobody has read")
    for id, parked in play.sql("SELECT id, parked FROM turns WHERE kind = 'turn'"):
        entries = (await play.store.turn(id)).entries
        ends = [entry for entry in entries if isinstance(entry, Ended)]
        if len(ends) != (0 if parked else 1):
            raise Wrong(f"a turn has {len(ends)} ends in its log")
        asked = [call.id for entry in entries if isinstance(entry, ModelAnswered) for call in entry.calls]
        ended = [entry.call_id for entry in entries if isinstance(entry, CallEnded)]
        if not parked and sorted(asked) != sorted(ended):
            raise Wrong(f"the calls {asked} of a turn have the results {ended}")


async def _report(scenario: Scenario, world: World, where: str, why: str) -> str:
    """Everything that a person needs who was not there."""
    lines = [f"{where}: {scenario.title}", why]
    if world.looking is not None:
        seen = await _seen(world.looking)
        lines += [f"{world.looking.what} is not so:", difference(world.looking.expected, seen)]
    lines += ["still open:", *_indented(world.left_over())]
    if world.play is not None:
        lines += ["screen:", *_indented(world.screen()), "log:", *_indented(await world.log())]
    return "\n".join(lines)


def table() -> list[str]:
    """All steps and what they mean, as the lines of Markdown tables."""
    lines: list[str] = []
    for module, title in STEPS.items():
        lines += [f"## {title}", "", "| step | meaning |", "|---|---|"]
        kinds = (kind for kind in TABLE if kind.handler.__module__ == module.__name__)
        lines += [f"| `{kind.template}` | {' '.join(kind.meaning.split())} |" for kind in kinds]
        lines.append("")
    return lines[:-1]


def _indented(lines: list[str]) -> list[str]:
    if len(lines) > LONGEST:
        lines = [*lines[: LONGEST // 2], f"({len(lines) - LONGEST} lines left out)", *lines[-LONGEST // 2 :]]
    return [f"    {line}" for line in lines] or ["    (nothing)"]
