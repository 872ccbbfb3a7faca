"""`interject trace`: shows what happened in a turn, from its log; works beside a running gateway."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from agent.masking import Mask
from config.load import Configuration
from config.settings import every_secret
from gateway.cli.output import fail, json_line, write_lines
from gateway.outbound.wording import plain
from gateway.store.errors import StoreError
from gateway.store.read_only import reading
from gateway.store.traces import find_turn, traced
from gateway.turns.trace import Trace, trace_json, trace_of
from gateway.turns.trace_text import summary, waterfall

MAX_ROWS = 500
BAR = 24
TIME = 9
"""Characters before a bar, with the blanks around it."""


def show_trace(configuration: Configuration, name: str, *, as_json: bool, html: Path | None) -> int:
    """`name` is the id of a turn or of a run, or the beginning of a turn's. With `html`, writes a page to that file.
    Returns the exit code: 1 when there is no such turn."""
    try:
        with reading(configuration.settings.store.url) as connection:
            turn_id = find_turn(connection, name)
            found = None if turn_id is None else traced(connection, turn_id)
    except StoreError as error:
        return fail(configuration, error)
    if found is None:
        sys.stderr.write(
            f"interject: there is no task {plain(name)}, or several begin like that; `interject status` and "
            "/trace in a chat show ids\n"
        )
        return 1
    trace, mask = trace_of(found), Mask(secret.get_secret_value() for secret in every_secret(configuration.settings))
    if html is not None:
        return _write_page(configuration, trace, mask, html)
    write_lines(map(mask, [json_line(trace_json(trace))] if as_json else _lines(trace)))
    return 0


def _lines(trace: Trace) -> list[str]:
    who = f"{plain(trace.name)} ({plain(trace.person)})" if trace.name else plain(trace.person)
    label = max(40, shutil.get_terminal_size((120, 24)).columns - BAR - TIME)
    return [
        f"task {trace.turn} in {plain(trace.conversation, 200)}, of {who}, {trace.started_at:%Y-%m-%d %H:%M:%S} UTC",
        summary(trace),
        "",
        *waterfall(trace, limit=MAX_ROWS, bar=BAR, label=label),
    ]


def _write_page(configuration: Configuration, trace: Trace, mask: Mask, file: Path) -> int:
    """For its owner only: what people wrote is in it."""
    from gateway.cli.trace_page import page

    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            stream.write(mask(page(trace)))
    except OSError as error:
        return fail(configuration, error)
    sys.stdout.write(f"Written to {file}. Messages of people are in it.\n")
    return 0
