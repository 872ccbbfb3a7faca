"""Finds the text that an edit is to replace, also where the file writes it a little differently than the model."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from agent.frames import unescape

_LINE_ENDS = re.compile(r"\r\n?")
_LINE_END = re.compile(r"\r\n?|\n")

MAX_LOOSE = 2_000_000
"""Characters of a file in which text that is written differently is looked for: it takes a second for a million."""

_SPACES = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u2032"
_DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
_DASHES = "\u2010-\u2015\u2212"
_INVISIBLE = "\u00ad\u200b-\u200d\u2060\ufeff"
_JAMO = "\u1100-\u11ff"
_MARKS = "\u0300-\u036f\u3099\u309a"

_LOOSE = re.compile(
    rf"\r\n?|(?P<trailing>[ \t{_SPACES}]+(?=[\r\n]|\Z))|.[{_MARKS}]+|[{_JAMO}]+"
    rf"|[{_SPACES}{_SINGLE_QUOTES}{_DOUBLE_QUOTES}{_DASHES}{_INVISIBLE}]"
)
_PLAIN = (
    (re.compile(f"[{_SINGLE_QUOTES}]"), "'"),
    (re.compile(f"[{_DOUBLE_QUOTES}]"), '"'),
    (re.compile(f"[{_DASHES}]"), "-"),
    (re.compile(f"[{_INVISIBLE}]"), ""),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """The text after the edit. `lines` are those in which the old text stood, `note` says if it was written differently
    there."""

    text: str
    lines: tuple[int, ...]
    note: str = ""


def edit(text: str, old: str, new: str) -> Edit | None:
    """The text with every occurrence of the old one replaced; None if it does not occur.

    Line ends are those of the file. What is equal in the old and the new text stays as the file has it.
    """
    escaped = "its brackets were escaped as &lt; in what you read"
    loose = "its spaces, quotes, dashes or accents are written differently there"
    given, shown = (old, new), (unescape(old), unescape(new))
    for pattern in (_LINE_ENDS, _LOOSE) if len(text) <= MAX_LOOSE else (_LINE_ENDS,):
        simple = _Simple(text, pattern)
        for wanted, replacement in dict.fromkeys((given, shown)):
            found = _Simple(wanted, pattern)
            if found.text and found.text in simple.text:
                note = loose if pattern is _LOOSE else escaped if (wanted, replacement) != given else ""
                return _replaced(simple, found, _Simple(replacement, pattern), note)
    return None


def plain(text: str) -> str:
    """The text as models write it: with plain spaces, quotes and dashes, and accents as one character."""
    return _Simple(text, _LOOSE).text


class _Simple:
    """A text in a simpler form, and where each of its characters stands in the original."""

    def __init__(self, original: str, pattern: re.Pattern[str]) -> None:
        self.original = original
        self._starts: list[int] = []
        self._spans: list[tuple[int, int, bool]] = []
        pieces: list[str] = []
        length = end = 0
        for found in (*pattern.finditer(original), None):
            start = len(original) if found is None else found.start()
            simple = "" if found is None else _simple(found)
            for piece, span in ((original[end:start], (end, start, True)), (simple, (start, start, False))):
                if piece:
                    self._starts.append(length)
                    self._spans.append(span if span[2] else (start, start + len(found[0] if found else ""), False))
                    pieces.append(piece)
                    length += len(piece)
            end = start if found is None else found.end()
        self.text = "".join(pieces)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the part of the simple text stands in the original."""
        if start == end:
            place = self._span(start)[0] if start < len(self.text) else len(self.original)
            return place, place
        return self._span(start)[0], self._span(end - 1)[1]

    def _span(self, place: int) -> tuple[int, int]:
        index = bisect_right(self._starts, place) - 1
        start, end, is_same = self._spans[index]
        if not is_same:
            return start, end
        offset = start + place - self._starts[index]
        return offset, offset + 1


def _simple(found: re.Match[str]) -> str:
    piece = found[0]
    if found.lastgroup == "trailing":
        return ""
    if piece in ("\r\n", "\r"):
        return "\n"
    if len(piece) > 1:
        return unicodedata.normalize("NFC", piece)
    for pattern, plain in _PLAIN:
        if pattern.fullmatch(piece):
            return plain
    return " "


def _replaced(text: _Simple, old: _Simple, new: _Simple, note: str) -> Edit:
    before = _equal(old.text, new.text)
    room = min(len(old.text), len(new.text)) - before
    after = min(_equal(old.text[::-1], new.text[::-1]), room)
    first, last = new.span(before, len(new.text) - after)
    inserted = new.original[first:last]
    pieces: list[str] = []
    lines: list[int] = []
    end = 0
    for place in _places(text.text, old.text):
        start, stop = text.span(place + before, place + len(old.text) - after)
        pieces += [text.original[end:start], _with_line_ends(inserted, text.original, start, stop)]
        lines.append(text.text.count("\n", 0, place) + 1)
        end = stop
    return Edit("".join([*pieces, text.original[end:]]), tuple(lines), note)


def _equal(one: str, other: str) -> int:
    """How many characters are equal from the start on."""
    different = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(different, min(len(one), len(other)))


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + len(part))


def _with_line_ends(inserted: str, text: str, start: int, stop: int) -> str:
    """What is inserted with the line ends that the file has at this place."""
    if "\n" not in inserted or "\r" not in text:
        return inserted
    first, *others = inserted.replace("\r\n", "\n").split("\n")
    ends = _LINE_END.findall(text, start, stop)
    if len(ends) != len(others):
        ends = [_line_end_near(text, start)] * len(others)
    return first + "".join(f"{end}{line}" for end, line in zip(ends, others, strict=True))


def _line_end_near(text: str, place: int) -> str:
    if (after := _LINE_END.search(text, place)) is not None:
        return after[0]
    line = max(text.rfind("\n", 0, place), text.rfind("\r", 0, place))
    return "\r\n" if text[line - 1 : line + 1] == "\r\n" else text[line]
