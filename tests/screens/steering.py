"""The first minute as an animation: the real page, the real gateway and the demo model; a task is interrupted."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, expect

from tests.gateway.stage import gateway
from tests.screens.camera import Camera

FIRST = "research something slow"
SECOND = "stop after this and draw a chart"

WIDTH, HEIGHT = 760, 700
FRAME = 0.12
"""Seconds between two looks at the page."""

MAX_STILL = 900
"""Milliseconds that a picture without a change is shown."""

END = 4000
"""Milliseconds for the last picture."""

COLORS = 64


async def shoot_steering(camera: Camera, folder: Path, file: Path) -> None:
    settings = folder / "interject.toml"
    settings.write_text("[web]\nport = 0\n", encoding="utf-8")
    async with asyncio.timeout(180), gateway(settings) as built, camera.window(WIDTH, HEIGHT) as page:
        await page.goto(built.link or "")
        await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "on")
        film = Film(page)
        async with film.running():
            await _type(page, FIRST)
            await expect(page.locator('[data-testid="call"][data-state="running"]')).to_contain_text("page 1")
            await _type(page, SECOND)
            await expect(page.locator('[data-testid="call"][data-state="skipped"]').first).to_be_visible()
            await expect(page.get_by_test_id("picture").locator("img")).to_have_js_property("complete", True)
            await expect(page.get_by_test_id("stop")).to_be_hidden()
        film.save(file)


async def _type(page: Page, text: str) -> None:
    box = page.get_by_test_id("text")
    await asyncio.sleep(4 * FRAME)
    await box.press_sequentially(text, delay=45)
    await asyncio.sleep(4 * FRAME)
    await box.press("Enter")


class Film:
    """Pictures of a page, as long as it runs, and the time at which each was taken."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._frames: list[tuple[float, Image.Image]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        taking = asyncio.create_task(self._take())
        try:
            yield
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
        await self._look()

    async def _take(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(FRAME)

    async def _look(self) -> None:
        # Without a caret: it would blink.
        data = await self._page.screenshot(caret="hide")
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGB")
        if not self._frames or self._frames[-1][1].tobytes() != picture.tobytes():
            self._frames.append((time.monotonic(), picture))

    def save(self, file: Path) -> None:
        """As a GIF with one palette, so that what does not change needs no space."""
        times = [at for at, _ in self._frames]
        shown = [min(MAX_STILL, round(1000 * (after - at))) for at, after in pairwise(times)]
        last = self._frames[-1][1]
        palette = last.quantize(COLORS)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for _, picture in self._frames]
        first, *others = pictures
        first.save(file, save_all=True, append_images=others, duration=[*shown, END], loop=0, optimize=True)
