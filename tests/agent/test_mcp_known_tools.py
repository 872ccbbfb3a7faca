"""The tools that an MCP server had last: a file that is not what was written costs nothing but these tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.mcp.known_tools import KnownTools, read_known_tools, write_known_tools
from agent.mcp.listing import ListedTool
from agent.mcp.server import McpServer
from agent.mcp.sources import ProcessSource

TOOL = ListedTool("look", "Looks.", {"type": "object", "properties": {}}, {"readOnlyHint": True})
WRITTEN = {"name": "look", "description": "Looks.", "schema": {}, "annotations": {}}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    known = KnownTools((TOOL,), has_resources=True)
    write_known_tools(tmp_path / "known.json", known)
    assert read_known_tools(tmp_path / "known.json") == known


BROKEN = {
    "no JSON": "{",
    "nested too deeply": "[" * 100_000,
    "another value": "[]",
    "no tools": '{"has_resources": true}',
    "tools that are none": '{"tools": [1], "has_resources": true}',
    "an unknown field": json.dumps({"tools": [{**WRITTEN, "more": 1}], "has_resources": True}),
    **{
        f"a wrong {field}": json.dumps({"tools": [{**WRITTEN, field: 1}], "has_resources": True})
        for field in ("name", "description", "schema", "annotations")
    },
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_server_starts_beside_a_broken_file(tmp_path: Path, broken: str) -> None:
    known = tmp_path / "known.json"
    known.write_text(BROKEN[broken])
    async with McpServer("odd", ProcessSource("odd", ("/nonexistent",)), known=known) as server:
        assert tuple(server) == ()
        assert (await server.settled()).state == "down"
