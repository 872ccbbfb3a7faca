"""What the first message needs is loaded before it comes, and nothing that no message needs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.servers.telegram import BotApi

PROGRAM = """
import asyncio, sys
from pathlib import Path
from config.load import load
from gateway.assembly.build import build

NEEDED = {"agent.models.client", "agent.models.protocols.anthropic_messages", "agent.tools.shell", "aiohttp"}
NEEDED |= {"channels.telegram.outbound", "channels.markdown"}
UNUSED = {"agent.models.protocols.responses", "agent.models.protocols.chat_completions", "cryptography", "alembic"}
UNUSED |= {"gateway.turns.trace", "gateway.turns.trace_text"}
UNUSED |= {"discord", "slack_bolt", "matplotlib", "openai", "anthropic", "fastapi", "prometheus_client", "aiosqlite"}

OWN = {"agent", "channels", "config", "gateway"}
MOST_OWN = 410  # of our modules before the gateway runs, a few more than there are: each costs time at every start

async def main(file):
    async with build(load(file, {"INTERJECT_HOME": str(file.parent)})) as built:
        own = [name for name in sys.modules if name.partition(".")[0] in OWN]
        assert len(own) <= MOST_OWN, (len(own), sorted(own))
        running = asyncio.create_task(built.gateway.run(*built.services))
        async with asyncio.timeout(60):
            while not NEEDED <= set(sys.modules):
                await asyncio.sleep(0.05)
        assert not UNUSED & set(sys.modules), UNUSED & set(sys.modules)
        running.cancel()
        await asyncio.wait([running])

asyncio.run(main(Path(sys.argv[1])))
import cryptography
"""


async def test_what_the_first_message_needs_is_loaded_ahead(tmp_path: Path) -> None:
    async with BotApi() as api:
        file = tmp_path / "interject.toml"
        file.write_text(
            '[agent]\nmodel = "anthropic:claude-test"\n[models.anthropic]\napi_key = "none"\n'
            f'[web]\nport = 0\n[channels.telegram]\ntoken = "{api.token}"\napi_url = "{api.url}"\nallow = ["*"]\n'
        )
        # The store creates its tables with Alembic at the first start.
        await _run(file)
        assert await _run(file) == ""


async def _run(file: Path) -> str:
    """What it wrote to standard error, if it failed."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(file), stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    return errors.decode() if process.returncode else ""
