"""Child processes of the tools: their environment, how they are ended, and worker processes."""

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
    """The worker gave no result; the message is the last line of its stderr."""


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment variables whose names do not look like those of secrets or of our own settings."""
    return {name: value for name, value in variables.items() if not _SECRET.search(name)}


def signal_group(leader: int, number: signal.Signals) -> bool:
    """Sends the signal to a process group; False if it is gone. `leader` was started in a session of its own."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def terminate_group(leader: int, output_closed: asyncio.Task[None], *, grace: float) -> bool:
    """Ends all processes of the group; returns whether there were any.

    They get SIGTERM first and SIGKILL after `grace` seconds. `output_closed` ends when the last of them has closed its
    output.
    """
    try:
        existed = signal_group(leader, signal.SIGTERM)
        await asyncio.wait({output_closed}, timeout=grace)
    finally:
        signal_group(leader, signal.SIGKILL)
    return existed


async def run_worker(module: str, data: bytes, *, seconds: float) -> bytes:
    """Runs one of our worker modules with `data` on stdin and returns its stdout. Cancelling kills it.

    A separate process keeps heavy libraries out of our memory, and malicious input from blocking the event loop.
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
        lines = errors.decode(errors="replace").strip().splitlines()
        raise WorkerFailed(lines[-1] if lines else f"it ended with code {process.returncode}")
    return output
