"""Modules that are imported only when they are needed, because they are heavy."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

_ONE_AT_A_TIME = threading.RLock()


async def load(module: str) -> ModuleType:
    """Imports it in a thread, where it holds nobody up. Raises `ImportError`."""

    def load_now() -> ModuleType:
        with importing():
            return import_module(module)

    return await asyncio.to_thread(load_now)


@contextmanager
def importing(*, without: str = "") -> Iterator[None]:
    """Around imports in a thread. They come one after the other: threads that import parts of the same library at once
    may find half of a module. Blocking.

    What is imported inside does `without` that package, which can be imported afterwards.
    """
    with _ONE_AT_A_TIME:
        if not without or without in sys.modules:
            yield
            return
        sys.modules[without] = None  # type: ignore[assignment]  # "None: there is no such module"
        try:
            yield
        finally:
            del sys.modules[without]
