"""Progress of long commands, on standard error: one line that changes in a terminal, else a line from time to time."""

from __future__ import annotations

import sys
import time

EVERY = {True: 0.2, False: 5.0}
"""Seconds between two lines, in a terminal and elsewhere."""


class Progress:
    def __init__(self) -> None:
        self._in_terminal = sys.stderr.isatty()
        self._next = 0.0
        self._open = False

    def show(self, text: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY[self._in_terminal]
        sys.stderr.write(f"\r{text}\x1b[K" if self._in_terminal else f"{text}\n")
        sys.stderr.flush()
        self._open = self._in_terminal

    def end(self) -> None:
        if self._open:
            sys.stderr.write("\n")
