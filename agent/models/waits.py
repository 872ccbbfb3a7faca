"""How long a server asks to wait: in its headers, or in its words."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

_UNITS = {"ms": 0.001, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_DURATION = re.compile(
    r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|milliseconds?|hours?|h|minutes?|min|m|seconds?|secs?|s)(?![a-z])", re.IGNORECASE
)
_WAIT_IN_WORDS = re.compile(
    r"(?:try again|retry|wait|available|reset)[^.\d]{0,40}?"
    r"((?:\d[\d.]*\s*(?:ms|h|hours?|m|min|minutes?|s|secs?|seconds?)(?![a-z])\s*)+)",
    re.IGNORECASE,
)
_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset-?(?P<after>[a-z-]*)|(?P<before>[a-z-]+)-reset)")
MAX_WAIT = 7 * 24 * 60 * 60.0
"""Seconds; what a server says beyond is not believed."""


def first(*waits: float | None) -> float | None:
    return next((wait for wait in waits if wait is not None), None)


def wait_in_headers(headers: Mapping[str, str]) -> float | None:
    """The wait that the headers ask for, in seconds."""
    milliseconds = seconds_of(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    return first(_moment(headers.get("retry-after")), _reset(headers))


def _reset(headers: Mapping[str, str]) -> float | None:
    """When the limit that is used up is free again; the longest wait if several are, None if none is said to be."""
    waits: list[float] = []
    for name, value in headers.items():
        found = _RESET.fullmatch(name.lower())
        if found is None:
            continue
        what = found["after"] or found["before"] or ""
        remaining = next((left for key, left in headers.items() if key.lower() == _remaining(name.lower())), None)
        wait = _moment(value)
        if wait is not None and (remaining == "0" or (remaining is None and not what)):
            waits.append(wait)
    return max(waits, default=None)


def _remaining(name: str) -> str:
    """The name of the header that says what remains of the limit whose reset has this name."""
    return name.replace("reset", "remaining")


def _moment(value: object) -> float | None:
    """Seconds until a moment: in seconds, as a duration ("1m30s"), since 1970 in seconds or milliseconds, or a date."""
    if not isinstance(value, str):
        return None
    number = seconds_of(value)
    if number is not None:
        now = time.time()
        if number > now / 2:
            return _bounded((number / 1000 if number > now * 100 else number) - now)
        return _bounded(number)
    duration = duration_of(value)
    return duration if duration is not None else _date(value)


def _date(value: str) -> float | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return _bounded(parse(value).timestamp() - time.time())
        except (ValueError, OverflowError, OSError):
            continue
    return None


def seconds_of(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def duration_of(value: object) -> float | None:
    """A duration like "1m30.5s" or "20 seconds"."""
    if not isinstance(value, str):
        return None
    rest = _DURATION.sub("", value[:100]).strip()
    return None if rest else _total(value[:100])


def _total(value: str) -> float | None:
    found = _DURATION.findall(value)
    if not found:
        return None
    return _bounded(sum(float(number) * _unit(unit.lower()) for number, unit in found))


def _unit(unit: str) -> float:
    return 0.001 if unit.startswith("milli") else _UNITS[unit if unit in _UNITS else unit.removesuffix("s")]


def wait_in_words(words: str) -> float | None:
    found = _WAIT_IN_WORDS.search(words)
    return None if found is None else _total(found[1])


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT)
