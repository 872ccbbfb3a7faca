"""How commands print: tables for people, JSON for programs: one object for a state, JSON Lines for a list."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from config.age import parse_age
from config.load import Configuration
from gateway.cli.home import describe_error

GAP = "  "


def fail(configuration: Configuration, error: Exception) -> int:
    """Prints why the command did not work. Returns the exit code."""
    sys.stderr.write(f"interject: {describe_error(error, configuration.home)}\n")
    return 1


def write_lines(lines: Iterable[str], nothing: str = "") -> None:
    """Prints the lines; `nothing`, if there are none."""
    text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(text or (f"{nothing}\n" if nothing else ""))


def json_line(fields: dict[str, Any]) -> str:
    """One object. Times are as in ISO 8601, in UTC; ASCII, so that nothing in it can change a terminal."""
    return json.dumps(fields, default=_as_json)


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of columns that are as wide as needed; the columns `right` (from 0) are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [_line(row, widths, right) for row in (header, *rows)]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    cells = (
        text.rjust(width) if number in right else text.ljust(width)
        for number, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return GAP.join(cells).rstrip()


def span(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def age(time: datetime) -> str:
    """How long ago it was."""
    return span((datetime.now(UTC) - time).total_seconds())


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def parse_since(text: str) -> datetime:
    """A date, a time, or an age before now. Raises `ValueError`, with a message for a person."""
    age = parse_age(text)
    if age is not None:
        return datetime.now(UTC) - age
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--since {text}: expected an age like 7d, or a date like 2026-11-30") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
