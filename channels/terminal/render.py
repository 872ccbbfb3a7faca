"""What to print next, from what was printed of a reply and the reply's current state. Pure.

Printed text cannot be changed. So a text is printed as far as it is final: block by block in a terminal, letter by
letter where the markdown itself is the output (a pipe).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from agent.media import Attachment
from channels.markdown import Block, Item, Listing, Paragraph, Span, parse
from channels.reply import CallSegment, CallState, MediaSegment, QuestionSegment, Reply, TextSegment
from channels.terminal.ansi import DIM, block_lines, printable, styled, unstyled

Spacing = Literal["none", "line", "paragraph"]
"""Where a part begins: right after the last one, on a new line, or after an empty line."""


@dataclass(frozen=True, slots=True)
class Style:
    """`width` in columns for styled blocks; None: plain markdown, letter by letter."""

    width: int | None = None
    color: bool = False


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text to print. `secondary`: about the work (tool calls, reasoning, failures, offers), not part of the answer."""

    text: str
    spacing: Spacing
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class FilePart:
    """A picture or file to save; its path is printed."""

    attachment: Attachment
    caption: str


Part = TextPart | FilePart


@dataclass(frozen=True, slots=True)
class PrintedText:
    """How far the newest text is printed: its markdown then, and how many of its blocks."""

    key: str = ""
    markdown: str = ""
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class PrintState:
    """What is printed of a reply. `finished` holds the keys of the segments that are completely printed.

    `asked` holds the keys of the questions that are printed without their answers.
    """

    finished: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    text: PrintedText = field(default_factory=PrintedText)
    after_call: bool = False


def advance(shown: PrintState, reply: Reply, style: Style) -> tuple[PrintState, tuple[Part, ...]]:
    """The parts to print to get from `shown` to the reply, and the state after that."""
    parts: list[Part] = []
    for segment in reply.segments:
        if segment.key in shown.finished:
            continue
        match segment:
            case TextSegment():
                shown = _advance_text(shown, segment, style, parts)
            case MediaSegment():
                parts.append(FilePart(segment.attachment, printable(segment.caption)))
                shown = replace(shown, finished=shown.finished | {segment.key}, after_call=False)
            case CallSegment():
                if segment.state not in ("waiting", "running"):
                    parts.append(
                        TextPart(
                            _call_line(segment, style), "line" if shown.after_call else "paragraph", secondary=True
                        )
                    )
                    shown = replace(shown, finished=shown.finished | {segment.key}, after_call=True)
            case QuestionSegment():
                shown = _advance_question(shown, segment, style, parts)
            case _:
                assert_never(segment)
    if reply.done:
        parts.append(TextPart("", "line"))
    return shown, tuple(parts)


def growing(shown: PrintState, reply: Reply, style: Style) -> list[str]:
    """The lines of the growing text that are not printed yet, because they may still change."""
    match reply.segments:
        case (*_, TextSegment(open=True, key=key, markdown=markdown)) if style.width is not None:
            blocks = parse(printable(markdown))
            done = shown.text.blocks if shown.text.key == key else 0
            return _colored(_block_text(blocks[done:], style.width), style).split("\n")
        case _:
            return []


def _advance_text(shown: PrintState, segment: TextSegment, style: Style, parts: list[Part]) -> PrintState:
    if segment.secondary or (segment.unanswered and style.width is None):
        return _advance_secondary(shown, segment, style, parts)
    printed = shown.text if shown.text.key == segment.key else PrintedText(segment.key)
    markdown = printable(segment.markdown)
    # After a reconnect, a state may be slightly older than the one before.
    is_older = printed.markdown.startswith(markdown)
    if not is_older and not markdown.startswith(printed.markdown):
        parts += _restart_notice(printed, style)
        printed = PrintedText(segment.key)
    now, text = (
        (printed, "") if is_older and segment.open else _text(printed, replace(segment, markdown=markdown), style)
    )
    if text:
        continues = style.width is None and printed.markdown
        parts.append(TextPart(text, "none" if continues else "paragraph"))
    if segment.interrupted:
        parts.append(TextPart(_colored(styled(f"({segment.interruption})", DIM), style), "line", secondary=True))
    finished = shown.finished if segment.open else shown.finished | {segment.key}
    return replace(shown, finished=finished, text=now, after_call=shown.after_call and not text)


