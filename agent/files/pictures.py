"""Scales images for models. Apart from the tools, so that the image library is loaded with the first image."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from agent.media import PICTURES

MAX_SIDE = 1568
"""Pixels: model providers scale larger images down anyway."""

MAX_BYTES = 3_500_000
"""Of an image for a model; the strictest provider takes 5 MB in base64."""

MAX_PIXELS = 80_000_000

# Not all formats of Pillow: opening some of the others starts programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "AVIF", "JPEG2000")

# The warning is raised only where warnings are errors; elsewhere MAX_PIXELS refuses the image.
IMAGE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""Raised by `scaled_for_model` for an invalid, incomplete or too large image."""


def scaled_for_model(data: bytes) -> tuple[bytes, str]:
    """The image as a model accepts it, and a description. Raises one of `IMAGE_ERRORS`."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels are too many")
        media_type = picture.get_format_mimetype() or "unknown type"
        if media_type == "image/mpo":
            media_type = "image/jpeg"  # The format of some cameras: a JPEG followed by more images.
        picture.load()  # The provider would reject a truncated image, now and in every later step.
        small = max(width, height) <= MAX_SIDE
        if small and len(data) <= MAX_BYTES and media_type in PICTURES:
            return data, f"{media_type}, {width} x {height} pixels"
        upright = ImageOps.exif_transpose(picture)
        upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        how = f", shown at {upright.width} x {upright.height}" if not small else ""
        return _encoded(upright, media_type), f"{media_type}, {width} x {height} pixels{how}"


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
