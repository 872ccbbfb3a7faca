"""A tool that takes a while, says how far it is, and makes a picture, which people see where they asked for it.

Copy it to the folder `tools` beside interject.toml, and try it:

    interject tools try fractal '{"size": 400}'

A message that arrives while it draws cancels it, because `effect="read"` changes nothing; with `on_steer="finish"` it
would draw to the end.
"""

import asyncio
import io
from typing import Annotated

from PIL import Image
from pydantic import Field

from interject import ToolContext, ToolResult, tool

BANDS = 10
STEPS = 60


@tool(effect="read", timeout=120)
async def fractal(
    context: ToolContext,
    size: Annotated[int, Field(ge=10, le=1000, description="Width and height in pixels.")] = 300,
    zoom: Annotated[float, Field(ge=1, le=1000, description="1 shows the whole set.")] = 1.0,
) -> ToolResult:
    """Draws the Mandelbrot set. The picture is delivered to the person."""
    rows = bytearray()
    for band in range(BANDS):
        first, last = size * band // BANDS, size * (band + 1) // BANDS
        # In a thread: the gateway goes on, and the call can be cancelled between two bands.
        rows += await asyncio.to_thread(draw, first, last, size, zoom)
        await context.progress(f"{100 * (band + 1) // BANDS} % drawn")
    data = io.BytesIO()
    Image.frombytes("L", (size, size), bytes(rows)).save(data, "PNG")
    picture = await context.media.put(data.getvalue(), "fractal.png")
    return ToolResult(f"Drawn: {picture.name}, {size}x{size} pixels.", attachments=(picture,), caption="Mandelbrot set")


def draw(first: int, last: int, size: int, zoom: float) -> bytes:
    """The rows of pixels from the first to the one before the last."""
    scale = 3 / size / zoom
    points = (
        complex(-0.7 + (x - size / 2) * scale, (y - size / 2) * scale) for y in range(first, last) for x in range(size)
    )
    return bytes(map(shade, points))


def shade(point: complex) -> int:
    value = point
    for step in range(STEPS):
        if abs(value) > 2:
            return 255 - 255 * step // STEPS
        value = value * value + point
    return 0
