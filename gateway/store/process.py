"""Processes as workers see them: where one runs, and whether it is gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from gateway.store.workers import Worker

WorkerState = Literal["works", "draining", "dead"]


def place() -> str:
    """Where process ids mean the same: this boot of this machine, and this container in it. Empty where that is not
    known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def is_gone(worker: Worker) -> bool:
    """Whether the worker was a process here that has ended."""
    if not worker.place or worker.place != place():
        return False
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def state_of(worker: Worker) -> WorkerState:
    """What a worker that is listed does; "dead": it is about to be buried."""
    if (worker.left is not None and worker.left <= 0) or is_gone(worker):
        return "dead"
    return "draining" if worker.draining else "works"
