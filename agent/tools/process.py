"""Child processes of the tools: their environment, and how they are ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable

from agent.tools.command_supervisor import descendants

NON_INTERACTIVE = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}


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
