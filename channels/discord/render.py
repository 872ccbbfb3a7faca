"""Replies to Discord messages: texts in its markdown, files, buttons. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Literal, assert_never
from urllib.parse import urlsplit

from agent.media import Attachment
from channels.discord import limits
from channels.discord.parse import ANSWER, STOP
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
from channels.sync import STATUS, Piece

Json = dict[str, Any]

TEXT_LIMIT = limits.CONTENT - 250
"""The rest is reserved for the temporary status line."""
STATUS_LIMIT = 200
QUESTION_LIMIT = TEXT_LIMIT - STATUS_LIMIT - 10
"""Leaves room for an answer and a status below it."""
SIMPLE_LIMIT = 1000
"""UTF-16 units of a message that is sent again in a simpler form."""
_MAX_BUTTONS = limits.ROWS * limits.ROW

_BLUE, _GREEN, _RED, _GREY = 0x5865F2, 0x57F287, 0xED4245, 0x80848E

Style = Literal[1, 2, 3, 4]
PRIMARY: Style = 1
DANGER: Style = 4


@dataclass(frozen=True, slots=True)
class Button:
    """`data` is sent back when it is pressed."""

    data: str
    label: str
    style: Style


@dataclass(frozen=True, slots=True)
class Text:
    """A message in Discord's markdown. `nonce` is the same whenever it is sent, so that it is shown once. `accent` is
    the colour of the box in which it is shown; None: it is shown without one."""

    markdown: str
    buttons: tuple[Button, ...] = ()
    nonce: str = ""
    accent: int | None = None
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Media:
    """A picture or a file; `caption` is Discord's markdown, `alt` describes it in plain text."""

    attachment: Attachment
    caption: str = ""
    alt: str = ""
    nonce: str = ""
    kind: Literal["media"] = "media"


Content = Text | Media


def render(reply: Reply) -> tuple[Piece[Content], ...]:
    """The messages that show the reply, in order. Keys stay the same while it grows."""
    pieces = list(_pieces(reply.segments))
    if not reply.done:
        _add_status(reply, pieces)
    return tuple(_with_nonce(reply, piece, number) for number, piece in enumerate(pieces))


def components(buttons: Sequence[Button]) -> list[Json]:
    """Rows of buttons: https://discord.com/developers/docs/components/reference#action-row"""
    cards = [{"type": 2, "style": button.style, "label": button.label, "custom_id": button.data} for button in buttons]
    return [{"type": 1, "components": cards[start : start + limits.ROW]} for start in range(0, len(cards), limits.ROW)]


def box(text: Text, accent: int) -> Json:
    """https://discord.com/developers/docs/components/reference#container"""
    shown = [{"type": 10, "content": text.markdown}, *components(text.buttons)]
    return {"type": 17, "accent_color": accent, "components": shown}


def _add_status(reply: Reply, pieces: list[Piece[Content]]) -> None:
    status = f"-# ⏳ {escaped(_short(reply.status))}" if reply.status.strip() else ""
    data = f"{STOP}{reply.id}"
    stop = (Button(data, "Stop", DANGER),) if len(data) <= limits.CUSTOM_ID and not reply.parked else ()
    match pieces:
        case [*_, Piece(key, content=Text(markdown, buttons=(), accent=accent))]:
            pieces[-1] = _text(key, _below(markdown, status), stop, accent)
        case _ if status:
            pieces.append(_text(STATUS, status, stop))


def _with_nonce(reply: Reply, piece: Piece[Content], number: int) -> Piece[Content]:
    # A status may appear again after its first message became a text: the two need different nonces.
    key = f"{STATUS}/{number}" if piece.key == STATUS else piece.key
    return replace(piece, content=replace(piece.content, nonce=_digest(reply.id, key)))


def _pieces(segments: Iterable[Segment]) -> Iterator[Piece[Content]]:
    """Texts with only calls between them are one text: a message for each would send a notification every time.

    The text after an interjection is a message of its own, below the person's.
    """
    texts: list[TextSegment] = []
    for segment in segments:
        if isinstance(segment, CallSegment):
            continue
        if not isinstance(segment, TextSegment) or segment.new_message:
            yield from _texts(texts)
            texts.clear()
        match segment:
            case TextSegment():
                texts.append(segment)
            case MediaSegment():
                yield from _media(segment)
            case QuestionSegment():
                yield from _question(segment)
            case _:
                assert_never(segment)
    yield from _texts(texts)


