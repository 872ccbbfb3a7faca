"""Documents that people send, as text that a model can read; the parsers themselves are in a worker process."""

from __future__ import annotations

import asyncio
import json
import re
from weakref import WeakKeyDictionary

import filetype  # type: ignore[import-untyped]  # the package has no types

from agent.tools.process import WorkerFailed, run_worker

SECONDS = 30.0
"""The longest that a PDF or an office file may keep its parser busy."""

PARSED_CHARACTERS = 200_000
"""The most that is taken from a PDF or an office file. Plain text is given whole: it cannot swell."""

AT_ONCE = 2
"""Parsers at a time: each may take a gigabyte and a processor."""

_PDF = "a PDF"
_WORD, _SLIDES, _SHEETS = "a Word document", "a PowerPoint presentation", "an Excel workbook"
_TEXT = "text"
_CLAIMS = {
    "application/pdf": _PDF,
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": _WORD,
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": _SLIDES,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": _SHEETS,
    **dict.fromkeys(("pdf",), _PDF),
    **dict.fromkeys(("docx", "docm", "dotx", "dotm", "doc"), _WORD),
    **dict.fromkeys(("pptx", "pptm", "potx", "ppsx", "ppsm", "ppt"), _SLIDES),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "xltm", "xls"), _SHEETS),
    **dict.fromkeys(("txt", "md", "csv", "tsv", "json", "xml", "html", "htm", "yaml", "yml", "toml", "log"), _TEXT),
}
"""What a media type or the end of a name says that a file is."""

_OLD_OFFICE = "it is in an old Office format; please save it as DOCX, XLSX, PPTX or PDF"
_UNSUPPORTED = {
    "application/msword": _OLD_OFFICE,
    "application/vnd.ms-excel": _OLD_OFFICE,
    "application/vnd.ms-powerpoint": _OLD_OFFICE,
    "application/rtf": "it is an RTF document; please save it as DOCX or PDF",
    "application/epub+zip": "it is an EPUB book; please save it as PDF",
    "application/vnd.oasis.opendocument.text": "it is an OpenDocument text; please save it as DOCX or PDF",
    "application/vnd.oasis.opendocument.spreadsheet": "it is an OpenDocument table; please save it as XLSX or PDF",
    "application/vnd.oasis.opendocument.presentation": "it is an OpenDocument show; please save it as PPTX or PDF",
}

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LOCKED = "EncryptedPackage".encode("utf-16-le")
"""The stream in which Office keeps a document with a password (MS-OFFCRYPTO, 1.3.3)."""

