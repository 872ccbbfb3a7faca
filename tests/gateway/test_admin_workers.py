"""The workers on the operator page, in a real browser, with a real gateway on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from gateway.store import open_store
from tests.api.conftest import control_api
from tests.engines import engines
from tests.gateway.test_admin_page import SLOWLY, Operator, window
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module"), pytest.mark.engines("postgresql")]

LEASE = 600.0
"""Seconds: nobody dies here."""


async def test_a_worker_is_drained_and_the_last_one_is_kept(tmp_path: Path, browser: Browser) -> None:
    url = engines.url(tmp_path / "interject.db")
    async with (
        asyncio.timeout(120),
        BotApi() as telegram,
        ModelServer() as models,
        control_api(tmp_path, telegram, models, more=f'[store]\nurl = "{url}"\n') as control,
        open_store(url, worker="other", lease=LEASE) as other,
        window(browser) as page,
    ):
        operator = Operator(page, control, telegram, models)
        await page.goto(f"{control.url}/admin")
        await operator.sign_in(control.token)
        await operator.find("to-workers").click(timeout=SLOWLY)
        cards = operator.find("workers").locator(".card")
        await expect(cards).to_have_count(2, timeout=SLOWLY)
        await expect(cards.first).to_contain_text("this page is from it")
        await expect(cards.first).to_contain_text("listens on telegram:")
        await cards.last.get_by_test_id("drain").click()
        await expect(operator.find("notice")).to_have_text("It ends.", timeout=SLOWLY)
        await expect(cards.last).to_contain_text("draining", timeout=SLOWLY)
        await expect(operator.find("drain")).to_have_count(0)
        beat = await other.beat(LEASE, 0, 0)
    assert beat is not None
    assert beat.draining
