"""What a file is: its type, and of a picture its size, read from the bytes; and a name for it that is safe."""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path

import filetype  # type: ignore[import-untyped]  # the library has no types

from agent.media import PICTURES, Attachment, MediaError

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: decoded, they would take 320 MB of memory."""

MAX_NAME_BYTES = 200
BINARY = "application/octet-stream"
CHUNK = 1 << 20
"""Bytes that are looked at together."""

TEXT_TYPES = {
    "css": "text/css",
    "csv": "text/csv",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "js": "text/javascript",
    "json": "application/json",
    "md": "text/markdown",
    "svg": "image/svg+xml",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
"""The media type of a text by its suffix; any other is plain text."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Read from the bytes themselves."""

    media_type: str
    width: int | None = None
    height: int | None = None


def examine(file: Path, hash: str, size: int, name: str) -> Attachment:
    """The attachment for a file with this hash, of so many bytes. Raises `MediaError` for a picture with too many
    pixels, and `OSError`."""
    kind = _kind(file, name)
    return Attachment(hash, name, kind.media_type, size, kind.width, kind.height)


def clean_name(name: str) -> str:
    """A file name that is safe everywhere: no directories, no invisible characters, never empty."""
    last = re.split(r"[/\\]", name)[-1]
    visible = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn"))
    return _shorten(visible.strip(" .")) or "file"


def _shorten(name: str) -> str:
    """At most `MAX_NAME_BYTES`: file systems count bytes, of which an emoji has four."""
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = f".{suffix}".encode() if dot and len(suffix) <= 10 else b""
    start = (stem if end else name).encode()[: MAX_NAME_BYTES - len(end)]
    return start.decode(errors="ignore") + end.decode()


def _kind(file: Path, name: str) -> _Kind:
    guess = filetype.guess(str(file))
    if guess is None:
        return _Kind(_text_type(file, name))
    media_type = str(guess.mime)
    if media_type not in PICTURES:
        return _Kind(media_type)
    size = _picture_size(file, name)
    return _Kind(BINARY) if size is None else _Kind(media_type, *size)


def _text_type(file: Path, name: str) -> str:
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if not _is_text(file):
        return BINARY
    return TEXT_TYPES.get(suffix, "text/plain" if file.stat().st_size else BINARY)


def _is_text(file: Path) -> bool:
    decoder = getincrementaldecoder("utf-8")()
    with file.open("rb") as stream:
        try:
            while data := stream.read(CHUNK):
                if b"\0" in data:
                    return False
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _picture_size(file: Path, name: str) -> tuple[int, int] | None:
    """Width and height in pixels, None if it is not a valid picture; its pixels are not decoded."""
    # Imported with the first picture: it takes 50 ms.
    from PIL import Image

    try:
        with Image.open(file) as picture:
            width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{name} has more than the allowed {MAX_PIXELS:,} pixels") from error
    except (OSError, SyntaxError, ValueError):
        return None
    if width * height > MAX_PIXELS:
        raise MediaError(f"{name} has {width:,} by {height:,} pixels, more than the allowed {MAX_PIXELS:,}")
    return width, height
