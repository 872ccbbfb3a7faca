"""The CPU that a call of an MCP server's tool takes in the gateway's process: the server is another one."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

from agent.mcp.server import McpServer
from agent.mcp.sources import ProcessSource
from agent.testing import MemoryMedia
from agent.tool import ToolContext
from benchmarks.contenders import ROOT, Failed
from benchmarks.scenarios import Bench
from benchmarks.table import Row, Target

CALLS = 50


async def mcp_calls(bench: Bench) -> list[Row]:
    """A call of a tool that adds two numbers, over stdio."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    source = ProcessSource("example", (sys.executable, "-m", "tests.servers.mcp_example"), environment)
    context = ToolContext(Path("unused"), MemoryMedia(), _ignore)
    found: list[float] = []
    async with McpServer("example", source) as server:
        status = await server.settled()
        if status.state != "running":
            raise Failed(f"the MCP server does not start: {status}")
        add = next(tool for tool in server if tool.name == "example_add")
        for _ in range(1 + bench.sizes.loop_rounds):
            start = time.process_time()
            for number in range(CALLS):
                await add.call(context, f'{{"a": {number}, "b": 1}}')
            found.append(1000 * (time.process_time() - start) / CALLS)
    measured = found[1:]  # the first calls build what all use
    return [
        Row(
            "CPU per call of an MCP tool",
            "ms",
            statistics.median(measured),
            targets=(Target(3),),
            details={"": measured},
        )
    ]


async def _ignore(text: str) -> None:
    pass
