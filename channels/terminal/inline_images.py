"""Pictures inside a terminal that supports them. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import Literal, assert_never

from agent.media import Attachment

Protocol = Literal["kitty", "iterm2"]

_CHUNK = 4096
_PIXELS_PER_COLUMN = 9
"""An estimate: a terminal does not say how wide its cells are without a query."""


def protocol(environ: Mapping[str, str]) -> Protocol | None:
    """The terminal's picture protocol, from its environment variables; None: none, or unknown.

    A multiplexer in between (tmux, screen) does not pass pictures on.
    """
    if "TMUX" in environ or environ.get("TERM", "").startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environ or environ.get("TERM") in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    return "iterm2" if environ.get("TERM_PROGRAM") in ("iTerm.app", "WezTerm") else None


def inline(picture: Attachment, data: bytes, how: Protocol, width: int) -> str:
    """The escape codes that show the picture, at most `width` columns wide. Raises OSError for a broken picture.

    https://sw.kovidgoyal.net/kitty/graphics-protocol/ and https://iterm2.com/documentation-images.html
    """
    columns = max(1, min(width, 80, (picture.width or 800) // _PIXELS_PER_COLUMN))
    match how:
        case "kitty":
            return _kitty(data if picture.media_type == "image/png" else _as_png(data), columns)
        case "iterm2":
            encoded = b64encode(data).decode()
            return f"\x1b]1337;File=inline=1;size={len(data)};width={columns};preserveAspectRatio=1:{encoded}\a\n"
        case _:
            assert_never(how)


def _kitty(png: bytes, columns: int) -> str:
    encoded = b64encode(png).decode()
    chunks = [encoded[start : start + _CHUNK] for start in range(0, len(encoded), _CHUNK)] or [""]
    first = f"a=T,f=100,q=2,c={columns},"
    return (
        "".join(
            f"\x1b_G{first if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
            for number, chunk in enumerate(chunks)
        )
        + "\n"
    )


def _as_png(data: bytes) -> bytes:
    # Imported here because Pillow loads slowly.
    from PIL import Image

    png = BytesIO()
    with Image.open(BytesIO(data)) as picture:
        picture.convert("RGBA").save(png, "PNG")
    return png.getvalue()
