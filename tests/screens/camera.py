"""Makes pictures of pages with headless Chromium."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from tests.conftest import FLAGS

SCALE = 1.5
"""Pixels of the picture for one of the page's."""

AREAS = 128
"""How many colours are kept as they are."""


@dataclass
class Camera:
    browser: Browser

    @asynccontextmanager
    async def window(self, width: int, height: int) -> AsyncIterator[Page]:
        context = await self.browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=SCALE, color_scheme="light"
        )
        yield await context.new_page()
        await context.close()

    async def shoot(self, html: str, file: Path) -> None:
        """The whole page, as wide as its body."""
        async with self.window(1000, 400) as page:
            await page.set_content(html, wait_until="load")
            keep(await page.locator("body").screenshot(), file)


def keep(picture: bytes, file: Path) -> None:
    """In 256 colours, as whoever clones the repository loads these files: those of the larger areas as they are."""
    with Image.open(io.BytesIO(picture)) as opened:
        whole = opened.convert("RGB")
    colors = [color for _, color in sorted(whole.getcolors(whole.width * whole.height) or (), reverse=True)]
    others = iter(whole.quantize(256 - AREAS, Image.Quantize.FASTOCTREE).getpalette() or ())
    kept = [*colors[:AREAS], *zip(others, others, others, strict=True)]
    # Pillow's own choice of the nearest is quick and rough: white becomes a light grey.
    nearest = {color: min(range(len(kept)), key=lambda n: math.dist(color, kept[n])) for color in colors}
    bands = iter(whole.tobytes())
    small = Image.frombytes("P", whole.size, bytes(nearest[color] for color in zip(bands, bands, bands, strict=True)))
    small.putpalette([band for color in kept for band in color])
    small.save(file, optimize=True)


@asynccontextmanager
async def camera() -> AsyncIterator[Camera]:
    async with async_playwright() as playwright:
        installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        executable = next(installed, playwright.chromium.executable_path)
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield Camera(browser)
        await browser.close()
