"""The gateway's memory and environment, which hold every secret."""

from __future__ import annotations

import ctypes

PR_SET_DUMPABLE = 4


def hide_memory() -> None:
    """Keeps other processes of the same user from reading them in /proc, and the kernel from writing them to a core
    dump. Does nothing where the kernel is not Linux."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
