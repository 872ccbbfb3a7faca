"""Text of documents that people send; the parsers run in a worker process."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass

import filetype  # type: ignore[import-untyped]  # the package has no types

from agent.files.sections import PASSWORD, TakenPicture
from agent.files.text_detection import detect
from agent.worker_process import WorkerFailed, WorkerPool

PARSE_TIMEOUT = 30.0
"""Seconds to parse a document."""

MAX_CHARACTERS = 2_000_000
"""Characters of the text of a document. Plain text is not limited: it does not expand."""

_PARSERS = WorkerPool("agent.files.documents_worker", 2)

_PDF = "a PDF"
_WORD, _SLIDES, _SHEETS = "a Word document", "a PowerPoint presentation", "an Excel workbook"
_EMAIL, _NOTEBOOK = "an e-mail message", "a Jupyter notebook"
_TEXT = "text"
_CLAIMED_KINDS = {
    "application/pdf": _PDF,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": _WORD,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": _SLIDES,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _SHEETS,
    **dict.fromkeys(("pdf",), _PDF),
    **dict.fromkeys(("docx", "docm", "dotx", "dotm", "doc"), _WORD),
    **dict.fromkeys(("pptx", "pptm", "potx", "ppsx", "ppsm", "ppt"), _SLIDES),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "xltm", "xls"), _SHEETS),
    **dict.fromkeys(("message/rfc822", "eml", "mht", "mhtml"), _EMAIL),
    **dict.fromkeys(("application/x-ipynb+json", "ipynb"), _NOTEBOOK),
    **dict.fromkeys(("txt", "md", "csv", "tsv", "json", "xml", "html", "htm", "yaml", "yml", "toml", "log"), _TEXT),
    **dict.fromkeys(("ini", "cfg", "conf", "sql", "srt", "vtt", "ics", "vcf"), _TEXT),
}
"""The claimed kind of a file, by media type or file name extension."""

_OLD_OFFICE = "it is in an old Office format; please save it as DOCX, XLSX, PPTX or PDF"
_UNSUPPORTED = {
    "application/msword": _OLD_OFFICE,
    "application/vnd.ms-excel": _OLD_OFFICE,
    "application/vnd.ms-powerpoint": _OLD_OFFICE,
    "application/rtf": "it is an RTF document; please save it as DOCX or PDF",
    "application/epub+zip": "it is an EPUB book; please save it as PDF",
    "application/vnd.oasis.opendocument.text": "it is an OpenDocument text; please save it as DOCX or PDF",
    "application/vnd.oasis.opendocument.spreadsheet": "it is an OpenDocument table; please save it as XLSX or PDF",
    "application/vnd.oasis.opendocument.presentation": "it is an OpenDocument deck; please save it as PPTX or PDF",
}

_APPLE = "it is in a format of Apple's programs; please export it as DOCX, XLSX, PPTX or PDF"
_OUTLOOK = "it is a message in Outlook's own format; please save it as EML or PDF"

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
"""The stream that contains a password-protected Office document (MS-OFFCRYPTO, 1.3.3)."""

_ANSI_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_HEADER_LINE = re.compile(rb"[!-9;-~]{1,76}:[ \t]")
_FOLDED = (b" ", b"\t")
_TYPICAL = re.compile(rb"^(?:from|to|subject|date|received|mime-version|content-type):", re.IGNORECASE | re.MULTILINE)


class Unreadable(Exception):
    """The file is a document whose text is not available; the message tells a person why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Document:
    """What is in a document. `is_extracted`: the file itself is not text; `pictures` are those in a notebook."""

    text: str
    is_extracted: bool = False
    pictures: tuple[TakenPicture, ...] = ()


async def read_document(data: bytes, media_type: str, name: str, *, seconds: float = PARSE_TIMEOUT) -> Document | None:
    """What is in a document; None for other files: images, audio, archives, unknown bytes.

    The kind is detected from the bytes; media type and name are only claims. Pages, slides and sheets have headings,
    tables are rows of `| a | b |`. `seconds` limits the parsing. Raises `Unreadable`.
    """
    if not data:
        raise Unreadable("it is empty")
    guess = filetype.guess_mime(data) or ""
    suffix = name.rpartition(".")[2].lower()
    claim = _claim(media_type, name) or (_EMAIL if is_email(data) else None)
    if (reason := _unsupported(data, guess, claim, suffix)) is not None:
        raise Unreadable(reason)
    if _has_parser(data, claim) and (found := await _parsed(data, seconds)) is not None:
        return found
    text = None if _has_parser(data, None) else await asyncio.to_thread(_plain, data, claim == _TEXT)
    if text is None and claim is not None and not guess.startswith(("image/", "audio/", "video/")):
        raise Unreadable(_mismatch(claim))
    return None if text is None else Document(text)


