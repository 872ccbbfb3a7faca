"""The demo's example MCP server, where it is not."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.assembly.demo_mcp import ROOT, demo_mcp

BUILD = """
import asyncio, sys
from pathlib import Path
from config.load import load
from gateway.assembly.build import build

async def built():
    async with build(load(None, {"INTERJECT_WEB__PORT": "0", "INTERJECT_AGENT__MODEL": sys.argv[1],
                                 "OPENAI_API_KEY": "test-key"}, Path("home"))):
        print(*sys.modules)

asyncio.run(built())
"""

WATCHED = {"gateway.assembly.demo_mcp", "agent.models.demo_image", "agent.mcp.server", "mcp", "PIL"}


async def test_an_installed_package_has_no_examples_and_no_such_server(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        (tmp_path / "examples" / "mcp").mkdir(parents=True)
        (tmp_path / "examples" / "mcp" / "stock.py").write_text("raise SystemExit('of another package')")
        assert demo_mcp(stack, tmp_path).toolsets == {}
        assert list(demo_mcp(stack, ROOT).toolsets) == ["stock"]


@pytest.mark.parametrize(
    ("model", "loaded"),
    [
        ("demo", {"gateway.assembly.demo_mcp", "agent.models.demo_image"}),
        ("openai:test", set()),
    ],
)
def test_the_start_loads_nothing_of_it_for_a_real_model_and_no_mcp_for_the_demo(
    tmp_path: Path, model: str, loaded: set[str]
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", BUILD, model], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
    )
    assert WATCHED & set(run.stdout.split()) == loaded
