"""Markdown blocks to the Markdown of Slack's markdown blocks, without mentions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import assert_never
from urllib.parse import urlsplit

from channels.markdown import (
    Block,
    Code,
    Heading,
    Item,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Span,
    Table,
    aligned,
    columns,
    parse,
    plain,
)

TABLE_WIDTH = 100
"""Columns beyond which a table is shown as code, which scrolls instead of wrapping."""

_GUARD = "\u200b"
"""A zero-width character that breaks up what Slack would read as a mention."""

_TOKEN = re.compile(r"<(?=[@#!])")
_MENTION = re.compile(r"<(?=@[UW][A-Z0-9]|#[CGD][A-Z0-9]|!(?:here|channel|everyone|group|subteam|date)\b)")
_BROADCAST = re.compile(r"@(?=(?:here|channel|everyone|group)\b)", re.IGNORECASE)
_ESCAPED = re.compile(r"[\\`*_\[\]<>#+|~&=!-]|(?<=\d)[.)]")
_WIDE_MARKS = r"\s“”‘’—…、。〈-】〔-〟！-／：-＠［-｀｛-･"  # noqa: RUF001  # punctuation of Chinese, Japanese and Korean
_STYLEABLE = re.compile(rf"[^{_WIDE_MARKS}](?s:.*[^{_WIDE_MARKS}])?")
_RUN = re.compile("`+")
_UNSAFE_IN_URL = re.compile(r"[()<>|\\`*@\[\]]")
_SPACES = re.compile(r"\s+")
_OPENERS = re.compile(r"(?<!\w)_|!\[|[\\&<]")

_AS_WRITTEN, _ESCAPING, _UNSTYLED = range(3)
"""Ways to keep text from becoming markup: none (usually enough), backslashes, backslashes and no styles."""


def write(blocks: Iterable[Block]) -> str:
    return "\n\n".join(filter(None, map(write_block, blocks)))


@lru_cache(maxsize=512)
def write_block(block: Block) -> str:
    """The block's Markdown. It is parsed again, and if the result differs, written with more escaping.

    Cached: a growing reply is rendered many times.
    """
    wanted = _visible((block,))
    for care in (_AS_WRITTEN, _ESCAPING):
        written = _block(block, care)
        if _visible(parse(written)) == wanted:
            return written
    return _block(block, _UNSTYLED)


def settled(blocks: tuple[Block, ...]) -> str:
    """The beginning of a growing text that will not change, whatever follows (nearly: see `ChatTarget.edit`)."""
    if not blocks:
        return ""
    before, last = write(blocks[:-1]), _settled(blocks[-1])
    return f"{before}\n\n{last}" if before and last else before or last


def guarded(text: str) -> str:
    """The text without anything that Slack reads as a mention."""
    return _BROADCAST.sub(f"@{_GUARD}", _TOKEN.sub(f"<{_GUARD}", text))


def mrkdwn(text: str) -> str:
    """Plain text for Slack's older markup: https://docs.slack.dev/messaging/formatting-message-text#escaping"""
    return guarded(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def read(blocks: Iterable[Block]) -> str:
    """The blocks as plain text, for notifications and captions."""
    return "\n".join(filter(None, map(_plain, blocks)))


def _plain(block: Block) -> str:
    match block:
        case Paragraph() | Heading():
            return plain(block.spans)
        case Code():
            return block.text
        case Quote():
            return "\n".join(f"> {line}" for line in read(block.blocks).splitlines())
        case Listing():
            return "\n".join(f"{item.marker} {read(item.blocks)}".strip() for item in block.items)
        case Table():
            return aligned(block)
        case Rule():
            return "———"
        case _:
            assert_never(block)


# --- blocks ----------------------------------------------------------------------------------------------------------


def _block(block: Block, care: int) -> str:
    match block:
        case Paragraph():
            return _spans(block.spans, care)
        case Heading():
            return f"{'#' * block.level} {_spans(block.spans, care)}".replace("\n", " ").rstrip()
        case Code():
            return _code(block)
        case Quote():
            return _indented("\n\n".join(_block(inner, care) for inner in block.blocks), "> ", "> ")
        case Listing():
            return "".join(_items(block, care))
        case Table():
            return _code(Code(aligned(block))) if _is_wide(block) else _table(block, care)
        case Rule():
            return "---"
        case _:
            assert_never(block)


def _code(block: Code) -> str:
    fence = "`" * max(3, 1 + max(map(len, _RUN.findall(block.text)), default=0))
    text = _BROADCAST.sub(f"@{_GUARD}", _MENTION.sub(f"<{_GUARD}", block.text))
    return f"{fence}{block.language}\n{text}\n{fence}"


def _items(listing: Listing, care: int) -> Iterator[str]:
    for number, item in enumerate(listing.items):
        inner = "\n\n".join(_block(block, care) for block in item.blocks)
        marker = "-" if item.marker == "•" else item.marker
        if number:
            # An item continued from the message before has no marker, and needs a blank line after it.
            yield "\n" if listing.items[number - 1].marker else "\n\n"
        yield _indented(inner, f"{marker} ", " " * (len(marker) + 1)).rstrip() if marker else inner


def _indented(text: str, first: str, following: str) -> str:
    lines = text.split("\n")
    return "\n".join((following if n else first) + line if line else following.rstrip() for n, line in enumerate(lines))


def _table(table: Table, care: int) -> str:
    rows = [[_cell(cell, care) for cell in row] for row in (table.head, *table.rows)]
    ruled = [rows[0], ["---"] * len(table.head), *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in ruled)


def _is_wide(table: Table) -> bool:
    return any(columns(line) > TABLE_WIDTH for line in aligned(table).splitlines())


def _cell(cell: tuple[Span, ...], care: int) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", _spans(cell, care).replace("\n", " "))


# --- spans -----------------------------------------------------------------------------------------------------------


def _spans(spans: Iterable[Span], care: int) -> str:
    return "".join(_span(span, care) for span in map(_shown, spans))


def _shown(span: Span) -> Span:
    """The span as Slack can show it: a URL that cannot be a link follows its text."""
    return replace(span, text=plain((span,)), url="") if span.url and not _is_link(span.url) else span


def _span(span: Span, care: int) -> str:
    styled = _styled(span, care)
    if not span.url:
        return styled
    return f"[{styled}]({_UNSAFE_IN_URL.sub(lambda unsafe: f'%{ord(unsafe[0]):02X}', span.url)})"


def _styled(span: Span, care: int) -> str:
    if span.code:
        return _code_span(span.text)
    text = guarded(span.text)
    if care != _AS_WRITTEN:
        text = _ESCAPED.sub(r"\\\g<0>", text)
    if care == _UNSTYLED or not text.strip():
        return text
    # Style marks next to a space inside are not recognised, nor those between wide punctuation and a letter.
    start, end = (found.start(), found.end()) if (found := _STYLEABLE.search(text)) else (0, len(text))
    inner = text[start:end]
    for mark, is_styled in (("~~", span.strike), ("*", span.italic), ("**", span.bold)):
        if is_styled:
            inner = f"{mark}{inner}{mark}"
    return text[:start] + inner + text[end:]


def _code_span(text: str) -> str:
    text = _BROADCAST.sub(f"@{_GUARD}", _MENTION.sub(f"<{_GUARD}", text))
    runs = {len(run) for run in _RUN.findall(text)}
    fence = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
    pad = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if re.search(r"[\s\x00-\x1f]", url):
        return False
    return bool(parts.scheme in ("http", "https") and parts.hostname) or (parts.scheme == "mailto" and "@" in url)


# --- comparing -------------------------------------------------------------------------------------------------------

_FORM = "\x01"
"""Prefix of what is the form of a block rather than text."""


def _visible(blocks: Iterable[Block]) -> str:
    """The visible text of the blocks, without spaces and styles."""
    return _SPACES.sub("", "\n".join(map(_visible_block, blocks)).replace(_GUARD, ""))


def _visible_block(block: Block) -> str:
    match block:
        case Paragraph():
            return _text(block.spans)
        case Heading():
            return f"{_FORM}#{_text(block.spans)}"
        case Code():
            return f"{_FORM}`{block.text}"
        case Quote():
            return f"{_FORM}>" + "".join(map(_visible_block, block.blocks))
        case Listing():
            return "".join(_visible_item(item) for item in block.items)
        case Table():
            if _is_wide(block):
                return f"{_FORM}`{aligned(block)}"
            return f"{_FORM}|".join(_text(cell) for row in (block.head, *block.rows) for cell in row)
        case Rule():
            return f"{_FORM}-"
        case _:
            assert_never(block)


def _visible_item(item: Item) -> str:
    return (f"{_FORM}{item.marker}" if item.marker else "") + "".join(map(_visible_block, item.blocks))


def _text(spans: Iterable[Span]) -> str:
    return "".join(span.text for span in map(_shown, spans))


# --- growing ---------------------------------------------------------------------------------------------------------


def _settled(last: Block) -> str:
    match last:
        case Paragraph() | Heading():
            text = write_block(last)
            # Such a line may become the head of a table.
            return "" if text.rpartition("\n")[2].lstrip().startswith("|") else _before_openers(text)
        case Code():
            # The closing fence and the end of the last line may still be missing.
            return write_block(last).rpartition("\n")[0].rpartition("\n")[0] if last.text else ""
        case Quote() if last.blocks:
            return _of_container(last, last.blocks[-1], Quote(last.blocks[:-1]))
        case Listing() if last.items and last.items[-1].blocks:
            item = last.items[-1]
            shorter = Listing((*last.items[:-1], Item(item.marker, item.blocks[:-1])))
            return _of_container(last, item.blocks[-1], shorter)
        case Listing():
            return _settled(Listing(last.items[:-1])) if len(last.items) > 1 else ""
        case _:
            return ""


def _of_container(container: Block, inner: Block, shorter: Quote | Listing) -> str:
    if isinstance(inner, Paragraph) and not write_block(inner).startswith("|"):
        return _before_openers(write_block(container))
    return "" if shorter in (Quote(()), Listing((Item("•", ()),))) else write_block(shorter)


def _before_openers(text: str) -> str:
    """Up to the first character that may be the beginning of incomplete markup."""
    opener = _OPENERS.search(text)
    return (text[: opener.start()] if opener else text).rstrip()
