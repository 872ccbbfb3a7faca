"""Steps: what a running tool call does, and how it ends. A call runs until a step lets it end."""

from __future__ import annotations

from collections.abc import Callable

from agent.tool import ToolError
from agent.tool_result import ToolResult
from tests.scenarios.steps import step
from tests.scenarios.steps_people import file_named, repeated
from tests.scenarios.tools import Run, split
from tests.scenarios.world import World, Wrong


async def _run(world: World, subject: str, wanted: Callable[[Run], bool]) -> Run:
    """The oldest such run of the tool that the scenario has not accounted for, once there is one."""
    name, arguments = split(subject)
    if name not in {tool.name for tool in world.given.tools}:
        raise Wrong(f"there is no tool {name!r}")
    return await world.signal.until(
        lambda: next((run for run in world.runs if not run.noted and run.fits(name, arguments) and wanted(run)), None)
    )


def _runs(run: Run) -> bool:
    return run.state == "running"


async def _end(world: World, subject: str, result: ToolResult | Exception) -> None:
    run = await _run(world, subject, _runs)
    run.noted = True
    if isinstance(result, Exception):
        run.outcome.set_exception(result)
    else:
        run.outcome.set_result(result)
    await run.over.wait()


@step("{tool} runs")
async def runs(world: World, tool: str) -> None:
    """A call of the tool has begun and goes on."""
    await _run(world, tool, _runs)


@step("{tool} shows: {text}")
async def shows(world: World, tool: str, text: str) -> None:
    """The running call shows people what it does."""
    await (await _run(world, tool, _runs)).context.progress(text)


@step("{tool} returns: {text}")
async def returns(world: World, tool: str, text: str) -> None:
    """The call ends with this result."""
    await _end(world, tool, ToolResult(text))


@step("{tool} returns {number} lines of: {text}")
async def returns_at_length(world: World, tool: str, number: str, text: str) -> None:
    """A long result: these words with a number behind them, line after line."""
    await _end(world, tool, ToolResult(repeated(text, int(number))))


@step("{tool} returns nothing")
async def returns_nothing(world: World, tool: str) -> None:
    """The call ends with an empty result."""
    await _end(world, tool, ToolResult(""))


@step("{tool} returns for good: {text}")
async def returns_for_good(world: World, tool: str, text: str) -> None:
    """The call's result is the answer."""
    await _end(world, tool, ToolResult(text, for_user=text, final=True))


@step("{tool} returns in silence: {text}")
async def returns_in_silence(world: World, tool: str, text: str) -> None:
    """The call ends with this result, and people need not see that it was made."""
    await _end(world, tool, ToolResult(text, silent=True))


@step("{tool} returns for people: {text}")
async def returns_for_people(world: World, tool: str, text: str) -> None:
    """The call ends; the model is told `done`, and people see these words."""
    await _end(world, tool, ToolResult("done", for_user=text))


@step("{tool} makes {name}: {text}")
async def makes(world: World, tool: str, name: str, text: str) -> None:
    """The call ends with a file for the person and this caption; the model is told that it was made."""
    made = await world.media.put(file_named(name), name)
    await _end(world, tool, ToolResult(f"made {name}", attachments=(made,), caption=text))


@step("{tool} lets the model see {name}")
async def lets_see(world: World, tool: str, name: str) -> None:
    """The call ends with a picture for the model's eyes."""
    picture = await world.media.put(file_named(name), name)
    await _end(world, tool, ToolResult(f"this is {name}", images=(picture,)))


@step("{tool} fails: {text}")
async def fails(world: World, tool: str, text: str) -> None:
    """The call fails in a way that the model can act on."""
    await _end(world, tool, ToolError(text))


@step("{tool} breaks: {text}")
async def breaks(world: World, tool: str, text: str) -> None:
    """The tool has a fault of its own."""
    await _end(world, tool, ValueError(text))


@step("{tool} is cancelled")
async def is_cancelled(world: World, tool: str) -> None:
    """The gateway has ended the running call."""
    run = await _run(world, tool, lambda run: True)
    await run.cancelled.wait()
    run.noted = True


@step("{tool} has not run", "look")
async def has_not_run(world: World, tool: str) -> None:
    """No call of the tool has begun so far."""
    name, arguments = split(tool)
    if any(run.fits(name, arguments) for run in world.runs):
        raise Wrong(f"{tool} has run")
