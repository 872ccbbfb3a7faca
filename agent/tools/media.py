"""The media tools: files of the workspace to the person, pictures to the model's eyes."""

from __future__ import annotations

import asyncio
import io
from typing import Annotated

from PIL import Image, ImageOps
from pydantic import Field

from agent.media import PICTURES, Attachment, MediaError
from agent.tool import ToolContext, ToolError, ToolResult, tool
from agent.tools.workspace import existing_file, file_errors, inside

LARGEST = 200_000_000
"""Bytes of a file that is read at all; the media store has a limit of its own."""

LONGEST_SIDE = 1568
"""Pixels: larger pictures are scaled down by model providers anyway."""

LARGEST_SHOWN = 3_500_000
"""Bytes of a picture for a model; 5 MB in base64 are the least that a provider takes."""

MOST_PIXELS = 80_000_000

# Not all that Pillow knows: opening some of the others starts programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "AVIF", "JPEG2000")
# The warning is an error where warnings are; else the picture is refused for its pixels.
_UNSHOWABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning)


@tool(effect="read")
async def send_file(
    context: ToolContext,
    path: Annotated[str, Field(description="A file in the workspace.")],
    caption: Annotated[str, Field(max_length=1000)] = "",
) -> ToolResult:
    """Sends a file of the workspace to the person, where you are in your answer. Pictures are shown as pictures."""
    data, name = await asyncio.to_thread(_read, context, path)
    if not data:
        raise ToolError(f"{path} is empty; there is nothing to send")
    attachment = await _keep(context, data, name)
    text = f"{name} ({attachment.media_type}, {attachment.size:,} bytes) is sent to the person."
    return ToolResult(text, attachments=(attachment,), caption=caption)


@tool(effect="read")
async def view_image(
    context: ToolContext,
    path: Annotated[str, Field(description="A picture in the workspace, or the name of one sent in the conversation.")],
) -> ToolResult:
    """Shows a picture to you, not to the person."""
    data, name, place = await _find_picture(context, path)
    try:
        shown, description = await asyncio.to_thread(_for_eyes, data)
    except _UNSHOWABLE as error:
        raise ToolError(f"{name} cannot be shown as a picture: {error}") from error
    attachment = await _keep(context, shown, name)
    return ToolResult(f"{name} from {place}: {description}.", images=(attachment,))


async def _find_picture(context: ToolContext, path: str) -> tuple[bytes, str, str]:
    """The bytes, the name and where they are from; a file in the workspace comes before one in the conversation."""
    seen = next((one for one in reversed(context.seen) if one.name == path), None)
    if seen is not None and not await asyncio.to_thread(_is_in_workspace, context, path):
        try:
            return await context.media.read(seen), seen.name, "the conversation"
        except MediaError as error:
            raise ToolError(str(error)) from error
    data, name = await asyncio.to_thread(_read, context, path)
    return data, name, "the workspace"


def _is_in_workspace(context: ToolContext, path: str) -> bool:
    try:
        return inside(context.workspace, path).is_file()
    except (ToolError, OSError):
        return False


def _read(context: ToolContext, path: str) -> tuple[bytes, str]:
    file = existing_file(context.workspace, path)
    with file_errors(path):
        size = file.stat().st_size
        if size > LARGEST:
            raise ToolError(f"{path} has {size:,} bytes, more than the {LARGEST:,} that are allowed")
        return file.read_bytes(), file.name


async def _keep(context: ToolContext, data: bytes, name: str) -> Attachment:
    try:
        return await context.media.put(data, name)
    except MediaError as error:
        raise ToolError(str(error)) from error


def _for_eyes(data: bytes) -> tuple[bytes, str]:
    """The picture as a model can take it, and what it is. Raises what Pillow raises for what is no whole picture."""
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
