"""What a process of somebody else has used: processor time and memory."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without types

MIB = 1024 * 1024
QUIET = 0.02
"""A process that used less than this share of a processor has settled."""


class Meter:
    """Reads one process. Raises `psutil.NoSuchProcess` or `OSError` when it has ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process = psutil.Process(pid)
        self._clock = _processor_clock(pid)

    def cpu(self) -> float:
        """Seconds of processor time, of all threads, those that have ended too."""
        if self._clock is not None:
            return time.clock_gettime(self._clock)
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def main_thread(self) -> float:
        """Seconds of processor time of the main thread alone, as coarse as 10 ms."""
        main = next(thread for thread in self._process.threads() if thread.id == self._pid)
        return float(main.user_time + main.system_time)

    def memory(self) -> float:
        """Resident memory in MiB."""
        return float(self._process.memory_info().rss) / MIB

    def peak(self) -> float:
        """The most resident memory there has been, in MiB; where the system does not tell, what there is now."""
        if sys.platform != "linux":
            return self.memory()
        lines = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

    def has_children(self) -> bool:
        return bool(self._process.children())

    async def settle(self, most: float = 6.0) -> None:
        """Waits until the process has been quiet for a second, `most` seconds at the longest."""
        quiet, end = 0, time.monotonic() + most
        while quiet < 4 and time.monotonic() < end:
            used = self.cpu()
            await asyncio.sleep(0.25)
            quiet = quiet + 1 if self.cpu() - used < QUIET * 0.25 else 0


def _processor_clock(pid: int) -> int | None:
    """The clock of a process's processor time, a nanosecond fine; psutil's is as coarse as 10 ms.

    Source: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
    """
    if sys.platform != "linux":
        return None
    clock = ctypes.c_int()
    failure = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    return None if failure else clock.value


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed: 0.5 is the median."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
