"""Measures the processor time and memory of another process, and the commits in its database."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without types

MIB = 1024 * 1024
WAL_HEADER = 32
WAL_FRAME_HEADER = 24
IDLE_SHARE = 0.02
"""A process that uses less than this share of a processor is idle."""


class Meter:
    """Measures one process. Raises `psutil.NoSuchProcess` or `OSError` after it has ended."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process = psutil.Process(pid)
        self._clock = _processor_clock(pid)

    def cpu(self) -> float:
        """Seconds of processor time of all threads, including ended ones."""
        if self._clock is not None:
            return time.clock_gettime(self._clock)
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def main_thread(self) -> float:
        """Seconds of processor time of the main thread, with a resolution of 10 ms."""
        main = next(thread for thread in self._process.threads() if thread.id == self._pid)
        return float(main.user_time + main.system_time)

    def memory(self) -> float:
        """Resident memory in MiB."""
        return float(self._process.memory_info().rss) / MIB

    def peak(self) -> float:
        """Peak resident memory in MiB; the current one where the system does not report it."""
        if sys.platform != "linux":
            return self.memory()
        lines = Path(f"/proc/{self._pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

    def has_children(self) -> bool:
        return bool(self._process.children())

    async def settle(self, timeout_seconds: float = 6.0) -> None:
        """Waits until the process has been idle for a second, or for `timeout_seconds`."""
        idle_checks, end = 0, time.monotonic() + timeout_seconds
        while idle_checks < 4 and time.monotonic() < end:
            used = self.cpu()
            await asyncio.sleep(0.25)
            idle_checks = idle_checks + 1 if self.cpu() - used < IDLE_SHARE * 0.25 else 0


def _processor_clock(pid: int) -> int | None:
    """The CPU-time clock of a process, with a resolution of nanoseconds; psutil's is 10 ms.

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


def commits_in(home: Path) -> int:
    """The transactions in the write-ahead log of the one database in this directory; those before its last restart,
    which SQLite makes every thousand pages, are not counted.

    Source: https://www.sqlite.org/fileformat2.html#walformat
    """
    log = next(home.glob("*.db-wal")).read_bytes()
    page_size, salts = int.from_bytes(log[8:12], "big"), log[16:24]
    commits = 0
    for start in range(WAL_HEADER, len(log), WAL_FRAME_HEADER + page_size):
        if log[start + 8 : start + 16] != salts:
            break
        # The size of the database after the commit; 0 in frames that are not the last one of a transaction.
        commits += log[start + 4 : start + 8] != bytes(4)
    return commits
