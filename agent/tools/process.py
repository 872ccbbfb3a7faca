"""Child processes of the tools: what they may know of us, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

_SECRET = re.compile(
    r"^INTERJECT_|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(API|ACCESS|PRIVATE)?(KEY|TOKEN|SECRET)S?(_|$)", re.IGNORECASE
)
_ROOT = Path(__file__).resolve().parents[2]


class WorkerFailed(Exception):
    """The worker gave no result; the message is the last thing that it said."""


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables whose names do not look like those of secrets or of our own settings."""
    return {name: value for name, value in variables.items() if not _SECRET.search(name)}


def signal_group(leader: int, number: signal.Signals) -> bool:
    """Whether somebody was there to hear it. `leader` is the process that was started in a session of its own."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def terminate_group(leader: int, closed: asyncio.Task[None], *, grace: float) -> bool:
    """Ends all processes of the group, telling whether there were any.

    They are asked first and have `grace` seconds until they are killed; `closed` ends when the last of them has let
    go of its output.
    """
    try:
        found = signal_group(leader, signal.SIGTERM)
        await asyncio.wait({closed}, timeout=grace)
    finally:
        signal_group(leader, signal.SIGKILL)
    return found


async def run_worker(module: str, data: bytes, *, seconds: float) -> bytes:
    """Runs one of our worker modules on `data` and gives its output; cancelling kills it.

    A process of its own keeps heavy libraries out of our memory, and hostile input from holding up the event loop.
    Raises `WorkerFailed` and `TimeoutError`.
    """
    environment = without_secrets(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), environment.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate(data)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        words = errors.decode(errors="replace").strip().splitlines()
        raise WorkerFailed(words[-1] if words else f"it ended with code {process.returncode}")
    return output
