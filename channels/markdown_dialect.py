"""The Markdown that models write: CommonMark with tables, strikethrough and mathematics, in which no text disappears.

It differs from CommonMark where that harms what models mean: emphasis beside Chinese, Japanese and Korean text,
backslashes of LaTeX, and fences inside a fence of Markdown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import MutableMapping
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token

MAX_FORMULA = 4000
"""Characters of a formula; a longer text between two dollars is none."""

_MATH_SIGNS = re.compile(r"[\\^_={}]")
_OWN_FENCE = re.compile(r"[ \t]*(`{3,})(?:markdown|md)[ \t]*", re.IGNORECASE)
_ANY_FENCE = re.compile(r"[ \t]*(`{3,})([^`]*)")
_DISPLAY = {"$$": "$$", "\\[": "\\]"}
_KEPT_ESCAPES = frozenset(",;")
"""Spaces of LaTeX; no Markdown needs these characters escaped."""


class ModelMarkdown(MarkdownIt):
    """Its tokens are those of CommonMark, and `math_inline` and `math_block`: formulas as written."""

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False, "maxNesting": 24})
        self.inline = _InlineParser()
        self.block.ruler.enable("table")
        # A link definition would vanish from the text.
        self.block.ruler.disable("reference")
        self.inline.ruler.enableOnly(
            [
                "text",
                "newline",
                "escape",
                "backticks",
                "strikethrough",
                "emphasis",
                "link",
                "image",
                "autolink",
                "entity",
            ]
        )
        self.inline.ruler2.enableOnly(["balance_pairs", "strikethrough", "emphasis", "fragments_join"])
        self.inline.ruler.before("escape", "math", _math)
        self.inline.ruler.before("escape", "kept_escape", _kept_escape)
        self.block.ruler.before("fence", "math", _math_block, {"alt": ["paragraph", "blockquote", "list"]})

    def normalizeLink(self, url: str) -> str:
        return url

    def normalizeLinkText(self, link: str) -> str:
        return link


def with_outer_fences(source: str) -> str:
    """The text, in which a fence of Markdown is longer than the fences inside it, where that makes all of them even:
    CommonMark ends it at the first inner one. The number of lines stays the same."""
    if "```" not in source or not _OWN_FENCE.search(source):
        return source
    lines = source.split("\n")
    line = 0
    while line < len(lines):
        opening = _ANY_FENCE.fullmatch(lines[line])
        if opening is None:
            line += 1
        elif _OWN_FENCE.fullmatch(lines[line]):
            line = _lengthen(lines, line)
        else:
            line = _closing(lines, line, opening[1]) + 1
    return "\n".join(lines)


def _lengthen(lines: list[str], start: int) -> int:
    """Lengthens the fence of Markdown that begins at this line, if it has fences inside; where to go on."""
    longest, depth = 0, 0
    for at in range(start + 1, len(lines)):
        fence = _ANY_FENCE.fullmatch(lines[at])
        if fence is None:
            continue
        if fence[2].strip():
            if depth:
                break
            longest, depth = max(longest, len(fence[1])), 1
        elif depth:
            depth = 0
        elif longest == 0:
            return at + 1
        else:
            for end in (start, at):
                lines[end] = re.sub(r"`{3,}", "`" * (longest + 1), lines[end], count=1)
            return at + 1
    return _closing(lines, start, "```") + 1


def _closing(lines: list[str], start: int, fence: str) -> int:
    closing = re.compile(rf"[ \t]*`{{{len(fence)},}}[ \t]*")
    return next((at for at in range(start + 1, len(lines)) if closing.fullmatch(lines[at])), len(lines))


# --- emphasis beside Chinese, Japanese and Korean text ---------------------------------------------------------------


class _InlineParser(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: MutableMapping[str, Any], tokens: list[Token]) -> list[Token]:
        state = _InlineState(src, md, env, tokens)
        self.tokenize(state)
        for rule in self.ruler2.getRules(""):
            rule(state)
        return state.tokens


class _InlineState(StateInline):
    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
        """CommonMark's flanking rule, in which punctuation of these scripts counts as letters, and beside their letters
        other punctuation does too: they have no spaces between words, so that bold text that ends with a full stop
        would not end. https://spec.commonmark.org/0.31.2/#left-flanking-delimiter-run
        """
        end = start
        while end < self.posMax and self.src[end] == self.src[start]:
            end += 1
        before = self.src[start - 1] if start > 0 else " "
        after = self.src[end] if end < self.posMax else " "
        left = not (isWhiteSpace(ord(after)) or (_is_punctuation(after) and _is_letter(before)))
        right = not (isWhiteSpace(ord(before)) or (_is_punctuation(before) and _is_letter(after)))
        opens = left and (canSplitWord or not right or _is_punctuation(before))
        closes = right and (canSplitWord or not left or _is_punctuation(after))
        return Scanned(opens, closes, end - start)


def _is_punctuation(character: str) -> bool:
    return (isMdAsciiPunct(ord(character)) or isPunctChar(character)) and not _is_east_asian(character)


def _is_letter(character: str) -> bool:
    """Whether it makes punctuation on the other side of the delimiters count."""
    return not (isWhiteSpace(ord(character)) or _is_punctuation(character) or _is_east_asian(character))


def _is_east_asian(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


# --- mathematics -----------------------------------------------------------------------------------------------------


def _math(state: StateInline, silent: bool) -> bool:
    r"""`\(…\)`, `\[…\]`, `$$…$$`, and `$…$` with signs of LaTeX in it, which no price has."""
    end = _formula_end(state.src, state.pos, state.posMax)
    if end < 0:
        return False
    if not silent:
        state.push("math_inline", "code", 0).content = state.src[state.pos : end].replace("\n", " ")
    state.pos = end
    return True


def _formula_end(text: str, start: int, limit: int) -> int:
    """Where the formula ends that begins there; -1 if none does."""
    limit = min(limit, start + MAX_FORMULA)
    for opening, closing in (("\\(", "\\)"), *_DISPLAY.items()):
        if text.startswith(opening, start):
            found = text.find(closing, start + 2, limit)
            # Brackets before a bracket are a link that was escaped.
            is_link = opening == "\\[" and text[found + 2 : found + 3] == "("
            return found + 2 if text[start + 2 : max(found, 0)].strip() and not is_link else -1
    if text[start] != "$" or start + 1 >= limit or text[start + 1].isspace():
        return -1
    found = text.find("$", start + 1, limit)
    formula = text[start + 1 : found]
    if found < 0 or formula[-1:].isspace() or "\n" in formula or not _MATH_SIGNS.search(formula):
        return -1
    return -1 if text[found + 1 : found + 2].isdigit() else found + 1


def _kept_escape(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "\\" or state.src[state.pos + 1 : state.pos + 2] not in _KEPT_ESCAPES:
        return False
    if state.pos + 1 >= state.posMax:
        return False
    if not silent:
        state.append_pending(state.src[state.pos : state.pos + 2])
    state.pos += 2
    return True


def _math_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula with lines of its own."""
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]]
    closing = _DISPLAY.get(first[:2])
    if closing is None or state.is_code_block(start):
        return False
    for last in range(start, end):
        line = state.src[state.bMarks[last] + state.tShift[last] : state.eMarks[last]].rstrip()
        found = line.find(closing, 2 if last == start else 0)
        if found >= 0:
            break
        if not line or (last > start and state.sCount[last] < state.blkIndent):
            return False
    else:
        return False
    if found + 2 != len(line):
        return False
    if silent:
        return True
    state.line = last + 1
    token = state.push("math_block", "code", 0)
    token.content = state.getLines(start, last + 1, state.sCount[start], False).strip()
    token.map = [start, state.line]
    return True
