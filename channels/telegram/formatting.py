"""Formatted texts of Telegram as Markdown. Pure; names are those of https://core.telegram.org/bots/api#messageentity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from channels.visible import clean

Json = dict[str, Any]
Span = tuple[int, int]
"""Start and end in UTF-16 units, as in Telegram's entities."""

_INLINE = {"bold": "**", "italic": "_", "strikethrough": "~~", "spoiler": "||"}
_QUOTES = ("blockquote", "expandable_blockquote")
_VERBATIM = ("code", "pre")


@dataclass(frozen=True, slots=True)
class _Units:
    """A text by its UTF-16 units."""

    data: bytes

    @classmethod
    def of(cls, text: str) -> _Units:
        return cls(text.encode("utf-16-le"))

    def __len__(self) -> int:
        return len(self.data) // 2

    def cut(self, start: int, end: int) -> str:
        return self.data[2 * max(start, 0) : 2 * max(end, 0)].decode("utf-16-le", "replace")

    def stripped(self, start: int, end: int) -> Span:
        """The span without blanks at its ends."""
        inside = self.cut(start, end)
        start += len(inside) - len(inside.lstrip())
        return start, end - (len(inside) - len(inside.rstrip()))


def cut(text: str, span: Span) -> str:
    return _Units.of(text).cut(*span)


def span_of(entity: Json) -> Span:
    return entity["offset"], entity["offset"] + entity["length"]


def markdown(text: str, entities: Sequence[Json], names: Sequence[Span] = ()) -> str:
    """The text with its formatting as Markdown, without the `names` and what divides them from the rest."""
    units = _Units.of(text)
    left_out = _left_out(units, sorted(names))
    marks: list[tuple[int, int, int, str]] = []
    for entity in entities:
        start, end = span_of(entity)
        if 0 <= start < end <= len(units) and not any(first <= start and end <= last for first, last in left_out):
            marks.extend(_marks(units, entity, start, end))
    written, at = [], 0
    for place, _, _, mark in sorted(marks):
        written += [_without(units, at, place, left_out), mark]
        at = max(at, place)
    return "".join([*written, _without(units, at, len(units), left_out)])


def _marks(units: _Units, entity: Json, start: int, end: int) -> list[tuple[int, int, int, str]]:
    """What is written where. At one place what ends comes first, the inner before the outer; then what begins, the
    outer before the inner."""
    kind, size = str(entity["type"]), end - start
    if kind in _QUOTES:
        return _quote(units, start, end)
    if kind not in _VERBATIM:
        start, end = units.stripped(start, end)
    if start >= end:
        return []
    before, after = _around(units, entity, kind, start, end)
    return [(start, 1, -size, before), (end, 0, size, after)] if before or after else []


def _around(units: _Units, entity: Json, kind: str, start: int, end: int) -> tuple[str, str]:
    shown = units.cut(start, end)
    match kind:
        case "bold" | "italic" | "strikethrough" | "spoiler":
            return _INLINE[kind], _INLINE[kind]
        case "code":
            return _code(shown)
        case "pre":
            fence = "`" * max(3, _longest_run(shown) + 1)
            begin = "" if start == 0 or units.cut(start - 1, start) == "\n" else "\n"
            finish = "" if end == len(units) or units.cut(end, end + 1) == "\n" else "\n"
            last = "" if shown.endswith("\n") else "\n"
            return f"{begin}{fence}{entity.get('language') or ''}\n", f"{last}{fence}{finish}"
        case "text_link":
            url = clean(str(entity["url"]))
            is_shown = url.strip("/") in shown or shown in url.split()
            return ("", "") if is_shown else ("[", f"]({url})")
        case "text_mention":
            name = clean(name_of(entity["user"]))
            return ("", "") if name in shown or shown in name.split() else ("", f" ({name})")
        case _:
            return "", ""


def _code(shown: str) -> tuple[str, str]:
    ticks = "`" * (_longest_run(shown) + 1)
    gap = " " if shown.startswith("`") or shown.endswith("`") else ""
    return ticks + gap, gap + ticks


def _longest_run(text: str) -> int:
    """Of backticks."""
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest


def _quote(units: _Units, start: int, end: int) -> list[tuple[int, int, int, str]]:
    """Each line begins with ">"; an empty line follows."""
    size = end - start
    begin = "" if start == 0 or units.cut(start - 1, start) == "\n" else "\n"
    marks = [(start, 1, -size, f"{begin}> ")]
    for place in range(start, end - 1):
        if units.cut(place, place + 1) == "\n":
            marks.append((place + 1, 1, -size, "> "))
    if end < len(units):
        marks.append((end, 0, size, "\n" if units.cut(end, end + 1) == "\n" else "\n\n"))
    return marks


def _left_out(units: _Units, names: Sequence[Span]) -> list[Span]:
    """ "ask @bot now" becomes "ask now"; "@bot, now" becomes "now"."""
    spans: list[Span] = []
    for start, end in names:
        before = spans[-1] if spans and spans[-1][1] == start else None
        first = start if before is None else before[0]
        if first == 0 or units.cut(first - 1, first).isspace():
            while units.cut(end, end + 1) in (" ", ",", ":"):
                end += 1
        spans.append((start, end))
    return spans


def _without(units: _Units, start: int, end: int, left_out: Sequence[Span]) -> str:
    kept = []
    for first, last in left_out:
        if start < last and first < end:
            kept.append(units.cut(start, max(start, first)))
            start = min(end, last)
    return "".join([*kept, units.cut(start, end)])


def name_of(someone: Json) -> str:
    """The name of a user or a chat."""
    names = [someone.get("title") or someone.get("first_name"), someone.get("last_name")]
    return " ".join(filter(None, names)) or someone.get("username") or str(someone["id"])
