"""Replies to Telegram messages: HTML texts, pictures and files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from html import escape, unescape
from itertools import accumulate
from typing import Literal, assert_never
from urllib.parse import urlsplit

from agent.media import Attachment
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
    parse,
    plain,
    sendable,
    split,
)
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.sync import REPEAT_NOTE, STATUS, Piece
from channels.telegram import limits
from channels.telegram.parse import ANSWER, STOP

TEXT_LIMIT = limits.TEXT - 396
"""The rest is reserved for the temporary lines (status, repeat note), so that they never move the end of a chunk."""
STATUS_LIMIT = 200
ANSWER_LIMIT = 1000
LABEL_LIMIT = 60
"""UTF-16 units of a button's label that fit on a phone."""
OPTIONS_LIMIT = 50
FOLDED_QUOTE = 600
"""UTF-16 units beyond which a quote, such as the model's reasoning, is folded until somebody opens it."""
CAPTION_LIMIT = limits.CAPTION - 124
"""The rest is reserved for the repeat note."""
ENTITIES_BYTES = limits.ENTITIES_BYTES - 500
ENTITIES_LIMIT = limits.ENTITIES - 2
"""The rest is reserved for the temporary lines."""
BUTTON_BYTES = 60
"""What a button takes of a keyboard besides its label and data."""
KEYBOARD_BYTES = limits.KEYBOARD_BYTES - 200
"""Of the options; the rest is for the stop button."""


@dataclass(frozen=True, slots=True)
class Button:
    """`data` is sent back when it is pressed."""

    label: str
    data: str


@dataclass(frozen=True, slots=True)
class Text:
    """A message's HTML, and the buttons under it, one in a row."""

    html: str
    buttons: tuple[Button, ...] = ()
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a file; `caption` is HTML."""

    attachment: Attachment
    caption: str = ""
    kind: Literal["media"] = "media"

    @property
    def is_photo(self) -> bool:
        """Whether Telegram accepts it as a photo. A GIF sent as a photo would not be animated."""
        attachment = self.attachment
        width, height = attachment.width or 0, attachment.height or 0
        return (
            attachment.is_picture
            and attachment.media_type != "image/gif"
            and attachment.size <= limits.PHOTO_BYTES
            and width + height <= limits.PHOTO_EDGES
            and max(width, height) <= limits.PHOTO_RATIO * max(min(width, height), 1)
        )


Content = Text | Media


def render(reply: Reply) -> tuple[Piece[Content], ...]:
    """The messages that show the reply, in order. Keys stay the same while it grows."""
    pieces = list(_pieces(reply.segments))
    if reply.done:
        return tuple(pieces)
    stop = () if reply.parked else _buttons([("Stop", f"{STOP}{reply.id}")])
    status = _small(f"⏳ {_short(reply.status, STATUS_LIMIT)}") if reply.status.strip() else ""
    match pieces:
        case [*_, Piece(content=Text(html, buttons)) as last]:
            pieces[-1] = replace(_text(last.key, _lines(html, status), (*buttons, *stop)), editable=last.editable)
        case _ if status:
            pieces.append(_text(STATUS, status, stop))
    return tuple(pieces)


def _pieces(segments: Iterable[Segment]) -> Iterator[Piece[Content]]:
    """Texts with only calls between them are one text: a message for each would send a notification every time.

    The text after an interjection is a message of its own, below the person's.
    """
    texts: list[TextSegment] = []
    for segment in segments:
        match segment:
            case TextSegment():
                if segment.new_message:
                    yield from _texts(texts)
                    texts.clear()
                texts.append(segment)
            case MediaSegment():
                yield from _texts(texts)
                texts.clear()
                yield from _media(segment)
            case QuestionSegment():
                yield from _texts(texts)
                texts.clear()
                yield from _question(segment)
            case CallSegment():
                pass
            case _:
                assert_never(segment)
    yield from _texts(texts)


def _texts(texts: Sequence[TextSegment]) -> Iterator[Piece[Content]]:
    # Each is parsed by itself, so that an unclosed fence in one does not include the next.
    blocks = [block for text in texts for block in _read(text.markdown, text.interruption)]
    for number, html in enumerate(_chunks(blocks)):
        yield _text(f"{texts[0].key}/{number}", html)


def _media(segment: MediaSegment) -> Iterator[Piece[Content]]:
    blocks = _read(segment.caption.strip())
    caption = _join(blocks)
    short = utf16(unformatted(caption)) <= CAPTION_LIMIT and _entities_size(caption) <= TEXT_LIMIT
    media = Media(segment.attachment, caption if short else "")
    yield Piece(segment.key, _digest(segment.attachment.hash, media.caption), media, editable=False)
    if not short:
        for number, html in enumerate(_chunks(blocks)):
            yield _text(f"{segment.key}/{number}", html)


def _question(segment: QuestionSegment) -> Iterator[Piece[Content]]:
    """Always a new message: an edit of the status message would not send a notification.

    Options whose labels are cut are listed in full above the buttons.
    """
    named = [(_label(option, n), f"{ANSWER}{segment.key}:{n}") for n, option in enumerate(segment.options)]
    buttons = _within_keyboard(_buttons(named[:OPTIONS_LIMIT]))
    blocks = _read(segment.question) or _ASKED
    if tuple(button.label for button in buttons) != segment.options:
        blocks = (*blocks, _listed(segment.options))
    if not segment.open and not _is_blank(segment.answer):
        blocks = (*blocks, Paragraph((Span(f"→ {_short(segment.answer, ANSWER_LIMIT)}", italic=True),)))
    pieces = [_text(f"{segment.key}/{number}", html) for number, html in enumerate(_chunks(blocks))]
    if segment.open and isinstance(last := pieces[-1].content, Text):
        pieces[-1] = _text(pieces[-1].key, last.html, buttons)
    yield from (replace(piece, editable=False) for piece in pieces)


def _label(option: str, number: int) -> str:
    return str(number + 1) if _is_blank(option) else _short(option, LABEL_LIMIT)


def _listed(options: Sequence[str]) -> Block:
    return Listing(
        tuple(Item(f"{n}.", (Paragraph((Span(sendable(option)),)),)) for n, option in enumerate(options, start=1))
    )


def _text(key: str, html: str, buttons: tuple[Button, ...] = ()) -> Piece[Content]:
    parts = (part for button in buttons for part in (button.label, button.data))
    return Piece(key, _digest(html, *parts), Text(html, buttons))


def _buttons(named: Iterable[tuple[str, str]]) -> tuple[Button, ...]:
    """None at all if one button's data is too long: some of the options are no real choice."""
    buttons = tuple(Button(label, data) for label, data in named)
    return buttons if all(len(button.data.encode()) <= limits.BUTTON_DATA_BYTES for button in buttons) else ()


