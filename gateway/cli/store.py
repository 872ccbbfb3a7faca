"""`interject store copy`: moves a database between SQLite and PostgreSQL, while no gateway runs on either."""

from __future__ import annotations

import sys
import time

from gateway.cli.output import json_line, write_lines
from gateway.store.copying import CopyProgress, CopySummary, copy_store
from gateway.store.errors import StoreBusy, StoreError

EVERY = {True: 0.2, False: 5.0}
"""Seconds between two lines of progress, in a terminal and elsewhere."""


def copy(source: str, target: str, *, restart: bool, as_json: bool) -> int:
    """Returns the exit code: 1 when the copy did not end, or is not the same."""
    shown = _Shown()
    try:
        summary = copy_store(source, target, shown, restart=restart)
    except (StoreError, OSError) as error:
        shown.end()
        sys.stderr.write(f"interject: {_told(error)}\n")
        return 1
    shown.end()
    if as_json:
        write_lines([json_line({"rows": summary.rows, "total": summary.total, "resumed": summary.resumed})])
    else:
        write_lines(_lines(summary))
    return 0


def _told(error: Exception) -> str:
    if isinstance(error, StoreBusy):
        holder = f"process {error.pid}" if error.pid is not None else "another process"
        return f"a gateway runs on {error.path} ({holder}): stop it, then copy"
    return str(error)


def _lines(summary: CopySummary) -> list[str]:
    resumed = f", {summary.resumed:,} of them before an interruption" if summary.resumed else ""
    tables = ", ".join(f"{name} {rows:,}" for name, rows in summary.rows.items() if rows)
    return [
        f"Copied: {summary.total:,} rows{resumed}, all compared and the same ({tables or 'all tables are empty'}).",
        "Now give the gateway the new [store] url. Files and workspaces stay where they are.",
    ]


class _Shown:
    """Progress on standard error: one line that changes in a terminal, else a line from time to time."""

    def __init__(self) -> None:
        self._in_terminal = sys.stderr.isatty()
        self._next = 0.0
        self._open = False

    def __call__(self, progress: CopyProgress) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY[self._in_terminal]
        what = "compared" if progress.verifies else "copied"
        text = f"{what} {progress.rows:,} of {progress.total:,} rows ({progress.table})"
        sys.stderr.write(f"\r{text}\x1b[K" if self._in_terminal else f"{text}\n")
        sys.stderr.flush()
        self._open = self._in_terminal

    def end(self) -> None:
        if self._open:
            sys.stderr.write("\n")
