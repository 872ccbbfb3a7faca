"""The cost of the sandbox: a shell command in it, outside it, and started directly."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.testing import MemoryMedia
from agent.tool import ToolContext
from agent.tools.sandbox import CommandPolicy, SandboxUnavailable, probe_sandbox
from agent.tools.shell import shell_with
from benchmarks.contenders import Failed
from benchmarks.scenarios import Bench
from benchmarks.table import FLOOR, Row, Target


async def commands(bench: Bench) -> list[Row]:
    """`true` as a call of the shell tool, against `bash -c true`."""
    try:
        await probe_sandbox()
    except SandboxUnavailable as error:
        raise Failed(f"no sandbox: {error}") from error
    with tempfile.TemporaryDirectory() as workspace:
        context = ToolContext(Path(workspace), MemoryMedia(), _ignore)
        inside = await _milliseconds(bench, lambda: _call(CommandPolicy(), context))
        outside = await _milliseconds(bench, lambda: _call(CommandPolicy(sandboxed=False), context))
        direct = await _milliseconds(bench, _run_directly)

    floors = {FLOOR: statistics.median(direct)}

    def row(name: str, found: list[float], *targets: Target) -> Row:
        return Row(name, "ms", statistics.median(found), floors, targets, {"": found, "direct": direct})

    return [
        row("a shell command (`true`) in the sandbox, beside `bash -c true`", inside, Target(1, FLOOR, more=30)),
        row("… outside the sandbox", outside),
    ]


async def _milliseconds(bench: Bench, run: Callable[[], Awaitable[object]]) -> list[float]:
    found: list[float] = []
    for _ in range(20 * bench.sizes.loop_rounds):
        start = time.perf_counter()
        await run()
        found.append(1000 * (time.perf_counter() - start))
    return found


async def _call(policy: CommandPolicy, context: ToolContext) -> None:
    await shell_with(policy).call(context, json.dumps({"command": "true"}))


async def _run_directly() -> None:
    process = await asyncio.create_subprocess_exec("bash", "-c", "true")
    await process.wait()


async def _ignore(text: str) -> None:
    pass
