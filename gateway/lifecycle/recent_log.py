"""The last lines of the log, kept in memory for operators who have no access to where it is written."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_LINES = 500
MAX_LENGTH = 2_000
"""Characters of a line; a traceback counts as part of it."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """`text` has no known secrets; of an error it ends with the traceback."""

    at: datetime
    level: str
    logger: str
    text: str


class RecentLog(logging.Handler):
    """Keeps the newest `MAX_LINES` records of what is logged. `mask` removes known secrets."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)

    def lines(self) -> tuple[LogLine, ...]:
        """Oldest first."""
        return tuple(self._lines)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Masked before it is cut: half a secret is not recognized.
            text = self._mask(self.format(record))[:MAX_LENGTH]
        except Exception:  # noqa: BLE001  # as in every handler: a record that cannot be formatted
            self.handleError(record)
            return
        at = datetime.fromtimestamp(record.created, UTC)
        self._lines.append(LogLine(at, record.levelname.lower(), record.name, text))


@contextmanager
def recent_log(mask: Callable[[str], str]) -> Iterator[RecentLog]:
    """Everything that is logged in the meantime."""
    recent = RecentLog(mask)
    root = logging.getLogger()
    root.addHandler(recent)
    try:
        yield recent
    finally:
        root.removeHandler(recent)