def _advance_secondary(shown: PrintState, segment: TextSegment, style: Style, parts: list[Part]) -> PrintState:
    """Printed whole, once it is final; the text before it continues after it."""
    if segment.open:
        return shown
    markdown = printable(segment.markdown)
    if style.width is not None:
        markdown = _colored("\n".join(_dimmed(_block_text(parse(markdown), style.width))), style)
    if markdown.strip():
        parts.append(TextPart(markdown, "paragraph", secondary=True))
    return replace(shown, finished=shown.finished | {segment.key}, after_call=False)


def _dimmed(text: str) -> Iterator[str]:
    """The lines without their own styles, which would end the dimming."""
    return (styled(unstyled(line), DIM) for line in text.split("\n"))


def _advance_question(shown: PrintState, question: QuestionSegment, style: Style, parts: list[Part]) -> PrintState:
    # On a screen, an offer has its place in the answer.
    is_secondary = bool(question.typed) and style.width is None
    if question.key not in shown.asked:
        lines = [_question_text(question.question, style)]
        if question.open:
            lines += [_question_text(question.typed, style)] if question.typed else _option_lines(question, style)
        parts += [TextPart("\n".join(lines), "paragraph", is_secondary), TextPart("", "line", is_secondary)]
        shown = replace(shown, asked=shown.asked | {question.key}, after_call=False)
    if question.open:
        return shown
    if question.answer:
        answer = f"→ {printable(question.answer)}".replace("\n", " ")
        parts.append(TextPart(_colored(styled(answer, DIM), style), "line", secondary=True))
    return replace(shown, finished=shown.finished | {question.key})


def _question_text(markdown: str, style: Style) -> str:
    markdown = printable(markdown)
    return markdown if style.width is None else _colored(_block_text(parse(markdown), style.width), style)


def _option_lines(question: QuestionSegment, style: Style) -> list[str]:
    options = [printable(option).replace("\n", " ") for option in question.options]
    if style.width is None:
        return [f"{number}) {option}" for number, option in enumerate(options, 1)]
    items = (Item(f"{number})", (Paragraph((Span(option),)),)) for number, option in enumerate(options, 1))
    return block_lines(Listing(tuple(items)), style.width)


def _restart_notice(printed: PrintedText, style: Style) -> list[Part]:
    """A notice that the text above is void, if any of it was printed."""
    if not (printed.markdown if style.width is None else printed.blocks):
        return []
    return [
        TextPart(
            _colored(styled("(the answer was interrupted and starts again)", DIM), style), "paragraph", secondary=True
        )
    ]


def _text(printed: PrintedText, segment: TextSegment, style: Style) -> tuple[PrintedText, str]:
    """The part of the text that is final and not printed yet."""
    markdown = segment.markdown
    if style.width is None:
        return replace(printed, markdown=markdown), markdown[len(printed.markdown) :]
    # The unfinished line may still change the kind of the block before it.
    settled = markdown[: markdown.rfind("\n") + 1] if segment.open else markdown
    blocks = parse(settled)
    upto = max(printed.blocks, len(blocks) - 1 if segment.open else len(blocks))
    text = _block_text(blocks[printed.blocks : upto], style.width)
    return PrintedText(segment.key, settled, upto), _colored(text, style)


def _block_text(blocks: tuple[Block, ...], width: int) -> str:
    """Blank blocks (an empty heading) are skipped."""
    texts = ("\n".join(block_lines(block, width)) for block in blocks)
    return "\n\n".join(text for text in texts if text)


_STATES: dict[CallState, str] = {
    "done": "✓",
    "failed": "✗ failed:",
    "skipped": "↷ skipped:",
    "cancelled": "■ cancelled:",
    "denied": "✗ denied:",
    "unknown": "? interrupted by a restart:",
    "background": "↗ goes on in the background:",
}


def _call_line(call: CallSegment, style: Style) -> str:
    return _colored(styled(f"{_STATES[call.state]} {printable(call.title)}".replace("\n", " "), DIM), style)


def _colored(text: str, style: Style) -> str:
    return text if style.color else unstyled(text)
