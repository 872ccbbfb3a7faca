"""From what is on the screen of a reply and the reply as it stands now to what to print next; pure.

A terminal cannot take back what it printed. So a text is printed as far as it can no longer change: block by block
where blocks are styled, letter by letter where the markdown itself goes out (a pipe).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from agent.media import Attachment
from channels.markdown import Block, parse
from channels.reply import CallSegment, CallState, MediaSegment, Reply, TextSegment
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
    """Text to print. `aside`: about the work rather than of the answer."""

    text: str
    spacing: Spacing
    aside: bool = False


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
    """What is printed of a reply. `over` holds the keys of the segments of which nothing more will be printed."""

    over: frozenset[str] = frozenset()
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
                    parts.append(Words(_call_line(segment, look), "line" if shown.after_call else "apart", aside=True))
                    shown = replace(shown, over=shown.over | {segment.key}, after_call=True)
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
        parts.append(Words(_colored(styled("(interrupted)", DIM), look), "line", aside=True))
    over = shown.over if segment.open else shown.over | {segment.key}
    return replace(shown, over=over, text=now, after_call=shown.after_call and not text)


def _begin_again(printed: Printed, look: Look) -> list[Part]:
    """Says that the text above is void, if any of it was printed."""
    if not (printed.markdown if look.width is None else printed.blocks):
        return []
    return [Words(_colored(styled("(this answer broke off and begins again)", DIM), look), "apart", aside=True)]


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
    return "\n\n".join("\n".join(block_lines(block, width)) for block in blocks)


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
