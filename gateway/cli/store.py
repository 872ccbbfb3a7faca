"""`interject store copy`: moves a database between SQLite and PostgreSQL, while no gateway runs on either."""

from __future__ import annotations

import sys
from collections.abc import Callable

from gateway.cli.output import json_line, write_lines
from gateway.cli.progress import Progress
from gateway.store.copying import CopyProgress, CopySummary, copy_store
from gateway.store.errors import StoreBusy, StoreError


def copy(source: str, target: str, *, restart: bool, as_json: bool) -> int:
    """Returns the exit code: 1 when the copy did not end, or is not the same."""
    progress = Progress()
    try:
        summary = copy_store(source, target, _show(progress), restart=restart)
    except (StoreError, OSError) as error:
        progress.end()
        sys.stderr.write(f"interject: {_told(error)}\n")
        return 1
    progress.end()
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


def _show(progress: Progress) -> Callable[[CopyProgress], None]:
    def show(copied: CopyProgress) -> None:
        what = "compared" if copied.verifies else "copied"
        progress.show(f"{what} {copied.rows:,} of {copied.total:,} rows ({copied.table})")

    return show
