"""The stderr of child processes, as lines of our log. The amount is limited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.gate import one_line

log = logging.getLogger(__name__)

MAX_LINE_LENGTH = 500
"""Characters of a line that are logged."""

MAX_LINES_PER_SECOND = 20
"""Lines of one process that are logged per second."""

MAX_BYTES_PER_SECOND = 1_000_000
"""Bytes of one process that are read per second; a process that writes more has to wait."""


def _unheard(line: str) -> None:
    """For whoever needs the log only."""


async def log_stderr(name: str, stream: asyncio.StreamReader, heard: Callable[[str], None] = _unheard) -> None:
    """Logs the lines until the stream ends; `name` is what runs there, such as "hook review". `heard` is called with
    each line that is logged."""
    lines = _Lines(name, heard)
    clock = asyncio.get_running_loop().time
    started, amount = clock(), 0
    try:
        while data := await stream.read(65_536):
            lines.add(data)
            amount += len(data)
            left = started + 1.0 - clock()
            if left > 0 and amount > MAX_BYTES_PER_SECOND:
                await asyncio.sleep(left)
            if left <= 0 or amount > MAX_BYTES_PER_SECOND:
                lines.next_second()
                started, amount = clock(), 0
    finally:
        lines.end()


class _Lines:
    def __init__(self, name: str, heard: Callable[[str], None]) -> None:
        self._name = name
        self._heard = heard
        self._partial = b""
        self._logged = 0
        self._omitted = 0

    def add(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._log(self._partial + line)
            self._partial = b""
        self._partial = (self._partial + rest)[: 4 * MAX_LINE_LENGTH]

    def next_second(self) -> None:
        if self._omitted:
            log.info("%s: (%d more lines)", self._name, self._omitted)
        self._logged = self._omitted = 0

    def end(self) -> None:
        self._log(self._partial)
        self.next_second()

    def _log(self, line: bytes) -> None:
        if not line.strip():
            return
        self._logged += 1
        if self._logged > MAX_LINES_PER_SECOND:
            self._omitted += 1
        else:
            text = one_line(line[: 4 * MAX_LINE_LENGTH].decode(errors="replace"), MAX_LINE_LENGTH)
            log.info("%s: %s", self._name, text)
            self._heard(text)