def _within_keyboard(buttons: Sequence[Button]) -> tuple[Button, ...]:
    """As many of the first as one message can have. The other options can be written."""
    sizes = accumulate(BUTTON_BYTES + len(button.label.encode()) + len(button.data.encode()) for button in buttons)
    return tuple(button for button, size in zip(buttons, sizes, strict=True) if size <= KEYBOARD_BYTES)


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _short(text: str, limit: int) -> str:
    """The text in one line of at most so many UTF-16 units."""
    line = " ".join(sendable(text).split())
    if utf16(line) <= limit:
        return line
    units = line.encode("utf-16-le")[: 2 * (limit - 1)]
    # Half a character at the cut is dropped.
    return units.decode("utf-16-le", "ignore").rstrip() + "…"


def _small(text: str) -> str:
    return f"<i>{escape(text, quote=False)}</i>"


def _lines(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def repeated(html: str) -> str:
    """The text or caption with the note that it may be a repeat."""
    return _lines(html, _small(REPEAT_NOTE))


def without_formatting(text: Text) -> tuple[Text, ...]:
    """The text in messages without formatting, with links as plain addresses."""
    plain_text = unformatted(_LINK.sub(_with_address, text.html))
    texts = [Text(html) for html in _chunks([Paragraph((Span(plain_text),))])]
    return (*texts[:-1], Text(texts[-1].html, text.buttons)) if texts else ()


def notice(content: Content, reason: str) -> Text:
    """What is shown in place of content that Telegram refuses."""
    match content:
        case Media(attachment, caption):
            line = _missing(f"📎 {attachment.name} could not be sent: {reason}")
            return Text(_lines(caption, line))
        case Text():
            return Text(_missing(f"⚠️ A part of this answer could not be shown here: {reason}"))
        case _:
            assert_never(content)


def _missing(line: str) -> str:
    return escape(_short(line, ANSWER_LIMIT), quote=False)


_LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)


def _with_address(link: re.Match[str]) -> str:
    url, text = link.groups()
    return url if unescape(text) == unescape(url) else f"{text} ({url})"


def unformatted(html: str) -> str:
    """Our HTML as the plain text that is displayed."""
    return unescape(_TAG.sub("", html))


_TAG = re.compile(r"<[^>]*>")