_CONTROLS = bytes(sorted({*range(32), 127} - set(b"\t\n\r\f\x1b")))
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_parsing: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class Unreadable(Exception):
    """The file is a document, but its text cannot be had; the message says why, in words for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def text_of(data: bytes, media_type: str, name: str, *, seconds: float = SECONDS) -> str | None:
    """The text of a document, None for what is none: pictures, sound, archives, unknown bytes.

    What it is, the bytes say; media type and name only tell what it was meant to be. Pages, slides and sheets have
    headings, tables are rows of `| a | b |`. Raises `Unreadable`.
    """
    if not data:
        raise Unreadable("it is empty")
    guess = filetype.guess_mime(data) or ""
    claim = _CLAIMS.get(media_type) or _CLAIMS.get(name.rpartition(".")[2].lower())
    if (reason := _unsupported(data, guess, claim)) is not None:
        raise Unreadable(reason)
    if _is_pdf(data, claim) or _is_office(data, claim):
        text = await _parsed(data, seconds)
    else:
        text = await asyncio.to_thread(_plain, data, guess)
    if text is None and claim is not None and not guess.startswith(("image/", "audio/", "video/")):
        raise Unreadable(_disappointment(claim))
    return text


def excerpt(text: str, limit: int = 20_000) -> str:
    """The text in at most `limit` (100 or more) characters: its beginning, how much is left out, and its end."""
    if len(text) <= limit:
        return text
    room = limit - len(_left_out(len(text)))
    head = _cut(text[: room * 2 // 3])
    tail = _cut(text[len(text) - room // 3 :][::-1])[::-1]
    return f"{head}{_left_out(len(text) - len(head) - len(tail))}{tail}"


def _left_out(count: int) -> str:
    return f"\n\n[… {count:,} characters are left out here …]\n\n"


def _cut(piece: str) -> str:
    """The piece up to its last paragraph, line or word that begins in its second half, whichever there is first."""
    for edge in ("\n\n", "\n", " "):
        place = piece.rfind(edge)
        if place >= len(piece) // 2:
            return piece[:place].rstrip()
    return piece


def _unsupported(data: bytes, guess: str, claim: str | None) -> str | None:
    if data.startswith(_OLE):
        if _LOCKED in data:
            return "it is protected by a password"
        if claim is not None:
            return _OLD_OFFICE
    return _UNSUPPORTED.get(guess)


def _is_pdf(data: bytes, claim: str | None) -> bool:
    """PDF's header may have other bytes before it: within the first 1024, says Adobe's implementation note 13."""
    start = data[:1024]
    return start.lstrip(b"\xef\xbb\xbf\0\t\n\f\r ").startswith(b"%PDF-") or (claim == _PDF and b"%PDF-" in start)


def _is_office(data: bytes, claim: str | None) -> bool:
    """The part that every office file has may be at its end, which is what a broken transfer cuts off."""
    return data.startswith(b"PK\x03\x04") and (b"[Content_Types].xml" in data or claim in (_WORD, _SLIDES, _SHEETS))


def _disappointment(claim: str) -> str:
    if claim == _TEXT:
        return "it is not text, or in an encoding that cannot be told; please save it as UTF-8"
    return f"it is not {claim}, although it says so; it is something else, or damaged"


async def _parsed(data: bytes, seconds: float) -> str | None:
    try:
        async with _turn():
            answer = json.loads(await run_worker("agent.files.documents_worker", data, seconds=seconds))
    except TimeoutError:
        raise Unreadable(f"reading it takes longer than {seconds:g} s") from None
    except (WorkerFailed, OSError) as error:
        # Its last words are a library's or the system's: of use in the traceback, not to a person.
        raise Unreadable("it is too large or too damaged to be read") from error
    match answer:
        case {"text": str(text)}:
            return text
        case {"unreadable": str(reason)}:
            raise Unreadable(reason)
        case _:
            return None


def _turn() -> asyncio.Semaphore:
    """One per event loop, as a semaphore cannot be shared between loops."""
    return _parsing.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))


def _plain(data: bytes, guess: str) -> str | None:
    text = _decoded(data, guess)
    if text is None:
        return None
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _COLOURS.sub("", lines) if "\x1b" in lines else lines


def _decoded(data: bytes, guess: str) -> str | None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _utf16(data)
    if len(data.translate(None, _CONTROLS)) != len(data):
        return None
    try:
        # Text may begin like a binary file ("BMW", "MZ"), but binary files do not happen to be valid UTF-8.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None if guess else _damaged(data) or _western(data)


def _utf16(data: bytes) -> str | None:
    try:
        text = data.decode("utf-16")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _damaged(data: bytes) -> str | None:
    """UTF-8 in which some bytes are wrong, as in logs: most of what is not ASCII must still make sense."""
    text = data.decode("utf-8-sig", errors="replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    sensible = len(text) - wrong - len(text.encode("ascii", errors="ignore"))
    return text if sensible > 4 * wrong else None


def _western(data: bytes) -> str | None:
    """Latin-1 when most of it is ASCII: what is written in other scripts would only look like text.

    The bytes that Latin-1 has no characters for are read as Windows does, which calls its own encoding so.
    """
    if len(data.decode("ascii", errors="ignore")) < 0.7 * len(data):
        return None
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return None
