"""From what is on the screen of a reply and the reply as it stands now to what to print next; pure.

A terminal cannot take back what it printed. So a text is printed as far as it can no longer change: block by block
where blocks are styled, letter by letter where the markdown itself goes out (a pipe).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from agent.media import Attachment
from channels.markdown import Block, Item, Listing, Paragraph, Span, parse
from channels.reply import CallSegment, CallState, MediaSegment, QuestionSegment, Reply, TextSegment
from channels.terminal.ansi import DIM, block_lines, printable, styled, unstyled

Spacing = Literal["on", "line", "apart"]
"""Where a part begins: right where the last one ended, on a new line, or after an empty line."""


@dataclass(frozen=True, slots=True)
class Look:
    """`width` in columns for styled blocks; None: markdown as it is, letter by letter."""

    width: int | None = None
    color: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """Text to print. `secondary`: about the work rather than of the answer."""

    text: str
    spacing: Spacing
    secondary: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A picture or file to save and name."""

    attachment: Attachment
    caption: str


Part = Words | Given


@dataclass(frozen=True, slots=True)
class Printed:
    """How far the newest text is printed: the markdown it was then, and how many of its blocks."""

    key: str = ""
    markdown: str = ""
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class Shown:
    """What is printed of a reply. `over` holds the keys of the segments of which nothing more will be printed.

    `asked` holds those of the questions that are printed, but not their answers.
    """

    over: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    text: Printed = field(default_factory=Printed)
    after_call: bool = False


def advance(shown: Shown, reply: Reply, look: Look) -> tuple[Shown, tuple[Part, ...]]:
    """What to print to bring the screen from `shown` to the reply, and what is shown then."""
    parts: list[Part] = []
    for segment in reply.segments:
        if segment.key in shown.over:
            continue
        match segment:
            case TextSegment():
                shown = _advance_text(shown, segment, look, parts)
            case MediaSegment():
                parts.append(Given(segment.attachment, printable(segment.caption)))
                shown = replace(shown, over=shown.over | {segment.key}, after_call=False)
            case CallSegment():
                if segment.state not in ("waiting", "running"):
                    parts.append(
                        Words(_call_line(segment, look), "line" if shown.after_call else "apart", secondary=True)
                    )
                    shown = replace(shown, over=shown.over | {segment.key}, after_call=True)
            case QuestionSegment():
                shown = _advance_question(shown, segment, look, parts)
            case _:
                assert_never(segment)
    if reply.done:
        parts.append(Words("", "line"))
    return shown, tuple(parts)


def growing(shown: Shown, reply: Reply, look: Look) -> list[str]:
    """The lines of the text that grows, as far as they are not printed yet: they may still change."""
    match reply.segments:
        case (*_, TextSegment(open=True, key=key, markdown=markdown)) if look.width is not None:
            blocks = parse(printable(markdown))
            done = shown.text.blocks if shown.text.key == key else 0
            return _colored(_block_text(blocks[done:], look.width), look).split("\n")
        case _:
            return []


def _advance_text(shown: Shown, segment: TextSegment, look: Look, parts: list[Part]) -> Shown:
    if segment.secondary:
        return _advance_aside(shown, segment, look, parts)
    printed = shown.text if shown.text.key == segment.key else Printed(segment.key)
    markdown = printable(segment.markdown)
    # A state that is a little older than the one before may come when a connection is made anew.
    is_older = printed.markdown.startswith(markdown)
    if not is_older and not markdown.startswith(printed.markdown):
        parts += _begin_again(printed, look)
        printed = Printed(segment.key)
    now, text = (
        (printed, "") if is_older and segment.open else _text(printed, replace(segment, markdown=markdown), look)
    )
    if text:
        continues = look.width is None and printed.markdown
        parts.append(Words(text, "on" if continues else "apart"))
    if segment.interrupted:
        parts.append(Words(_colored(styled("(interrupted)", DIM), look), "line", secondary=True))
    over = shown.over if segment.open else shown.over | {segment.key}
    return replace(shown, over=over, text=now, after_call=shown.after_call and not text)


