"""Markdown blocks to lines for a terminal of a given width, styled with ANSI escape codes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import assert_never

from channels.markdown import (
    Block,
    Code,
    Heading,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Span,
    Table,
    aligned,
    columns,
    sendable,
)

RESET = "\x1b[0m"
BOLD = "\x1b[1m"
DIM = "\x1b[2m"
ITALIC = "\x1b[3m"
UNDERLINE = "\x1b[4m"
STRIKE = "\x1b[9m"
CODE = "\x1b[36m"

_MIN_WIDTH = 20
_MAX_WIDTH = 100
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def printable(text: str) -> str:
    """The text without control characters: text of a model or a web page must not control the terminal."""
    return _CONTROL.sub("", sendable(text).replace("\r\n", "\n")).expandtabs(4)


def unstyled(text: str) -> str:
    """The text without the styles of this module."""
    return _STYLE.sub("", text)


def styled(text: str, *styles: str) -> str:
    return f"{''.join(styles)}{text}{RESET}" if text and any(styles) else text


def block_lines(block: Block, width: int) -> list[str]:
    """The block in lines of at most `width` columns; code and tables keep the lines they have."""
    width = max(min(width, _MAX_WIDTH), _MIN_WIDTH)
    match block:
        case Paragraph(spans):
            return wrap(spans, width)
        case Heading(spans, level):
            return [styled(line, BOLD, UNDERLINE if level == 1 else "") for line in wrap(spans, width)]
        case Code(text):
            return [f"  {styled(line, CODE)}" for line in text.split("\n")]
        case Quote(blocks):
            return [f"{styled('▏', DIM)} {line}" for line in _spaced(blocks, width - 2)]
        case Listing(items):
            return [line for item in items for line in _item_lines(item.marker, item.blocks, width)]
        case Table():
            return aligned(block).split("\n")
        case Rule():
            return [styled("─" * min(width, 40), DIM)]
        case _:
            assert_never(block)


def _spaced(blocks: Iterable[Block], width: int) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        lines += ["", *block_lines(block, width)] if lines else block_lines(block, width)
    return lines


def _item_lines(marker: str, blocks: Iterable[Block], width: int) -> list[str]:
    indent = len(marker) + 1
    inner = [line for block in blocks for line in block_lines(block, width - indent)] or [""]
    return [f"{marker} {inner[0]}", *(" " * indent + line for line in inner[1:])]


def wrap(spans: Iterable[Span], width: int) -> list[str]:
    """The spans in lines broken between words; a word longer than a line is not broken."""
    lines = [""]
    used = 0
    for span in spans:
        for word in re.findall(r"\n|[^\S\n]+|\S+", _written(span)):
            if word == "\n" or (used + columns(word) > width and used and not word.isspace()):
                lines.append("")
                used = 0
            if word == "\n" or (word.isspace() and not used):
                continue
            lines[-1] += styled(word, *_styles(span))
            used += columns(word)
    return lines


def _written(span: Span) -> str:
    """The span's text, and its URL if the text does not show it."""
    return f"{span.text} ({span.url})" if span.url and span.url != span.text else span.text


def _styles(span: Span) -> list[str]:
    wanted = (
        (span.bold, BOLD),
        (span.italic, ITALIC),
        (span.strike, STRIKE),
        (span.code, CODE),
        (bool(span.url), UNDERLINE),
    )
    return [style for is_wanted, style in wanted if is_wanted]
