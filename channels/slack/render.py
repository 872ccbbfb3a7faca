"""Replies to Slack messages: Markdown, tasks, buttons and files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import takewhile
from typing import Literal, assert_never

from agent.media import Attachment
from channels.markdown import Block, Item, Listing, Paragraph, Span, parse, sendable, split
from channels.reply import CallSegment, CallState, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.slack import limits
from channels.slack.markup import mrkdwn, read, settled, write, write_block
from channels.slack.parse import ANSWER, STOP, Json
from channels.sync import REPEAT_NOTE, STATUS, Piece

TEXT_LIMIT = limits.MARKDOWN - 1200
"""The rest is for the status, the buttons and their data: all blocks of a message share a limit, too."""
STATUS_LIMIT = 200
ANSWER_LIMIT = 1000
OPTIONS_LIMIT = limits.ACTIONS - 1
"""One of the buttons may be the stop button."""
FALLBACK_LIMIT = limits.UPDATED_TEXT - 100
COMMENT_LIMIT = 3000
TITLE_LIMIT = limits.TASK_TITLE - 6


@dataclass(frozen=True, slots=True)
class Button:
    """`id` is unique in its message, `data` is sent back when it is pressed."""

    id: str
    label: str
    data: str


@dataclass(frozen=True, slots=True)
class Task:
    """A card in a streamed message."""

    id: str
    title: str
    status: Literal["pending", "in_progress", "complete", "error"]


@dataclass(frozen=True, slots=True)
class Text:
    """A message's Markdown, its status line and its buttons. `key` is unique to the message.

    While it is `growing` it may be streamed: then `settled` is the part of the Markdown that will not change, and the
    `tasks` replace the status line. `plain` is for notifications.
    """

    key: str
    markdown: str
    plain: str = ""
    status: str = ""
    buttons: tuple[Button, ...] = ()
    tasks: tuple[Task, ...] = ()
    settled: str = ""
    growing: bool = False
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a file; `caption` is plain text."""

    key: str
    attachment: Attachment
    caption: str = ""
    kind: Literal["media"] = "media"


Content = Text | Media

NOTICE = "notice"
"""The task that shows a status other than a tool call."""


def render(reply: Reply) -> tuple[Piece[Content], ...]:
    """The messages that show the reply, in order. Keys stay the same while it grows."""
    groups = list(_grouped(reply.segments))
    pieces = [piece for group in groups for piece in _pieces(reply.id, group)]
    if reply.done:
        return tuple(pieces)
    stop = () if reply.parked else (Button("stop", "Stop", f"{STOP}{reply.id}"),)
    status = _short(reply.status, STATUS_LIMIT)
    status = f"⏳ {status}" if status else ""
    tasks = tuple(map(_task, groups[-1].calls)) if groups else ()
    if status and not any(task.status == "in_progress" for task in tasks):
        tasks = (*tasks, Task(NOTICE, _short(reply.status, TITLE_LIMIT), "in_progress"))
    match pieces:
        case [*_, Piece(content=Text() as text) as last]:
            growing = not reply.parked and last.editable
            text = replace(text, status=status, buttons=(*text.buttons, *stop), growing=growing)
            if growing:
                text = replace(text, tasks=tasks, settled=_settled(groups[-1].texts, text.markdown))
            pieces[-1] = replace(_piece(last.key, text), editable=last.editable)
        case _ if status:
            key = key_of(reply.id, STATUS)
            pieces.append(_piece(STATUS, Text(key, "", "", status, stop, tasks, growing=not reply.parked)))
    return tuple(pieces)


@dataclass(slots=True)
class _Group:
    """Texts that form one text, and the calls around them; or a single picture or question."""

    texts: list[TextSegment]
    calls: list[CallSegment]
    single: MediaSegment | QuestionSegment | None = None


def _grouped(segments: Iterable[Segment]) -> Iterator[_Group]:
    """Texts with only calls between them are one text: a message for each would send a notification every time.

    The text after an interjection is a message of its own, below the person's.
    """
    group = _Group([], [])
    for segment in segments:
        match segment:
            case TextSegment():
                if segment.new_message and group.texts:
                    yield group
                    group = _Group([], [])
                group.texts.append(segment)
            case CallSegment():
                group.calls.append(segment)
            case MediaSegment() | QuestionSegment():
                yield group
                yield _Group([], [], segment)
                group = _Group([], [])
            case _:
                assert_never(segment)
    yield group


def _pieces(id: str, group: _Group) -> Iterator[Piece[Content]]:
    match group.single:
        case None:
            blocks = _blocks_of(group.texts)
            if blocks:
                yield from _texts(id, group.texts[0].key, blocks, tuple(map(_task, group.calls)))
        case MediaSegment():
            yield from _media(id, group.single)
        case QuestionSegment():
            yield from _question(id, group.single)
        case _:
            assert_never(group.single)


