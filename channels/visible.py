"""Reads platforms' messages part by part, so that a part that cannot be read is named and the rest is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

log = logging.getLogger(__name__)

P = TypeVar("P")
T = TypeVar("T")
U = TypeVar("U")

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError, RecursionError)
"""What reading a platform's JSON raises where that is not of the documented shape."""


def part(read: Callable[[P], T], raw: P, otherwise: U) -> T | U:
    """What `read` makes of a part of a message; `otherwise` (its raw text, or that it cannot be read) if it fails."""
    try:
        return read(raw)
    except MALFORMED:
        log.info("a part of a message cannot be read", exc_info=True)
        return otherwise


def either(read: Callable[[], T], raw: Callable[[], T]) -> T:
    """What `read` makes of a whole message; if it fails, what `raw` does, which takes no more than the words as they
    came. A message without a place or an author cannot be delivered at all: `raw` raises for it, too."""
    try:
        return read()
    except MALFORMED:
        log.warning("a message cannot be read: its raw text is delivered", exc_info=True)
        return raw()


def unreadable(kind: str) -> str:
    """What stands in a message's text for something in it that the gateway does not know how to read."""
    return f"[a kind of message that I cannot read: {kind}]"


def dicts(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list in JSON."""
    return (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())


def clean(text: str) -> str:
    """JSON may contain half of a surrogate pair, which cannot be stored."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of these cells; the first row is its head."""
    width = max((len(row) for row in rows), default=0)
    if not width:
        return ""
    head, *body = ([*map(_cell, row), *[""] * (width - len(row))] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * width, *body))


def _cell(text: str) -> str:
    return "<br>".join(text.replace("|", "\\|").split("\n"))
