"""The chat in the browser, as it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import Page, expect

from tests.gateway.stage import gateway
from tests.screens.alone import FIRST, SECOND, SKIPPED, TIDY_UP, asking_first, go_on, prepare
from tests.screens.camera import Camera, keep
from tests.servers.models import ModelServer


async def shoot_web(camera: Camera, folder: Path, file: Path) -> None:
    async with (
        asyncio.timeout(180),
        ModelServer() as models,
        gateway(prepare(folder, models)) as built,
        camera.window(960, 1350) as page,
    ):
        await page.goto(built.link or "")
        await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "on")
        await _say(page, FIRST)
        running = page.locator('[data-testid="call"][data-state="running"]')
        await expect(running).to_contain_text("south")
        await _say(page, SECOND)
        await expect(page.get_by_test_id("message")).to_have_count(2)
        await expect(page.locator('[data-testid="call"][data-state="waiting"]')).to_have_count(SKIPPED)
        go_on(folder)
        await expect(page.locator('[data-testid="call"][data-state="skipped"]')).to_have_count(SKIPPED)
        await expect(page.get_by_test_id("option")).to_have_count(3)
        await expect(page.get_by_test_id("picture").locator("img")).to_have_js_property("complete", True)
        keep(await page.screenshot(), file)


async def shoot_approval(camera: Camera, folder: Path, file: Path) -> None:
    """A command that waits for approval."""
    async with (
        asyncio.timeout(180),
        ModelServer() as models,
        gateway(asking_first(folder, models)) as built,
        camera.window(960, 640) as page,
    ):
        await page.goto(built.link or "")
        await expect(page.get_by_test_id("connection")).to_have_attribute("data-state", "on")
        await _say(page, TIDY_UP)
        await expect(page.get_by_test_id("option")).to_have_count(3)
        keep(await page.screenshot(), file)


async def _say(page: Page, text: str) -> None:
    await page.get_by_test_id("text").fill(text)
    await page.get_by_test_id("text").press("Enter")
