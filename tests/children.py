"""The processes that a test has started."""

from __future__ import annotations

from contextlib import suppress

import psutil

SERVER = "postgres"


def children() -> list[psutil.Process]:
    """Those of this process and of its children that run, but for the database server, which serves other tests."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name() != SERVER:
                found += [child, *child.children(recursive=True)]
    return found