def utf16(text: str) -> int:
    """The length in UTF-16 units, in which Telegram counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


# --- markdown to HTML: https://core.telegram.org/bots/api#html-style -------------------------------------------------


_ASKED = (Paragraph((Span("❓"),)),)
"""For a blank question, so that its options have a text above them."""


@lru_cache(maxsize=64)
def _read(markdown: str, interruption: str = "") -> tuple[Block, ...]:
    """A text's blocks, none if it is blank. Cached: a growing reply is rendered many times."""
    blocks = parse(markdown)
    if _is_blank(unformatted(_join(blocks))):
        return ()
    return (*blocks, Paragraph((Span(f"⏸ {interruption}", italic=True),))) if interruption else blocks


def _chunks(blocks: Sequence[Block]) -> Iterator[str]:
    """The blocks as HTML messages, none empty and none over the limit."""
    # Each character of the message takes at least one of the HTML, and counts as two units at most.
    html = _join(blocks)
    is_short = 2 * len(html) <= TEXT_LIMIT and html.count("<") // 2 <= ENTITIES_LIMIT
    parts = [html] if is_short else [_join(part) for part in split(blocks, TEXT_LIMIT, _size)]
    return (part for part in parts if not _is_blank(unformatted(part)))


def _size(block: Block) -> int:
    """How much of a message the block takes: of its text, of its entities or of their number, whichever is most."""
    html = _block(block)
    return max(utf16(unformatted(html)), _entities_size(html))


def _entities_size(html: str) -> int:
    """How much of a message its entities take, by their bytes or their number, as a part of its text."""
    entities = html.count("<") // 2
    entity_bytes = limits.ENTITY_BYTES * entities + sum(len(link[1].encode()) for link in _LINK.finditer(html))
    return max(-(-entity_bytes * TEXT_LIMIT // ENTITIES_BYTES), -(-entities * TEXT_LIMIT // ENTITIES_LIMIT))


# Telegram treats a message of these alone as empty; some are letters in Unicode.
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\ufffc"


def _is_blank(text: str) -> bool:
    return not any(c.isprintable() and not c.isspace() and c not in _BLANKS for c in text)


def _join(blocks: Iterable[Block]) -> str:
    return "\n\n".join(filter(None, map(_block, blocks)))


def _block(block: Block, *, indent: str = "", quoted: bool = False) -> str:
    """A block's HTML; lines after its first begin with `indent`. Quotes cannot be nested (`quoted`)."""
    match block:
        case Paragraph():
            return _spans(block.spans).replace("\n", f"\n{indent}")
        case Heading():
            return _spans(tuple(replace(span, bold=True) for span in block.spans)).replace("\n", f"\n{indent}")
        case Code():
            return _pre(block)
        case Quote():
            inner = f"\n\n{indent}".join(_block(part, indent=indent, quoted=True) for part in block.blocks)
            if quoted:
                return f"▏{inner}"
            is_long = utf16(unformatted(inner)) > FOLDED_QUOTE
            return f"<blockquote{' expandable' if is_long else ''}>{inner}</blockquote>"
        case Listing():
            return f"\n{indent}".join(_item(item, indent, quoted) for item in block.items)
        case Table():
            return f"<pre>{escape(aligned(block), quote=False)}</pre>"
        case Rule():
            return "———"
        case _:
            assert_never(block)


def _item(item: Item, indent: str, quoted: bool) -> str:
    inner = f"{indent}   "
    body = f"\n{inner}".join(_block(block, indent=inner, quoted=quoted) for block in item.blocks)
    return f"{item.marker or '  '} {body}"


def _pre(block: Code) -> str:
    text = escape(block.text, quote=False)
    if not block.language:
        return f"<pre>{text}</pre>"
    return f'<pre><code class="language-{escape(block.language)}">{text}</code></pre>'


def _spans(spans: Iterable[Span]) -> str:
    return "".join(map(_span, spans))


def _span(span: Span) -> str:
    text = escape(span.text, quote=False)
    if span.url and not _is_link(span.url):
        return escape(plain((span,)), quote=False)
    if span.url:
        text = f'<a href="{escape(span.url)}">{text}</a>'
    elif span.code:
        # Code cannot contain or be part of another entity.
        return f"<code>{text}</code>"
    for tag, styled in (("s", span.strike), ("i", span.italic), ("b", span.bold)):
        if styled:
            text = f"<{tag}>{text}</{tag}>"
    return text


def _is_link(url: str) -> bool:
    """Whether Telegram makes it a link. It silently drops other links, and those to hosts without a dot."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and "." in (parts.hostname or "") and not re.search(r"\s", url)
    except ValueError:
        return False
