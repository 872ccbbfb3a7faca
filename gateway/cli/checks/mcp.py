"""Checks of MCP servers: each is started as `interject run` starts it, and lists its tools."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from config.load import Configuration
from config.mcp import McpProgramSettings, McpSettings
from gateway.assembly.mcp import open_mcp, personal_servers
from gateway.cli.checks.result import CheckResult


def place_of(server: McpSettings) -> str:
    """Where it is, without arguments and queries, which may be secret."""
    return server.command[0] if isinstance(server, McpProgramSettings) else server.url.partition("?")[0]


async def check_servers(configuration: Configuration) -> list[CheckResult]:
    """All at once; a server whose tools cannot all be used has failed. One per person is only named."""
    async with AsyncExitStack() as stack:
        servers = await open_mcp(configuration, stack)
        found = await asyncio.gather(*(server.settled() for server in servers))
        shared = [
            CheckResult(f"MCP server {server.name}", status.state == "running" and not status.problems, str(status))
            for server, status in zip(servers, found, strict=True)
        ]
    own = [CheckResult(f"MCP server {name}", True, said) for name, said in personal_servers(configuration).items()]
    return [*shared, *own]
