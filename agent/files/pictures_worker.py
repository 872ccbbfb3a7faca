"""A worker process that scales a picture for models: the picture on stdin; a line of JSON and the result on stdout.

It is a separate process because pictures can be crafted to exhaust memory or to exploit a decoder.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import dataclass

from PIL import Image, ImageFile, ImageOps

from agent.files.resource_limits import limit_resources
from agent.media import PICTURES

MAX_SIDE = 1568
"""Pixels: providers scale larger images down anyway, and the strictest refuses more than 2,000 if there are many."""

MAX_BYTES = 3_500_000
"""Of an image for a model; the strictest provider takes 5 MB in base64."""

MAX_PIXELS = 80_000_000
MAX_MEMORY = 2 * 1024**3
"""Bytes of address space."""

# Not all formats of Pillow: opening some of the others starts programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "AVIF", "JPEG2000")
_ACCEPTED_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_ORIENTATION = 0x0112
"""EXIF's tag."""

NO_PICTURE = "it is not a picture in a format that is supported, or it is damaged; please send it as JPEG or PNG"


class Unreadable(Exception):
    """The message tells a person why."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """`data` is b"" if the picture is accepted as it is. `note` is what is different, in words."""

    data: bytes
    description: str
    note: str = ""


def scaled(data: bytes) -> Scaled:
    """The image as a model accepts it. Raises `Unreadable`."""
    try:
        return _scaled(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"it has more than the {MAX_PIXELS:,} pixels that are allowed") from error
    except MemoryError as error:
        raise Unreadable("decoding it takes too much memory") from error
    except Unreadable:
        raise
    except Exception as error:  # The edge: decoders raise any error on hostile bytes.
        raise Unreadable(NO_PICTURE) from error


def _scaled(data: bytes) -> Scaled:
    try:
        picture, (width, height) = _opened(data)
        is_whole = True
    except OSError:
        # The rest of a picture that was cut short is still worth seeing.
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        picture, (width, height) = _opened(data)
        is_whole = False
    media_type = picture.get_format_mimetype() or "unknown type"
    if media_type == "image/mpo":
        media_type = "image/jpeg"  # The format of some cameras: a JPEG followed by more images.
    frames = getattr(picture, "n_frames", 1) if picture.format in ("GIF", "WEBP", "PNG", "AVIF", "TIFF") else 1
    several = (
        f"the first of {frames:,} pages" if picture.format == "TIFF" else f"animated: the first of {frames:,} frames"
    )
    description = f"{media_type}, {width} x {height} pixels"
    is_small = max(width, height) <= MAX_SIDE
    is_plain = picture.mode in _ACCEPTED_MODES and _orientation(picture) == 1 and frames == 1
    if is_small and is_plain and is_whole and len(data) <= MAX_BYTES and media_type in PICTURES:
        return Scaled(b"", description)
    upright = _eight_bit(picture)
    if _orientation(picture) != 1:
        upright = ImageOps.exif_transpose(upright)
    upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    notes = [
        "" if is_small else f"shown at {upright.width} x {upright.height}",
        "" if frames == 1 else several,
        "" if is_whole else "cut short: the rest of it is missing",
    ]
    return Scaled(_encoded(upright, media_type), description, ", ".join(filter(None, notes)))


def _opened(data: bytes) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    """The decoded first frame, and the size of the picture.

    It is decoded because a provider would reject a truncated image, now and in every later step.
    """
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"it has {width:,} by {height:,} pixels, more than the {MAX_PIXELS:,} that are allowed")
    if picture.format == "JPEG":
        # Decodes a large photo at a fraction of its size, in a fraction of the time.
        picture.draft(None, (2 * MAX_SIDE, 2 * MAX_SIDE))
    picture.load()
    if not isinstance(picture, ImageFile.ImageFile):
        raise Unreadable(NO_PICTURE)
    return picture, (width, height)


def _orientation(picture: Image.Image) -> object:
    """EXIF's; upright if what the picture says of itself is broken, which its pixels need not be."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - the edge: hostile bytes raise any error
        return 1


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Sixteen bits of grey are scaled to eight: a plain conversion makes nearly all of it white."""
    if picture.mode not in _SIXTEEN_BIT:
        return picture
    low, high = picture.getextrema()
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return picture
    top = 65_535 if picture.mode != "F" and 255 < high <= 65_535 else max(high, 1)
    return picture.convert("F").point(lambda value: value * (255 / top)).convert("L")


def _encoded(picture: Image.Image, media_type: str) -> bytes:
    clear = picture.has_transparency_data
    data = io.BytesIO()
    if media_type != "image/jpeg":
        picture.convert("RGBA" if clear else "RGB").save(data, "PNG")
    if not 0 < data.tell() <= MAX_BYTES:
        data = io.BytesIO()
        (_on_white(picture) if clear else picture.convert("RGB")).save(data, "JPEG", quality=85)
    return data.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture.convert("RGBA"))
    return ground.convert("RGB")


def main() -> None:
    limit_resources(memory=MAX_MEMORY)
    warnings.simplefilter("ignore")
    data = b""
    try:
        found = scaled(sys.stdin.buffer.read())
        data, answer = found.data, {"description": found.description, "note": found.note}
    except Unreadable as error:
        answer = {"unreadable": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + data)


if __name__ == "__main__":
    main()
