"""The example MCP server of the demo, which starts when it is first called. An installed package has no examples."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.toolset import Toolset
from agent.worker_process import COMMAND_VARIABLES, passed_on
from gateway.store.records import Command
from gateway.turns.mcp import NoMcp

if TYPE_CHECKING:
    # Loaded with the first call.
    from agent.mcp.server import McpServer

NAME = "stock"
ROOT = Path(__file__).parents[2]


def example_server(root: Path) -> Path | None:
    """The example's file; None where there is only the installed package."""
    file = root / "examples" / "mcp" / "stock.py"
    return file if (root / "pyproject.toml").is_file() and file.is_file() else None


def demo_mcp(stack: AsyncExitStack, root: Path = ROOT) -> NoMcp:
    """The example server in the repository at `root`; no server if that is none. The stack ends it."""
    file = example_server(root)
    if file is None:
        return NoMcp()
    server = DemoMcp(file)
    stack.push_async_callback(server.aclose)
    return server


class DemoMcp(NoMcp):
    """The tool of the example server that takes a while. `file` is its program."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stack = AsyncExitStack()
        self._server: McpServer | None = None
        self._opening = asyncio.Lock()
        self.toolsets: Mapping[str, Toolset] = {NAME: self}
        self._tools = (self._counting(),)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools)

    async def answer(self, command: Command) -> str:
        state = "starts when it is first called" if self._server is None else str(self._server.status)
        return f"{NAME}: {state} (the demo's example, `examples/mcp/stock.py`)"

    async def aclose(self) -> None:
        await self._stack.aclose()

    def _counting(self) -> Tool:
        @tool(effect="external", on_steer="cancel", compensation="The server was asked to cancel the count.")
        async def stock_count_shelf(context: ToolContext, shelf: Literal["tea", "coffee", "cups"]) -> ToolResult:
            """Counts the boxes on a shelf, and writes the number down."""
            for listed in await self._open():
                if listed.name == stock_count_shelf.name:
                    return await listed.call(context, json.dumps({"shelf": shelf}))
            raise ToolError("The example MCP server does not run. /mcp says why.")

        return stock_count_shelf

    async def _open(self) -> McpServer:
        from agent.mcp.server import McpServer, Policy
        from agent.mcp.sources import ProcessSource

        async with self._opening:
            if self._server is None:
                environment = passed_on(os.environ, COMMAND_VARIABLES)
                source = ProcessSource(NAME, (sys.executable, str(self._file)), environment, self._file.parent)
                self._server = await self._stack.enter_async_context(McpServer(NAME, source, Policy()))
        await self._server.settled()
        return self._server
