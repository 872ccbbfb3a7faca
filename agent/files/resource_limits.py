"""Limits of the operating system for a worker process, which hold whatever a parser does."""

from __future__ import annotations

import sys
from contextlib import suppress


def limit_resources(*, memory: int, processor_seconds: int | None = None) -> None:
    """Limits this process to so many bytes of address space, and to so much time on a processor."""
    if sys.platform == "win32":
        return
    import resource

    limits = [(resource.RLIMIT_AS, memory)]
    if processor_seconds is not None:
        limits.append((resource.RLIMIT_CPU, processor_seconds))
    for kind, value in limits:
        # Some systems do not allow this limit to be set; the caller's timeout holds everywhere.
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))