def _blocks_of(texts: Iterable[TextSegment]) -> tuple[Block, ...]:
    # Each is parsed by itself, so that an unclosed fence in one does not include the next.
    return tuple(block for text in texts for block in _read(_markdown_of(text), text.interruption))


def _markdown_of(text: TextSegment) -> str:
    markdown = _UNFINISHED.sub("", text.markdown) if text.open else text.markdown
    # Texts of the gateway (step 0) name commands with a slash, as on other platforms.
    return markdown if text.step else _with_signs(markdown)


def _with_signs(markdown: str) -> str:
    """A text that names commands as other platforms do."""
    return _COMMAND.sub(rf"`{COMMAND_SIGN}\1", markdown)


def _texts(id: str, key: str, blocks: Sequence[Block], tasks: tuple[Task, ...] = ()) -> Iterator[Piece[Content]]:
    parts = list(_chunks(blocks))
    for number, part in enumerate(parts):
        name = f"{key}/{number}"
        text = Text(key_of(id, name), write(part), read(part), tasks=tasks if number == len(parts) - 1 else ())
        yield _piece(name, text)


def _settled(texts: Sequence[TextSegment], markdown: str) -> str:
    """The part of the group's last message that will not change."""
    settled_texts = list(takewhile(lambda text: not (text.secondary and text.open), texts))
    chunks = list(_chunks(_blocks_of(settled_texts)))
    if len(settled_texts) == len(texts):
        return settled(tuple(chunks[-1])) if chunks and texts[-1].open else markdown
    before = write(chunks[-1]) if chunks else ""
    return before if markdown.startswith(before) else ""


def _media(id: str, segment: MediaSegment) -> Iterator[Piece[Content]]:
    blocks = _read(segment.caption.strip())
    caption = read(blocks)
    short = len(caption) <= COMMENT_LIMIT
    media = Media(key_of(id, segment.key), segment.attachment, caption if short else "")
    yield Piece(segment.key, _digest(segment.attachment.hash, media.caption), media, editable=False)
    if not short:
        yield from _texts(id, segment.key, blocks)


def _question(id: str, segment: QuestionSegment) -> Iterator[Piece[Content]]:
    """Always a new message: an edit of the status message would not send a notification.

    Options whose labels are cut are listed in full above the buttons.
    """
    buttons = tuple(
        Button(f"answer-{n}", _label(option, n), f"{ANSWER}{segment.key}:{n}")
        for n, option in enumerate(segment.options[:OPTIONS_LIMIT])
    )
    if any(len(button.data) > limits.BUTTON_VALUE for button in buttons):
        # Some of the options are no real choice.
        buttons = ()
    blocks = _read(segment.question if segment.step else _with_signs(segment.question)) or _ASKED
    if tuple(button.label for button in buttons) != segment.options:
        blocks = (*blocks, _listed(segment.options))
    if not segment.open and not _is_blank(segment.answer):
        blocks = (*blocks, Paragraph((Span(f"→ {_short(segment.answer, ANSWER_LIMIT)}", italic=True),)))
    pieces = list(_texts(id, segment.key, blocks))
    if segment.open and isinstance(last := pieces[-1].content, Text):
        pieces[-1] = _piece(pieces[-1].key, replace(last, buttons=buttons))
    yield from (replace(piece, editable=False) for piece in pieces)


def _label(option: str, number: int) -> str:
    return str(number + 1) if _is_blank(option) else _short(option, limits.BUTTON_LABEL)


def _listed(options: Sequence[str]) -> Block:
    return Listing(
        tuple(Item(f"{n}.", (Paragraph((Span(sendable(option)),)),)) for n, option in enumerate(options, start=1))
    )


_STATUS_OF: dict[CallState, Literal["pending", "in_progress", "complete", "error"]] = {
    "waiting": "pending",
    "running": "in_progress",
    "done": "complete",
    "skipped": "complete",
    "failed": "error",
    "cancelled": "error",
    "denied": "error",
    "unknown": "error",
    "background": "complete",
}


def _task(call: CallSegment) -> Task:
    state = "in the background" if call.state == "background" else call.state
    ended = f" ({state})" if call.state in ("skipped", "cancelled", "denied", "unknown", "background") else ""
    title = _short(call.title, TITLE_LIMIT - 20) or call.name
    return Task(call.key, f"{title}{ended}", _STATUS_OF[call.state])


def key_of(reply_id: str, piece: str) -> str:
    """The hidden key by which a message is recognised."""
    return f"{reply_id}/{piece}"


