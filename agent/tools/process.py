"""Child processes of the tools: their environment, how they are ended, and worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from agent.tools.command_supervisor import descendants

COMMAND_VARIABLES = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"})
"""Environment variables that child processes are given, beside LC_* and those that the operator names."""

NON_INTERACTIVE = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}

_ROOT = Path(__file__).resolve().parents[2]


class WorkerFailed(Exception):
    """The worker gave no result; the message is the last line of its stderr."""


def passed_on(variables: Mapping[str, str], names: Set[str] = COMMAND_VARIABLES) -> dict[str, str]:
    """The environment variables that a child process is given: an allowlist, as secrets may have any name."""
    return {name: value for name, value in variables.items() if name in names or name.startswith("LC_")}


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


async def end_command(process: asyncio.subprocess.Process, output_closed: asyncio.Task[None], *, grace: float) -> None:
    """Ends a command started by `CommandPolicy.arguments`, with all of its processes.

    They get SIGTERM first and SIGKILL after `grace` seconds; the process itself ends with the last of them.
    """
    ending = asyncio.ensure_future(process.wait())
    try:
        if process.returncode is None:
            _signal_all(descendants(process.pid), signal.SIGTERM)
            await asyncio.wait({ending}, timeout=grace)
    finally:
        kill_command(process.pid)
        # It cannot be long: everything has been killed. The process must be waited for, or it stays as a zombie.
        await asyncio.wait({ending})
    await asyncio.wait({output_closed}, timeout=grace)


def kill_command(leader: int) -> None:
    """Kills a command's processes, then the process that watches over them; it must not have been waited for."""
    below = descendants(leader)
    # Stopped first, so that none starts others meanwhile.
    _signal_all(below, signal.SIGSTOP)
    _signal_all([*descendants(leader), *below], signal.SIGKILL)
    signal_group(leader, signal.SIGKILL)


def _signal_all(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


async def run_worker(module: str, data: bytes, *, seconds: float) -> bytes:
    """Runs one of our worker modules with `data` on stdin and returns its stdout. Cancelling kills it.

    A separate process keeps heavy libraries out of our memory, and malicious input from blocking the event loop.
    Raises `WorkerFailed` and `TimeoutError`.
    """
    libraries = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    environment = passed_on(os.environ) | {"PYTHONPATH": libraries}
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
