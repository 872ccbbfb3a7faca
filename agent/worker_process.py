"""Worker processes: our modules that run libraries on untrusted bytes, outside the gateway's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Set
from pathlib import Path
from weakref import WeakKeyDictionary

COMMAND_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"})
"""Environment variables that child processes are given, beside LC_* and those that the operator names."""

WORKER_VARIABLES = COMMAND_VARIABLES | {"MPLCONFIGDIR"}
"""Those that our own workers are given: where matplotlib keeps what it knows of the system's fonts."""

_ROOT = Path(__file__).resolve().parents[1]


class WorkerFailed(Exception):
    """The worker gave no result; the message is the last line of its stderr."""


def passed_on(variables: Mapping[str, str], names: Set[str] = COMMAND_VARIABLES) -> dict[str, str]:
    """The environment variables that a child process is given: an allowlist, as secrets may have any name."""
    return {name: value for name, value in variables.items() if name in names or name.startswith("LC_")}


async def run_worker(module: str, data: bytes, *, seconds: float) -> bytes:
    """Runs one of our worker modules with `data` on stdin and returns its stdout. Cancelling kills it.

    A separate process keeps heavy libraries out of our memory, and malicious input from blocking the event loop.
    Raises `WorkerFailed` and `TimeoutError`.
    """
    libraries = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = passed_on(os.environ, WORKER_VARIABLES) | {"PYTHONPATH": libraries}
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


class WorkerPool:
    """Runs a worker module, in at most so many processes at a time: each may take much memory and a processor."""

    def __init__(self, module: str, processes: int) -> None:
        self._module = module
        self._processes = processes
        # One per event loop: a semaphore cannot be shared between loops.
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    async def run(self, data: bytes, *, seconds: float) -> bytes:
        """The same as `run_worker`; the time waiting for others does not count."""
        loop = asyncio.get_running_loop()
        async with self._semaphores.setdefault(loop, asyncio.Semaphore(self._processes)):
            return await run_worker(self._module, data, seconds=seconds)