def _advance_aside(shown: Shown, segment: TextSegment, look: Look, parts: list[Part]) -> Shown:
    """Whole, once it cannot change any more; what is printed of another text goes on behind it."""
    if segment.open:
        return shown
    markdown = printable(segment.markdown)
    if look.width is not None:
        markdown = _colored("\n".join(_dimmed(_block_text(parse(markdown), look.width))), look)
    if markdown.strip():
        parts.append(Words(markdown, "apart", secondary=True))
    return replace(shown, over=shown.over | {segment.key}, after_call=False)


def _dimmed(text: str) -> Iterator[str]:
    """The lines without looks of their own, which would end ours."""
    return (styled(unstyled(line), DIM) for line in text.split("\n"))


def _advance_question(shown: Shown, question: QuestionSegment, look: Look, parts: list[Part]) -> Shown:
    if question.key not in shown.asked:
        lines = [_question_text(question, look), *(_option_lines(question, look) if question.open else [])]
        parts += [Words("\n".join(lines), "apart"), Words("", "line")]
        shown = replace(shown, asked=shown.asked | {question.key}, after_call=False)
    if question.open:
        return shown
    if question.answer:
        answer = f"→ {printable(question.answer)}".replace("\n", " ")
        parts.append(Words(_colored(styled(answer, DIM), look), "line", secondary=True))
    return replace(shown, over=shown.over | {question.key})


def _question_text(question: QuestionSegment, look: Look) -> str:
    markdown = printable(question.question)
    return markdown if look.width is None else _colored(_block_text(parse(markdown), look.width), look)


def _option_lines(question: QuestionSegment, look: Look) -> list[str]:
    options = [printable(option).replace("\n", " ") for option in question.options]
    if look.width is None:
        return [f"{number}) {option}" for number, option in enumerate(options, 1)]
    items = (Item(f"{number})", (Paragraph((Span(option),)),)) for number, option in enumerate(options, 1))
    return block_lines(Listing(tuple(items)), look.width)


def _begin_again(printed: Printed, look: Look) -> list[Part]:
    """Says that the text above is void, if any of it was printed."""
    if not (printed.markdown if look.width is None else printed.blocks):
        return []
    return [Words(_colored(styled("(this answer broke off and begins again)", DIM), look), "apart", secondary=True)]


def _text(printed: Printed, segment: TextSegment, look: Look) -> tuple[Printed, str]:
    """What of the text can be printed by now, behind what was printed already."""
    markdown = segment.markdown
    if look.width is None:
        return replace(printed, markdown=markdown), markdown[len(printed.markdown) :]
    # The line that is still being written may turn the block before it into another one.
    settled = markdown[: markdown.rfind("\n") + 1] if segment.open else markdown
    blocks = parse(settled)
    upto = max(printed.blocks, len(blocks) - 1 if segment.open else len(blocks))
    text = _block_text(blocks[printed.blocks : upto], look.width)
    return Printed(segment.key, settled, upto), _colored(text, look)


def _block_text(blocks: tuple[Block, ...], width: int) -> str:
    """A block without a letter (an empty heading) takes no room."""
    texts = ("\n".join(block_lines(block, width)) for block in blocks)
    return "\n\n".join(text for text in texts if text)


_STATES: dict[CallState, str] = {
    "done": "✓",
    "failed": "✗ failed:",
    "skipped": "↷ skipped:",
    "cancelled": "■ cancelled:",
    "denied": "✗ denied:",
    "unknown": "? interrupted by a restart:",
}


def _call_line(call: CallSegment, look: Look) -> str:
    return _colored(styled(f"{_STATES[call.state]} {printable(call.title)}".replace("\n", " "), DIM), look)


def _colored(text: str, look: Look) -> str:
    return text if look.color else unstyled(text)