def is_document(data: bytes, media_type: str, name: str) -> bool:
    """Whether it is a PDF, an office file, a message or a notebook. The beginning of the data may be enough to know."""
    return _has_parser(data, _claim(media_type, name))


def is_email(data: bytes) -> bool:
    """Whether it begins with the headers of a message."""
    lines = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n")
    head = lines[0].startswith(b"From ") or _HEADER_LINE.match(lines[0])
    whole = [line for line in lines[1:6] if line.strip()]
    fits = all(_HEADER_LINE.match(line) or line.startswith(_FOLDED) for line in whole[:1])
    return bool(head) and fits and len(_TYPICAL.findall(data[:4096])) >= 2


def _claim(media_type: str, name: str) -> str | None:
    return _CLAIMED_KINDS.get(media_type) or _CLAIMED_KINDS.get(name.rpartition(".")[2].lower())


def _has_parser(data: bytes, claim: str | None) -> bool:
    return claim in (_EMAIL, _NOTEBOOK) or _is_pdf(data, claim) or _is_office(data, claim)


def excerpt(text: str, limit: int = 20_000, *, where: str = "") -> str:
    """The text in at most `limit` characters, far more than `where`: its start, how much is omitted, and its end.

    `where` is the file that has all of it.
    """
    if len(text) <= limit:
        return text
    space = limit - len(_omission(text, len(text), len(text), where))
    head = _cut(text[: space * 2 // 3])
    tail = _cut(text[len(text) - space // 3 :][::-1])[::-1]
    return f"{head}{_omission(text, len(head), len(tail), where)}{tail}"


def _omission(text: str, head: int, tail: int, where: str) -> str:
    """What is said between the head and the tail, of so many characters."""
    count = max(len(text) - head - tail, 0) or len(text)
    line = text.count("\n", 0, head) + 1
    rest = f"; all of it is in {where}, read on with read_file from offset={line}" if where else ""
    return f"\n\n[… {count:,} characters omitted{rest} …]\n\n"


def _cut(piece: str) -> str:
    """The piece up to the last break in its second half, of a paragraph if there is one, else of a line or a word."""
    for separator in ("\n\n", "\n", " "):
        position = piece.rfind(separator)
        if position >= len(piece) // 2:
            return piece[:position].rstrip()
    return piece


def _unsupported(data: bytes, guess: str, claim: str | None, suffix: str) -> str | None:
    if data.startswith(b"PK") and suffix in ("pages", "numbers", "key"):
        return _APPLE
    if data.startswith(_OLE):
        if _ENCRYPTED in data:
            return PASSWORD
        if suffix == "msg":
            return _OUTLOOK
        if claim is not None:
            return _OLD_OFFICE
    return _UNSUPPORTED.get(guess)


def _is_pdf(data: bytes, claim: str | None) -> bool:
    """Whether it is a PDF. The header is within the first 1024 bytes (Adobe's implementation note 13)."""
    start = data[:1024]
    return start.lstrip(b"\xef\xbb\xbf\0\t\n\f\r ").startswith(b"%PDF-") or (claim == _PDF and b"%PDF-" in start)


def _is_office(data: bytes, claim: str | None) -> bool:
    """Whether it is an office file. The part that identifies it may be at its end, which a broken transfer cuts off."""
    return data.startswith(b"PK\x03\x04") and (b"[Content_Types].xml" in data or claim in (_WORD, _SLIDES, _SHEETS))


def _mismatch(claim: str) -> str:
    if claim == _TEXT:
        return "it is not text, or its encoding is unknown; please save it as UTF-8"
    return f"it is not {claim}, although its name or type says so; it is another kind of file, or damaged"


async def _parsed(data: bytes, seconds: float) -> Document | None:
    try:
        answer = json.loads(await _PARSERS.run(data, seconds=seconds))
    except TimeoutError:
        raise Unreadable(f"reading it timed out after {seconds:g} s") from None
    except (WorkerFailed, OSError) as error:
        # The error text is a library's or the system's: useful in the traceback, not to a person.
        raise Unreadable("it is too large or too damaged to be read") from error
    match answer:
        case {"text": str(text), "pictures": list(pictures)}:
            taken = (TakenPicture(each["name"], base64.b64decode(each["data"])) for each in pictures)
            return Document(text, is_extracted=True, pictures=tuple(taken))
        case {"unreadable": str(reason)}:
            raise Unreadable(reason)
        case _:
            return None


def _plain(data: bytes, is_named_text: bool) -> str | None:
    found = detect(data, is_named_text=is_named_text)
    if found is None:
        return None
    lines = found.text.replace("\r\n", "\n").replace("\r", "\n")
    return _ANSI_CODES.sub("", lines) if "\x1b" in lines else lines