def _texts(texts: Sequence[TextSegment]) -> Iterator[Piece[Content]]:
    # Each is parsed by itself, so that an unclosed fence in one does not include the next.
    blocks = [block for text in texts for block in _read(text.markdown, text.interruption)]
    for number, markdown in enumerate(_chunks(blocks)):
        yield _text(f"{texts[0].key}/{number}", markdown)


def _media(segment: MediaSegment) -> Iterator[Piece[Content]]:
    blocks = _read(segment.caption.strip())
    chunks = list(_chunks(blocks))
    caption = chunks[0] if len(chunks) == 1 else ""
    alt = _cut(" ".join(_plain(blocks)) or segment.attachment.name, limits.ALT_TEXT)
    media = Media(segment.attachment, caption, alt)
    yield Piece(segment.key, _digest(segment.attachment.hash, caption), media, editable=False)
    if not caption:
        for number, markdown in enumerate(chunks):
            yield _text(f"{segment.key}/{number}", markdown)


def _question(segment: QuestionSegment) -> Iterator[Piece[Content]]:
    """The buttons, and later the answer, are at the end of the question."""
    options = [" ".join(sendable(option).split()) for option in segment.options]
    button_data = [f"{ANSWER}{segment.key}:{number}" for number in range(len(options))]
    pressable = all(len(data) <= limits.CUSTOM_ID for data in button_data) and segment.open
    shortened = len(options) > _MAX_BUTTONS or any(utf16(option) > limits.BUTTON_LABEL for option in options)
    blocks = list(_read(segment.question))
    if options and (shortened or (segment.open and not pressable)):
        blocks.append(
            Listing(tuple(Item(f"{n}.", (Paragraph((Span(option),)),)) for n, option in enumerate(options, 1)))
        )
    buttons = tuple(
        Button(data, _cut(option, limits.BUTTON_LABEL) or str(number), PRIMARY)
        for number, (data, option) in enumerate(zip(button_data, options, strict=True), 1)
    )
    answer = f"-# → {escaped(_short(segment.answer))}" if segment.answer.strip() and not segment.open else ""
    chunks = list(_chunks(blocks, QUESTION_LIMIT)) or ["❓"]
    for number, markdown in enumerate(chunks[:-1]):
        yield _text(f"{segment.key}/{number}", markdown)
    last = _below(chunks[-1], answer)
    shown = buttons[:_MAX_BUTTONS] if pressable else ()
    yield _text(f"{segment.key}/{len(chunks) - 1}", last, shown, _accent(segment))


def _accent(segment: QuestionSegment) -> int:
    match segment.decision:
        case "allowed":
            return _GREEN
        case "denied":
            return _RED
    return _BLUE if segment.open else _GREY


def _text(key: str, markdown: str, buttons: tuple[Button, ...] = (), accent: int | None = None) -> Piece[Content]:
    parts = [part for button in buttons for part in (button.data, button.label)]
    colour = () if accent is None else (str(accent),)
    return Piece(key, _digest(markdown, *parts, *colour), Text(markdown, buttons, accent=accent))


def without_formatting(text: Text) -> tuple[Text, ...]:
    """The text in smaller messages without formatting, with links as plain addresses."""
    plain_text = "\n\n".join(_plain(parse(text.markdown)))
    chunks = list(_chunks([Paragraph((Span(plain_text),))], SIMPLE_LIMIT))
    # A message in a box can only be edited into another one in a box.
    texts = [
        Text(markdown, nonce=_digest(text.nonce, str(number)), accent=text.accent)
        for number, markdown in enumerate(chunks)
    ]
    return (*texts[:-1], replace(texts[-1], buttons=text.buttons)) if texts else ()


def notice(content: Content, reason: str) -> Text:
    """What is shown in place of content that Discord refuses."""
    accent: int | None = None
    match content:
        case Media(attachment, caption):
            line = escaped(_cut(f"📎 {attachment.name} could not be sent: {reason}", SIMPLE_LIMIT))
            shown = "\n\n".join(filter(None, (caption, line)))
        case Text():
            accent = content.accent
            shown = escaped(_cut(f"⚠️ A part of this answer could not be shown here: {reason}", SIMPLE_LIMIT))
        case _:
            assert_never(content)
    return Text(shown, nonce=_digest(content.nonce, "notice"), accent=accent)


