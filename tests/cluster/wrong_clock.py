"""Runs a gateway whose time of day is wrong: `python -m tests.cluster.wrong_clock FILE run …`.

The file says by how many seconds, and may change meanwhile. Clocks that only count seconds are right.
"""

from __future__ import annotations

import ctypes
import gc
import runpy
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

INTERVAL = 0.2
"""Seconds between two looks at the file."""


class WrongClock:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._ahead = 0.0
        self._looked_at = -INTERVAL
        self._time: Callable[[], float] = time.time
        self._now: Callable[[tzinfo | None], datetime] = datetime.now

    def install(self) -> None:
        """From now on all of this process goes by it."""
        time.time = self.time  # type: ignore[assignment]
        # A subclass of datetime would not do: what is made in C is none.
        members: dict[str, Any] = gc.get_referents(datetime.__dict__)[0]
        members["now"] = staticmethod(self.now)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))

    def time(self) -> float:
        return self._time() + self.ahead

    def now(self, tz: tzinfo | None = None) -> datetime:
        return self._now(tz) + timedelta(seconds=self.ahead)

    @property
    def ahead(self) -> float:
        if (at := time.monotonic()) - self._looked_at >= INTERVAL:
            self._looked_at = at
            self._ahead = float(self._file.read_text())
        return self._ahead


if __name__ == "__main__":
    WrongClock(Path(sys.argv.pop(1))).install()
    runpy.run_module("interject", run_name="__main__", alter_sys=True)
