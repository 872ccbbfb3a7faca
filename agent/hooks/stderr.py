"""What hook processes write to stderr, as lines of our log: bounded, whatever they write."""

from __future__ import annotations

import asyncio
import logging

from agent.hooks.runner import shortened

log = logging.getLogger(__name__)

LINE = 500
"""Characters of a line that are shown."""

LINES = 20
"""Lines of one process that are shown in a second."""

BYTES = 1_000_000
"""Bytes of one process that are read in a second; one that writes more has to wait, and costs nobody else anything."""


async def show_errors(name: str, stream: asyncio.StreamReader) -> None:
    """Logs the lines until the stream ends."""
    lines = _Lines(name)
    clock = asyncio.get_running_loop().time
    began, amount = clock(), 0
    try:
        while data := await stream.read(65_536):
            lines.add(data)
            amount += len(data)
            left = began + 1.0 - clock()
            if left > 0 and amount > BYTES:
                await asyncio.sleep(left)
            if left <= 0 or amount > BYTES:
                lines.next_second()
                began, amount = clock(), 0
    finally:
        lines.end()


class _Lines:
    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = b""
        self._shown = 0
        self._left_out = 0

    def add(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._show(self._begun + line)
            self._begun = b""
        self._begun = (self._begun + rest)[: 4 * LINE]

    def next_second(self) -> None:
        if self._left_out:
            log.info("hook %s: (%d lines more)", self._name, self._left_out)
        self._shown = self._left_out = 0

    def end(self) -> None:
        self._show(self._begun)
        self.next_second()

    def _show(self, line: bytes) -> None:
        if not line.strip():
            return
        self._shown += 1
        if self._shown > LINES:
            self._left_out += 1
        else:
            log.info("hook %s: %s", self._name, shortened(line[: 4 * LINE].decode(errors="replace"), LINE))
