"""Parses Markdown into a small tree of blocks and splits it into messages. Used by all renderers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Literal, assert_never

from markdown_it.token import Token

from channels.markdown_dialect import ModelMarkdown, with_outer_fences


@dataclass(frozen=True, slots=True)
class Span:
    """Text in one style. Line breaks are in `text`; a span of `code` has no other style."""

    text: str
    bold: bool = False
    italic: bool = False
    strike: bool = False
    code: bool = False
    url: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    spans: tuple[Span, ...]
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True, slots=True)
class Heading:
    spans: tuple[Span, ...]
    level: int
    kind: Literal["heading"] = "heading"


@dataclass(frozen=True, slots=True)
class Code:
    """A code block, without its last line break; `language` is one word or empty."""

    text: str
    language: str = ""
    kind: Literal["code"] = "code"


@dataclass(frozen=True, slots=True)
class Quote:
    blocks: tuple[Block, ...]
    kind: Literal["quote"] = "quote"


@dataclass(frozen=True, slots=True)
class Item:
    """`marker` is "•" or "3."; empty when the item goes on from the message before."""

    marker: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Item, ...]
    kind: Literal["listing"] = "listing"


Cell = tuple[Span, ...]
Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All rows have as many cells as `head`."""

    head: Row
    rows: tuple[Row, ...]
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class Rule:
    kind: Literal["rule"] = "rule"


Block = Paragraph | Heading | Code | Quote | Listing | Table | Rule

Measure = Callable[[Block], int]
"""The size of a block alone in a message, in the platform's units. No character measures less than 1."""


# --- parsing ---------------------------------------------------------------------------------------------------------


_parser = ModelMarkdown()
# It prepares its rules at the first text, which two threads must not do at once.
_parser.parse("")
_SURROGATES = re.compile("[\ud800-\udfff]")
_LANGUAGE = re.compile(r"[\w+#.-]{1,32}")
_LINE_BREAK = re.compile(r" *<br */?> *", re.IGNORECASE)
_PIPE = re.compile(r"(?<!\\)\|")


def parse(markdown: str) -> tuple[Block, ...]:
    """Never raises, whatever the text; incomplete markdown is parsed as far as possible."""
    source = with_outer_fences(sendable(markdown))
    tokens = _parser.parse(source)
    # The parser drops text in blocks at its nesting limit: such a text is shown as it is.
    if any(token.level >= _parser.options.maxNesting - 1 for token in tokens):
        return (Paragraph((Span(source),)),)
    return tuple(_blocks(iter(tokens), source.splitlines()))