def _piece(key: str, text: Text) -> Piece[Content]:
    parts = [text.markdown, text.status, str(text.growing)]
    parts += [part for button in text.buttons for part in (button.label, button.data)]
    if text.growing:
        parts += [part for task in text.tasks for part in (task.title, task.status)]
    return Piece(key, _digest(*parts), text)


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _short(text: str, limit: int) -> str:
    """The text in one line of at most so many characters."""
    line = " ".join(sendable(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


# --- Slack's blocks: https://docs.slack.dev/reference/block-kit/blocks -----------------------------------------------


def blocks_of(text: Text, *, repeat: bool = False) -> list[Json]:
    """`repeat`: with the repeat note."""
    shown: list[Json] = [{"type": "markdown", "text": text.markdown}] if text.markdown else []
    return [*shown, *_rest(text, repeat)]


def plain_blocks_of(text: Text, *, repeat: bool = False) -> list[Json]:
    """The same without any markup, in case Slack rejects ours."""
    plain = text.plain[:TEXT_LIMIT]
    parts = [plain[start : start + limits.SECTION] for start in range(0, len(plain), limits.SECTION)]
    sections = [{"type": "section", "text": _plain_text(part)} for part in parts if part.strip()]
    return [*sections, *_rest(text, repeat)]


def _rest(text: Text, repeat: bool) -> Iterator[Json]:
    for line in filter(None, (text.status, REPEAT_NOTE if repeat else "")):
        yield {"type": "context", "elements": [_plain_text(line)]}
    if text.buttons:
        yield {"type": "actions", "elements": [_button(button) for button in text.buttons]}


def _button(button: Button) -> Json:
    return {"type": "button", "action_id": button.id, "text": _plain_text(button.label), "value": button.data}


def _plain_text(text: str) -> Json:
    return {"type": "plain_text", "text": text, "emoji": True}


def fallback_of(text: Text) -> str:
    """The text of notifications, in Slack's older markup."""
    return mrkdwn((text.plain or text.status)[:COMMENT_LIMIT])[:FALLBACK_LIMIT]


def comment_of(media: Media, *, repeat: bool = False) -> str:
    return mrkdwn("\n\n".join(filter(None, (media.caption, REPEAT_NOTE if repeat else ""))))


def alt_of(media: Media) -> str:
    return _short(media.caption, limits.ALT_TEXT) or media.attachment.name


def without_formatting(text: Text) -> tuple[Text, ...]:
    """The text in smaller messages without formatting, with links as plain addresses."""
    parts = split([Paragraph((Span(text.plain or text.status),))], limits.SECTION, _size)
    texts = [Text(f"{text.key}~{number}", write(part), read(part)) for number, part in enumerate(parts)]
    return (*texts[:-1], replace(texts[-1], buttons=text.buttons)) if texts else ()


def notice_of(content: Content, reason: str) -> Text:
    """What is shown in place of content that Slack refuses."""
    match content:
        case Media(attachment=attachment, caption=caption):
            lines = (caption, f"📎 {attachment.name} could not be sent: {reason}")
        case Text():
            lines = ("", f"⚠️ A part of this answer could not be shown here: {reason}")
        case _:
            assert_never(content)
    blocks = [Paragraph((Span(line),)) for line in lines if line]
    return Text(f"{content.key}~!", write(blocks), read(blocks))


# --- markdown --------------------------------------------------------------------------------------------------------

COMMAND_SIGN = "!"
"""Prefix of commands in Slack, which treats messages with a slash as its own commands."""

_COMMAND = re.compile(r"`/([a-z]+)(?=[ `])")

_UNFINISHED = re.compile(r"(?:\A|\n)[ \t>]*(?:[-=*+_#`~|]+|\d{1,9}[.)]?)?[ \t]*\Z")
"""An incomplete last line. Until it continues, it may change the meaning of the line before: the dash of a list item
makes it a heading."""

_ASKED: tuple[Block, ...] = (Paragraph((Span("❓"),)),)
"""For a blank question, so that its options have a text above them."""


@lru_cache(maxsize=64)
def _read(markdown: str, interruption: str = "") -> tuple[Block, ...]:
    """A text's blocks, none if it is blank. Cached: a growing reply is rendered many times."""
    blocks = parse(markdown)
    if _is_blank(read(blocks)):
        return ()
    return (*blocks, Paragraph((Span(f"⏸ {interruption}", italic=True),))) if interruption else blocks


def _chunks(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """The blocks of each message, none empty and none over the limit."""
    parts = [blocks] if len(write(blocks)) <= TEXT_LIMIT else split(blocks, TEXT_LIMIT, _size)
    return (part for part in parts if not _is_blank(read(part)))


def _size(block: Block) -> int:
    return max(len(write_block(block)), 1)


_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\ufffc"
"""Letters in Unicode that are invisible."""


def _is_blank(text: str) -> bool:
    return not any(c.isprintable() and not c.isspace() and c not in _BLANKS for c in text)
