"""The demo's examples, where they are and where they are not."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from config.load import load
from gateway.assembly.demo_mcp import ROOT, demo_mcp
from interject.client import AsyncInterject
from tests.gateway.stage import gateway

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


async def test_the_demo_calls_a_tool_from_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    configuration = load(None, {"INTERJECT_WEB__PORT": "0"}, tmp_path / "home")
    async with gateway(configuration) as built:
        assert built.link is not None
        link = urlsplit(built.link)
        async with AsyncInterject(f"http://{link.netloc}", parse_qs(link.query)["token"][0]) as interject:
            run = await interject.ask("web:local:demo", "write a note about tea")
    assert "`examples/tools`, says: demo.md: 3 lines" in run.text
    assert [file.name for file in run.files] == ["demo.md"]