def _digest(*parts: str) -> str:
    """24 characters: a nonce may have 25."""
    return blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _short(text: str) -> str:
    """One line within `STATUS_LIMIT`, escaped or not."""
    line = " ".join(sendable(text).split())
    while utf16(escaped(line)) > STATUS_LIMIT:
        line = line[: len(line) * 9 // 10] + "…"
    return line


def _cut(text: str, limit: int) -> str:
    while utf16(text) > limit:
        text = text[: min(limit, len(text) * 9 // 10)] + "…"
    return text


def _below(markdown: str, line: str) -> str:
    return "\n".join(filter(None, (markdown, line)))


def utf16(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


# --- markdown to Discord's -------------------------------------------------------------------------------------------


ZERO_WIDTH = "\u200b"
"""An invisible character that separates what Discord would read as one."""


@lru_cache(maxsize=64)
def _read(markdown: str, interruption: str = "") -> tuple[Block, ...]:
    """A text's blocks, none if it is blank. Cached: a growing reply is rendered many times."""
    blocks = parse(markdown)
    if _is_blank(_join(blocks)):
        return ()
    return (*blocks, Paragraph((Span(f"⏸ {interruption}", italic=True),))) if interruption else blocks


def _chunks(blocks: Sequence[Block], limit: int = TEXT_LIMIT) -> Iterator[str]:
    """The blocks as messages, none empty and none over the limit."""
    whole = _join(blocks)
    fits = utf16(whole) <= limit
    parts = [whole] if fits else [_join(part) for part in split(blocks, limit, _size)]
    return (part for part in parts if not _is_blank(part))


def _size(block: Block) -> int:
    return utf16(_block(block))


_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\ufffc"


def _is_blank(text: str) -> bool:
    return not any(c.isprintable() and not c.isspace() and c not in _BLANKS for c in text)


def _join(blocks: Iterable[Block]) -> str:
    return "\n\n".join(filter(None, map(_block, blocks)))


def _plain(blocks: Iterable[Block]) -> Iterator[str]:
    """The blocks as plain text."""
    for block in blocks:
        match block:
            case Paragraph() | Heading():
                yield plain(block.spans)
            case Code():
                yield block.text
            case Quote():
                yield from _plain(block.blocks)
            case Listing():
                for item in block.items:
                    yield from _plain(item.blocks)
            case Table():
                yield aligned(block)
            case Rule():
                pass
            case _:
                assert_never(block)


def _block(block: Block, *, inside: bool = False) -> str:
    """A block's markdown. Headings and quotes exist only at the left edge, not `inside` other blocks."""
    match block:
        case Paragraph():
            return _lines(_spans(block.spans))
        case Heading():
            return _heading(block, inside)
        case Code():
            return _fenced(block.text, block.language)
        case Quote():
            inner = "\n\n".join(filter(None, (_block(part, inside=True) for part in block.blocks)))
            mark = "▏" if inside else "> "
            return "\n".join(mark + (line or ZERO_WIDTH) for line in inner.split("\n"))
        case Listing():
            return _listing(block)
        case Table():
            return _fenced(aligned(block))
        case Rule():
            return "———"
        case _:
            assert_never(block)


def _heading(block: Heading, inside: bool) -> str:
    line = tuple(replace(span, text=span.text.replace("\n", " ")) for span in block.spans)
    if inside or block.level > 3:
        return _lines(_spans(tuple(replace(span, bold=True) for span in line)))
    text = _spans(line).strip()
    return f"{'#' * block.level} {text}" if text else ""


def _listing(block: Listing) -> str:
    numbers = [int(item.marker[:-1]) for item in block.items if item.marker.endswith(".")]
    # Discord numbers items from the first one on: other numberings are written as text.
    counted = numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    return "\n".join(_item(item, counted) for item in block.items)


def _item(item: Item, counted: bool) -> str:
    marker = {"•": "- ", "": "  "}.get(item.marker, f"{item.marker[:-1]}. " if counted else f"{item.marker[:-1]}\\. ")
    indent = "  " if len(marker) == 2 else "   "
    body = "\n".join(filter(None, (_block(block, inside=True) for block in item.blocks)))
    lines = list(_indented(body, indent))
    return f"{marker}\n{body}" if lines and lines[0].startswith(_FENCE) else marker + "\n".join(lines).lstrip()


def _indented(text: str, indent: str) -> Iterator[str]:
    """Fenced lines stay at the left edge: Discord would show their indent."""
    fenced = False
    for line in text.split("\n"):
        edge = line.startswith(_FENCE)
        yield line if fenced or edge else indent + line
        fenced ^= edge


_FENCE = "```"
_NAMED_LANGUAGE = re.compile(r"[A-Za-z0-9_+.#-]+")


def _fenced(text: str, language: str = "") -> str:
    if _is_blank(text):
        return ""
    # No escape works in a fence: backticks that would close it are separated.
    text = re.sub("`(?=``)", f"`{ZERO_WIDTH}", text)
    language = language if _NAMED_LANGUAGE.fullmatch(language) else ""
    return f"{_FENCE}{language}\n{text}\n{_FENCE}"


# --- spans -----------------------------------------------------------------------------------------------------------


def _spans(spans: Sequence[Span]) -> str:
    parts = [part for part in map(_span, spans) if part]
    if not parts:
        return ""
    # "**a**" and "*b*" side by side would be read as one run of five stars.
    joints = [ZERO_WIDTH if before[-1] in _MARKS and after[0] in _MARKS else "" for before, after in pairwise(parts)]
    return parts[0] + "".join(joint + part for joint, part in zip(joints, parts[1:], strict=True))


_MARKS = "*~`"


def _span(span: Span) -> str:
    if span.url and not _is_link(span.url):
        return _styled(escaped(plain((span,))), span)
    if span.url:
        return _styled(_link(span), span)
    if span.code:
        return _code(span.text)
    return _styled(escaped(span.text), span)


def _styled(text: str, span: Span) -> str:
    inner = text.strip()
    if not inner or _is_blank(inner):
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    for mark, styled in (("*", span.italic), ("**", span.bold), ("~~", span.strike)):
        if styled:
            inner = f"{mark}{inner}{mark}"
    return f"{before}{inner}{after}"


def _code(text: str) -> str:
    if _is_blank(text):
        return text
    runs = [len(run) for run in re.findall("`+", text)]
    if not runs:
        return f"`{text}`"
    # Code spans have at most two backticks; such a run inside is separated.
    text = re.sub("`(?=`)", f"`{ZERO_WIDTH}", text)
    return f"`` {text} ``"


def _link(span: Span) -> str:
    url = _url_encoded(span.url)
    text = " ".join(span.text.split())
    if not text or text == span.url:
        return url
    if re.search(r"://|www\.|discord\.gg|discord\.com", text, re.IGNORECASE):
        # Discord makes no link of a text that looks like another URL.
        return f"{escaped(text)} ({url})"
    before, after = span.text[: len(span.text) - len(span.text.lstrip())], span.text[len(span.text.rstrip()) :]
    return f"{before}[{escaped(text)}](<{url}>){after}"


def _url_encoded(url: str) -> str:
    """The URL without characters that would end it, or begin other markup."""
    return re.sub(r"[\\<>()\[\]`*|~\"'@]", lambda found: f"%{ord(found[0]):02X}", url)


def _is_link(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", url)
    except ValueError:
        return False


_ADDRESS = re.compile(r"https?://[^\s<>]+[^\s<>.,:;!?\"')\]]", re.IGNORECASE)
_SPECIAL = re.compile(r"[\\*_~`|\[\]]|@(?=everyone|here)|<(?=[@#:]|a:|t:|id:|/[^\s>]*:\d)")


def escaped(text: str) -> str:
    """The text escaped so that Discord shows it literally; URLs stay intact."""
    parts: list[str] = []
    end = 0
    for found in _ADDRESS.finditer(text):
        parts += [_SPECIAL.sub(_escape, text[end : found.start()]), _url_encoded(found[0])]
        end = found.end()
    return "".join([*parts, _SPECIAL.sub(_escape, text[end:])])


def _escape(found: re.Match[str]) -> str:
    # A backslash escapes markup but not mentions.
    return f"{found[0]}{ZERO_WIDTH}" if found[0] in "@<" else f"\\{found[0]}"


_LEFT_EDGE = re.compile(r"^([ \t]*)(#{1,3}(?=\s|$)|>|-(?=[\s#]|$)|\+(?=\s|$)|\d+(?=[.)](?:\s|$)))", re.MULTILINE)


def _lines(text: str) -> str:
    """The text with line starts escaped that Discord would read as a heading, a quote, a list or small text."""
    return _LEFT_EDGE.sub(
        lambda found: f"{found[1]}{found[2]}\\" if found[2][0].isdigit() else f"{found[1]}\\{found[2]}", text
    )
