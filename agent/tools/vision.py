"""Pictures as a model can take them: apart from the tools, as the picture library is loaded with the first picture."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from agent.media import PICTURES

LONGEST_SIDE = 1568
"""Pixels: larger pictures are scaled down by model providers anyway."""

LARGEST_SHOWN = 3_500_000
"""Bytes of a picture for a model; 5 MB in base64 are the least that a provider takes."""

MOST_PIXELS = 80_000_000

# Not all that Pillow knows: opening some of the others starts programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "AVIF", "JPEG2000")

# The warning is an error where warnings are; else the picture is refused for its pixels.
UNUSABLE_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What `scaled_for_model` raises for what is no whole picture, or too large a one."""


def scaled_for_model(data: bytes) -> tuple[bytes, str]:
    """The picture as a model can take it, and what it is. Raises one of `UNUSABLE_IMAGE`."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels are too many")
        media_type = picture.get_format_mimetype() or "unknown type"
        if media_type == "image/mpo":
            media_type = "image/jpeg"  # What some cameras make: a JPEG with more pictures behind the first.
        picture.load()  # A picture cut short would be refused by the model's provider, now and in every later step.
        small = max(width, height) <= LONGEST_SIDE
        if small and len(data) <= LARGEST_SHOWN and media_type in PICTURES:
            return data, f"{media_type}, {width} x {height} pixels"
        upright = ImageOps.exif_transpose(picture)
        upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        how = f", shown at {upright.width} x {upright.height}" if not small else ""
        return _encoded(upright, media_type), f"{media_type}, {width} x {height} pixels{how}"


def _encoded(picture: Image.Image, media_type: str) -> bytes:
    clear = picture.has_transparency_data
    data = io.BytesIO()
    if media_type != "image/jpeg":
        picture.convert("RGBA" if clear else "RGB").save(data, "PNG")
    if not 0 < data.tell() <= LARGEST_SHOWN:
        data = io.BytesIO()
        (_on_white(picture) if clear else picture.convert("RGB")).save(data, "JPEG", quality=85)
    return data.getvalue()


def _on_white(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture.convert("RGBA"))
    return ground.convert("RGB")
