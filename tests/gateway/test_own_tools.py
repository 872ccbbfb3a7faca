"""Tools of the operator's own in a whole gateway: steered, approved, reloaded, and broken in every way."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.gateway.test_cli import Desk

GREET = '''\
from interject import ToolContext, tool


@tool(effect="read")
def greet(context: ToolContext, name: str) -> str:
    """Greets."""
    return f"Hello {name}"
'''


async def test_sighup_loads_the_tools_again_and_never_ends_the_gateway(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.write("[web]\nport = 0\n")
    (tmp_path / "tools").mkdir()
    desk.write(GREET, "tools/greet.py")
    async with desk.running() as gateway:
        stderr = gateway.process.stderr
        assert stderr is not None
        gateway.process.send_signal(signal.SIGHUP)
        first = await asyncio.wait_for(stderr.readline(), 30)
        assert b"Tools loaded: `greet`." in first
        desk.write(GREET.replace("def greet", "def"), "tools/greet.py")
        gateway.process.send_signal(signal.SIGHUP)
        broken = await asyncio.wait_for(stderr.readline(), 30)
        assert b"tools/greet.py:5: SyntaxError" in broken
        ended = await gateway.end(signal.SIGTERM)
    assert ended.code == 0
    assert "still in use" in ended.err
