"""Versions of files: what is made of a file is made anew when the file was changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Version = tuple[str, int, int]


def versions(files: Iterable[Path]) -> tuple[Version, ...]:
    """The name, time of change and size of each; without those that do not exist."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)