def sendable(text: str) -> str:
    """The text without lone surrogates, which a model's JSON may contain and UTF-8 cannot encode."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _blocks(tokens: Iterator[Token], lines: Sequence[str]) -> Iterator[Block]:
    """The blocks up to the end of the current container."""
    for token in tokens:
        match token.type:
            case "paragraph_open":
                yield Paragraph(_inline(tokens))
            case "heading_open":
                yield Heading(_inline(tokens), int(token.tag[1:]))
            case "fence" | "code_block":
                yield _code(token)
            case "math_block":
                yield Code(token.content, "latex")
            case "blockquote_open":
                yield Quote(tuple(_blocks(tokens, lines)))
            case "bullet_list_open" | "ordered_list_open":
                yield Listing(tuple(_items(tokens, lines)))
            case "table_open":
                yield _table(token, tokens, lines)
            case "hr":
                yield Rule()
            case _ if token.nesting < 0:
                return


def _inline(tokens: Iterator[Token]) -> tuple[Span, ...]:
    """The spans of the next inline token; also consumes the end of its container."""
    spans = _spans(next(tokens).children or [])
    next(tokens)
    return spans


def _spans(tokens: Iterable[Token]) -> tuple[Span, ...]:
    spans: list[Span] = []
    style = Span("")
    titles: list[str] = []
    for token in tokens:
        match token.type:
            case "strong_open" | "strong_close":
                style = replace(style, bold=token.nesting > 0)
            case "em_open" | "em_close":
                style = replace(style, italic=token.nesting > 0)
            case "s_open" | "s_close":
                style = replace(style, strike=token.nesting > 0)
            case "link_open":
                titles.append(_title(token))
                style = replace(style, url=str(token.attrs["href"]))
            case "link_close":
                style = replace(style, url="")
                spans.append(replace(style, text=titles.pop()))
            case "image":
                text = "".join(span.text for span in _spans(token.children or []))
                spans.append(replace(style, text=text or str(token.attrs["src"]), url=str(token.attrs["src"])))
                spans.append(replace(style, text=_title(token)))
            case "softbreak" | "hardbreak":
                spans.append(replace(style, text="\n"))
            case "code_inline" | "math_inline":
                spans.append(Span(token.content, code=True, url=style.url))
            case _:
                spans.append(replace(style, text=token.content))
    return _merged(spans)


def _title(token: Token) -> str:
    title = token.attrs.get("title")
    return f" ({title})" if title else ""


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in spans:
        if not span.text:
            continue
        if merged and replace(merged[-1], text="") == replace(span, text=""):
            merged[-1] = replace(span, text=merged[-1].text + span.text)
        else:
            merged.append(span)
    return tuple(merged)


def _code(token: Token) -> Code:
    text, info = token.content.removesuffix("\n"), token.info.strip()
    if not info or _LANGUAGE.fullmatch(info):
        return Code(text, info)
    return Code(f"{info}\n{text}")


def _items(tokens: Iterator[Token], lines: Sequence[str]) -> Iterator[Item]:
    number = -1
    for token in tokens:
        if token.nesting < 0:
            return
        if token.info:
            # Numbers increase by at least one, and otherwise stay as written.
            number = max(int(token.info), number + 1)
            yield Item(f"{number}.", tuple(_blocks(tokens, lines)))
        else:
            yield Item("•", tuple(_blocks(tokens, lines)))


def _table(opening: Token, tokens: Iterator[Token], lines: Sequence[str]) -> Table | Code:
    rows: list[Row] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(tuple(_cells(tokens)))
        elif token.type == "table_close":
            break
    head, *body = rows
    source = lines[slice(*(opening.map or (0, 0)))]
    # Cells beyond the last column would disappear: such a table is shown as written.
    if any(len(_PIPE.findall(line.strip().strip("|"))) >= len(head) for line in source):
        return Code("\n".join(source))
    return Table(head, tuple(row + ((),) * (len(head) - len(row)) for row in body))


def _cells(tokens: Iterator[Token]) -> Iterator[Cell]:
    for token in tokens:
        if token.type in ("th_open", "td_open"):
            yield tuple(_with_breaks(_inline(tokens)))
        elif token.type == "tr_close":
            return


def _with_breaks(cell: Cell) -> Iterator[Span]:
    """A cell cannot have lines of its own in Markdown, so that they are written as HTML."""
    for span in cell:
        yield span if span.code else replace(span, text=_LINE_BREAK.sub("\n", span.text))


# --- plain text ------------------------------------------------------------------------------------------------------


def plain(spans: Iterable[Span]) -> str:
    """The spans' text, followed by URLs that the text does not show, in parentheses."""
    return "".join(f"{span.text} ({span.url})" if span.url and span.url != span.text else span.text for span in spans)


def aligned(table: Table) -> str:
    """A table in columns of equal width, for a fixed-width font."""
    rows = [list(_lines_of(row)) for row in (table.head, *table.rows)]
    # A very long cell must not push the others off the screen.
    widths = [min(max(map(columns, column)), 40) for column in zip(*chain(*rows), strict=True)]
    ruled = [*rows[0], ["─" * width for width in widths], *chain(*rows[1:])]
    return "\n".join(" │ ".join(map(_padded, line, widths)).rstrip() for line in ruled)


def _lines_of(row: Row) -> Iterator[Sequence[str]]:
    """The lines of the row, each with a part of every cell."""
    yield from zip_longest(*(plain(cell).split("\n") for cell in row), fillvalue="")


