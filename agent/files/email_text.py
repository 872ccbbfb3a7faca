"""Reads e-mail messages (RFC 5322, MIME): their headers, their text, and their attachments as far as they are text."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

from agent.files.encodings import decode
from agent.files.html_text import html_to_text
from agent.files.sections import Section
from agent.files.text_detection import detect

HEADERS = ("From", "To", "Cc", "Date", "Subject")

MAX_DEPTH = 3
"""Of messages within messages."""

ReadDocument = Callable[[bytes], Iterator[Section] | None]
"""The sections of an attached PDF or office file; None for other files. May raise any error."""


def email_sections(data: bytes, read_document: ReadDocument, depth: int = 0) -> Iterator[Section]:
    """The message; messages and documents attached to it follow as sections."""
    data = data.removeprefix(BOM_UTF8).lstrip()
    message = message_from_bytes(data, _class=EmailMessage, policy=policy.default)
    headers = [f"{name}: {' '.join(value.split())}" for name in HEADERS for value in _headers(message, name)]
    yield Section("## Message" if depth == 0 else "## Attached message", headers)
    yield Section("", ["", *_body(message).split("\n")])
    for part in _attachments(message):
        yield from _attachment(part, read_document, depth)


def _headers(message: EmailMessage, name: str) -> Iterator[str]:
    """The values of a header. Some programs write them in an encoding that they do not name."""
    written = [value for key, value in message.raw_items() if key.lower() == name.lower()]
    for raw, value in zip(written, message.get_all(name, ()), strict=True):
        data = str(raw).encode(errors="surrogateescape")
        found = None if data.isascii() else detect(data)
        yield str(value) if data.isascii() else data.decode(errors="replace") if found is None else found.text


def _body(message: EmailMessage) -> str:
    """The text, or that of the page if there is none; of an invitation the event."""
    for kinds in (("plain",), ("html",)):
        body = message.get_body(kinds)
        if isinstance(body, EmailMessage) and (text := _readable(body)).strip():
            return text
    leaves = (part for part in message.walk() if not part.is_multipart() and not part.is_attachment())
    return next((_readable(leaf) for leaf in leaves if leaf.get_content_maintype() in ("text", "multipart")), "")


def _readable(part: EmailMessage) -> str:
    text = _text(part)
    return html_to_text(text, "") if part.get_content_subtype() == "html" else text.replace("\r\n", "\n")


def _attachments(message: EmailMessage) -> Iterator[EmailMessage]:
    """The attachments, also those of a message that is within its signature, or one itself."""
    if not message.is_multipart():
        if message.get_content_maintype() not in ("text", "multipart"):
            yield message
        return
    for part in message.iter_attachments():
        if part.get_content_maintype() == "multipart":
            yield from _attachments(part)
        else:
            yield part


def _text(part: EmailMessage) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    if charset := part.get_content_charset():
        return decode(data, (charset,))
    found = detect(data, is_named_text=True)
    return data.decode(errors="replace") if found is None else found.text


def _attachment(part: EmailMessage, read_document: ReadDocument, depth: int) -> Iterator[Section]:
    if part.get_content_type() == "message/rfc822":
        inner = part.get_payload(0) if part.is_multipart() else None
        if isinstance(inner, EmailMessage) and depth < MAX_DEPTH:
            yield from email_sections(inner.as_bytes(), read_document, depth + 1)
        return
    if part.get_content_type() == "message/delivery-status":
        yield Section("", ["", *(line for block in part.iter_parts() for line in str(block).split("\n"))])
        return
    data = part.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    name = " ".join((part.get_filename() or "without a name").split())
    yield Section("", ["", f"## Attachment {name} ({part.get_content_type()}, {len(content):,} bytes)", ""])
    if part.get_content_maintype() == "text":
        yield Section("", _text(part).replace("\r\n", "\n").split("\n"))
    elif (sections := read_document(content)) is not None:
        yield from sections
