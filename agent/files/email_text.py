"""Reads e-mail messages (RFC 5322, MIME): their headers, their text, and their attachments as far as they are text."""

from __future__ import annotations

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
    message = message_from_bytes(data.lstrip(), _class=EmailMessage, policy=policy.default)
    headers = [f"{name}: {' '.join(str(value).split())}" for name in HEADERS for value in message.get_all(name, ())]
    yield Section("## Message" if depth == 0 else "## Attached message", headers)
    yield Section("", ["", *_body(message).split("\n")])
    for part in message.iter_attachments():
        yield from _attachment(part, read_document, depth)


def _body(message: EmailMessage) -> str:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    text = _text(body) if isinstance(body, EmailMessage) else ""
    return html_to_text(text, "") if body.get_content_subtype() == "html" else text.replace("\r\n", "\n")


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
    data = part.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    name = " ".join((part.get_filename() or "without a name").split())
    yield Section("", ["", f"## Attachment {name} ({part.get_content_type()}, {len(content):,} bytes)", ""])
    if part.get_content_maintype() == "text":
        yield Section("", _text(part).replace("\r\n", "\n").split("\n"))
    elif (sections := read_document(content)) is not None:
        yield from sections