def columns(text: str) -> int:
    """The width of a text in columns of a fixed-width font: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


# --- splitting -------------------------------------------------------------------------------------------------------

_GAP = 2
"""The maximum size of the separator between two blocks."""


def split(blocks: Iterable[Block], limit: int, measure: Measure) -> list[tuple[Block, ...]]:
    """The blocks in as many messages as it takes, none larger than `limit`.

    Messages end between blocks. A block that is itself too large is cut: lists between items, tables between rows
    (under the head again), code between lines (in a fence of its own again), text between words. While a text
    grows at its end, the messages before the last one stay the same, except that a block that outgrows the remaining
    space moves to the next message as a whole.
    """
    fitting = [part for block in blocks for part in _cut(block, limit, measure)]
    messages: list[tuple[Block, ...]] = []
    for message in _packed(fitting, limit, measure):
        if messages and len(messages[-1]) > 1 and isinstance(heading := messages[-1][-1], Heading):
            # A heading moves to the next message with its text, if there is room.
            carried = (heading, *message)
            if sum(measure(block) + _GAP for block in carried) <= limit:
                messages[-1] = messages[-1][:-1]
                message = carried
        messages.append(message)
    return messages


def _packed(blocks: Iterable[Block], limit: int, measure: Measure) -> Iterator[tuple[Block, ...]]:
    message: list[Block] = []
    used = 0
    for block in blocks:
        size = measure(block)
        if message and used + _GAP + size > limit:
            yield tuple(message)
            message, used = [], 0
        message.append(block)
        used += size + (_GAP if used else 0)
    if message:
        yield tuple(message)


def _cut(block: Block, limit: int, measure: Measure) -> list[Block]:
    """The block in parts none of which is larger than `limit`."""
    if measure(block) <= limit:
        return [block]
    match block:
        case Paragraph() | Heading():
            return list(_cut_spans(block, limit, measure))
        case Code():
            return list(_cut_code(block, limit, measure))
        case Quote():
            return [Quote(part) for part in split(block.blocks, limit, lambda inner: measure(Quote((inner,))))]
        case Listing():
            return _cut_listing(block, limit, measure)
        case Table():
            return _cut_table(block, limit, measure)
        case Rule():
            return [block]
        case _:
            assert_never(block)


def _cut_spans(block: Paragraph | Heading, limit: int, measure: Measure) -> Iterator[Block]:
    spans = block.spans
    while spans:
        text = "".join(span.text for span in spans)
        # A text that is longer than the limit need not be measured.
        if len(text) <= limit and measure(replace(block, spans=spans)) <= limit:
            break
        end = _end(text, limit, lambda n: measure(replace(block, spans=_head(spans, n))) <= limit, str.isspace)  # noqa: B023 called at once
        yield replace(block, spans=_head(spans, end))
        spans = _tail(spans, end + _spaces(text[end:]))
    if spans:
        yield replace(block, spans=spans)


def _head(spans: Iterable[Span], length: int) -> tuple[Span, ...]:
    head: list[Span] = []
    for span in spans:
        if length <= 0:
            break
        head.append(replace(span, text=span.text[:length]))
        length -= len(span.text)
    return tuple(head)


def _tail(spans: Iterable[Span], start: int) -> tuple[Span, ...]:
    tail: list[Span] = []
    for span in spans:
        if start < len(span.text):
            tail.append(replace(span, text=span.text[max(start, 0) :]))
        start -= len(span.text)
    return tuple(tail)


def _spaces(text: str) -> int:
    return len(text) - len(text.lstrip())


def _cut_code(block: Code, limit: int, measure: Measure) -> Iterator[Block]:
    text = block.text
    while len(text) > max(limit, 1) or (len(text) > 1 and measure(replace(block, text=text)) > limit):
        end = _end(text, limit, lambda n: measure(replace(block, text=text[:n])) <= limit, "\n".__eq__)  # noqa: B023 called at once
        yield replace(block, text=text[:end])
        text = text[end:].removeprefix("\n")
    if text:
        yield replace(block, text=text)


def _end(text: str, limit: int, fits: Callable[[int], bool], breaks: Callable[[str], bool]) -> int:
    """The end of the part that fits: at the last break in its second half, else between two characters."""
    low, high = 1, min(len(text), max(limit, 1))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    for end in range(low, low // 2, -1):
        if end < len(text) and breaks(text[end]):
            return end
    return next((end for end in range(low, max(low - 16, 0), -1) if not _joined(text, end)), low)


def _joined(text: str, at: int) -> bool:
    """Whether the characters around `at` form one glyph: combining marks, joined or coloured emoji."""
    if at >= len(text):
        return False
    after = text[at]
    return (
        unicodedata.category(after) in ("Mn", "Me", "Cf")
        or text[at - 1] == "\u200d"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    )


def _cut_listing(block: Listing, limit: int, measure: Measure) -> list[Block]:
    parts: list[Block] = []
    for item in block.items:
        inner = split(item.blocks, limit, lambda inner: measure(Listing((Item(item.marker, (inner,)),))))  # noqa: B023 called at once
        parts += [Listing((Item("" if n else item.marker, part),)) for n, part in enumerate(inner or [()])]
    return [
        Listing(tuple(item for part in group if isinstance(part, Listing) for item in part.items))
        for group in _packed(parts, limit, measure)
    ]


def _cut_table(table: Table, limit: int, measure: Measure) -> list[Block]:
    parts: list[Block] = []
    rows = table.rows
    while rows:
        count = _fitting_rows(table.head, rows, limit, measure)
        parts.append(Table(table.head, rows[:count]))
        rows = rows[count:]
    if not parts:
        parts.append(table)
    if all(measure(part) <= limit for part in parts):
        return parts
    # A single row is too large: the cells become text.
    lines = [Paragraph(tuple(_between(row))) for row in (table.head, *table.rows)]
    return [part for line in lines for part in _cut(line, limit, measure)]


def _fitting_rows(head: Row, rows: tuple[Row, ...], limit: int, measure: Measure) -> int:
    """How many of the first rows fit into one message, at least 1. Measures few tables, none much larger than that."""

    def fits(count: int) -> bool:
        return measure(Table(head, rows[:count])) <= limit

    low = 1
    while low * 2 <= len(rows) and fits(low * 2):
        low *= 2
    high = min(low * 2 - 1, len(rows)) if low * 2 <= len(rows) else len(rows)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _between(row: Row) -> Iterator[Span]:
    for n, cell in enumerate(row):
        if n:
            yield Span(" | ")
        yield from cell
