"""`interject logs`: the last lines of the running gateway's log. The gateway itself logs to standard error only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.load import Configuration
from gateway.cli.output import json_line, parse_since, write_lines
from gateway.cli.running import ask, published_address
from gateway.outbound.wording import plain

PAUSE = 1.0
"""Seconds between two questions, with `follow`."""

MAX_LENGTH = 2000

NOWHERE = (
    "interject: no gateway with a web server runs for this data directory. Gateways log to standard error: look there, "
    "under systemd with journalctl -u interject, of a container with docker logs\n"
)


@dataclass(frozen=True, slots=True)
class Line:
    at: datetime
    level: str
    logger: str
    text: str


def show_logs(configuration: Configuration, since: str | None, *, follow: bool, as_json: bool) -> int:
    """At most the last 500 lines since the gateway's start; with `follow`, those that come too, until interrupted.
    Returns the exit code: 2 when `since` is no time, 1 when no gateway answers."""
    try:
        start = None if since is None else parse_since(since)
    except ValueError as error:
        sys.stderr.write(f"interject: {error}\n")
        return 2
    lines = _lines(configuration)
    if lines is None:
        sys.stderr.write(NOWHERE)
        return 1
    _print([line for line in lines if start is None or line.at >= start], as_json=as_json)
    while follow:
        time.sleep(PAUSE)
        newer = _lines(configuration)
        if newer is None:
            sys.stderr.write("interject: the gateway has ended\n")
            return 1
        _print(list(_after(lines, newer)), as_json=as_json)
        lines = newer
    return 0


def _lines(configuration: Configuration) -> Sequence[Line] | None:
    address = published_address(configuration.home)
    found = ask(configuration, address, "logs") if address else None
    try:
        return None if found is None else [_line(each) for each in found["lines"]]
    except (ValueError, LookupError, TypeError):
        return None


def _line(given: dict[str, str]) -> Line:
    return Line(datetime.fromisoformat(given["at"]), given["level"], given["logger"], given["text"])


def _after(known: Sequence[Line], lines: Sequence[Line]) -> Iterator[Line]:
    """Those that came after the last known one. The gateway keeps some of them only."""
    if not known or known[-1] not in lines:
        yield from lines
        return
    place = len(lines) - 1 - list(reversed(lines)).index(known[-1])
    yield from lines[place + 1 :]


def _print(lines: Sequence[Line], *, as_json: bool) -> None:
    write_lines(_as_json(line) if as_json else _as_text(line) for line in lines)
    sys.stdout.flush()


def _as_json(line: Line) -> str:
    return json_line({"time": line.at, "level": line.level, "logger": line.logger, "text": line.text})


def _as_text(line: Line) -> str:
    """Each line of a traceback is shown as a line."""
    first, *more = (plain(part, MAX_LENGTH) for part in line.text.splitlines() or [""])
    head = f"{line.at:%Y-%m-%d %H:%M:%S} {line.level:<7} {line.logger}: {first}"
    return "\n".join([head, *(f"    {part}" for part in more)])
