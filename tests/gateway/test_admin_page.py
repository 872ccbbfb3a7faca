"""The operator page in a real browser, with a real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.api.conftest import Api, control_api
from tests.servers.models import Call, ModelServer, Pause, Request, Say, Usage
from tests.servers.models import Turn as Answer
from tests.servers.telegram import BotApi

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SLOWLY = 60_000
ACCESS = 'admins = ["1"]\nallow = ["7", "8"]\npair = true\nbusy = "queue"'
QUESTION = {"question": "Which colour?", "options": ["red", "blue"]}


@dataclass
class Operator:
    page: Page
    control: Api
    telegram: BotApi
    models: ModelServer

    def find(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    async def goes_to(self, view: str) -> None:
        await self.find(f"to-{view}").click()

    async def sign_in(self, key: str) -> None:
        await self.find("key").fill(key)
        await self.find("key").press("Enter")


def answer(request: Request) -> Answer:
    text = request.messages[-1].text
    if "paint" in text and not request.results:
        return Call("ask_user", QUESTION)
    return [Pause(), Say("Done.")] if "work" in text else [Say("Hello."), Usage(input=1000, output=100)]


@pytest_asyncio.fixture(loop_scope="module")
async def operator(tmp_path: Path, browser: Browser) -> AsyncIterator[Operator]:
    async with (
        asyncio.timeout(120),
        BotApi() as telegram,
        ModelServer() as models,
        control_api(tmp_path, telegram, models, access=ACCESS) as control,
        window(browser) as page,
    ):
        models.respond(answer)
        await page.goto(f"{control.url}/admin")
        yield Operator(page, control, telegram, models)
        assert page.context.pages == [page]


@asynccontextmanager
async def window(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    await context.close()
    assert not faults


async def test_what_runs_is_shown_live_and_its_queue(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    await expect(operator.find("running")).to_be_hidden(timeout=SLOWLY)
    ann = operator.telegram.private(7, "Ann <img src=x onerror=alert(1)>")
    await ann.say("work on the harvest report")
    running = operator.find("running").locator(".card")
    await expect(running).to_contain_text("work on the harvest report", timeout=SLOWLY)
    await expect(running).to_contain_text("Ann <img src=x onerror=alert(1)>")
    await expect(running).to_contain_text("step 1: the model is answering")
    await ann.say("and then rest")
    await expect(operator.find("queues")).to_contain_text("1 message", timeout=SLOWLY)
    await operator.models.until_held()
    operator.models.release()
    await expect(running).to_have_count(0, timeout=SLOWLY)


async def test_scheduled_tasks_are_shown_and_cancelled(operator: Operator) -> None:
    task = {"client_id": "nightly-1", "task": "Check the <b>build</b>.", "cron": "30 6 * * *"}
    made = await operator.control.client.post("/conversations/web:local:one/schedules", json=task)
    assert made.status_code == 201
    await operator.sign_in(operator.control.token)
    scheduled = operator.find("schedules").locator(".card")
    await expect(scheduled).to_contain_text("Check the <b>build</b>.", timeout=SLOWLY)
    await expect(scheduled).to_contain_text("30 6 * * *")
    await operator.find("cancel-schedule").click()
    await expect(scheduled).to_have_count(0, timeout=SLOWLY)
    assert (await operator.control.client.get("/schedules")).json() == {"schedules": []}


async def test_a_message_of_a_scheduled_task_says_so(operator: Operator) -> None:
    soon = {"client_id": "soon-number-1", "task": "Check the build.", "in_minutes": 0.001}
    made = await operator.control.client.post("/conversations/web:local:one/schedules", json=soon)
    await operator.models.until(1)
    await operator.sign_in(operator.control.token)
    await operator.find("who").wait_for()
    await operator.page.goto(f"{operator.control.url}/admin#conversation/web%3Alocal%3Aone")
    transcript = operator.find("transcript")
    await expect(transcript).to_contain_text(f"scheduled task {made.json()['id']}", timeout=SLOWLY)


async def test_a_running_turn_is_steered_and_stopped(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    ann = operator.telegram.private(7, "Ann")
    await ann.say("work on the harvest report")
    await operator.models.until_held()
    await operator.find("steer").click(timeout=SLOWLY)
    await operator.find("steer-text").fill("work on the cider instead")
    await operator.find("steer-text").press("Enter")
    await expect(operator.find("notice")).to_have_text("Sent.", timeout=SLOWLY)
    await operator.models.until(2)
    assert "cider" in operator.models.requests[1].messages[-1].text
    await operator.find("stop").click(timeout=SLOWLY)
    await expect(operator.find("notice")).to_contain_text("Stopped: ", timeout=SLOWLY)
    await expect(operator.find("running")).to_be_hidden(timeout=SLOWLY)


async def test_a_turn_that_waits_for_an_answer_is_shown_opened_and_answered(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    await operator.telegram.private(7, "Ann").say("paint it")
    parked = operator.find("parked").locator(".card")
    await expect(parked).to_contain_text("ask_user", timeout=SLOWLY)
    await expect(parked).to_contain_text("Which colour?")
    await operator.find("open").click()
    transcript = operator.find("transcript")
    await expect(transcript).to_contain_text("paint it", timeout=SLOWLY)
    await expect(transcript).to_contain_text("Which colour?")
    await operator.find("to-trace").click()
    await expect(operator.find("waterfall")).to_contain_text("ask_user", timeout=SLOWLY)
    await operator.goes_to("now")
    await parked.get_by_role("button", name="blue").click(timeout=SLOWLY)
    await expect(operator.find("notice")).to_have_text("blue: decided.", timeout=SLOWLY)
    await operator.models.until(2)
    await expect(operator.find("parked")).to_be_hidden(timeout=SLOWLY)


async def test_somebody_is_admitted_with_one_click_and_loses_access_with_another(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    await operator.goes_to("people")
    eve = operator.telegram.private(66, "Eve")
    await eve.say("let me in")
    await operator.find("pair").click(timeout=SLOWLY)
    await eve.hear("Your access was approved.")
    await operator.find("revoke").click(timeout=SLOWLY)
    await expect(operator.find("notice")).to_have_text("Eve may no longer write.", timeout=SLOWLY)
    await expect(operator.find("paired")).to_be_hidden()
    await operator.goes_to("audit")
    await expect(operator.find("audit")).to_contain_text("revoked", timeout=SLOWLY)
    await operator.find("kind").select_option("admitted")
    await expect(operator.find("audit")).not_to_contain_text("revoked", timeout=SLOWLY)
    await expect(operator.find("audit")).to_contain_text("telegram:66")


async def test_an_undelivered_reply_is_sent_again_with_one_click(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    bob = operator.telegram.private(8, "Bob")
    bob.block()
    await bob.say("hi")
    await expect(operator.find("undelivered")).to_contain_text("blocked", timeout=SLOWLY)
    bob.unblock()
    await operator.find("redeliver").click()
    await bob.hear("Hello.")
    await expect(operator.find("undelivered")).to_be_hidden(timeout=SLOWLY)


async def test_usage_is_drawn_and_every_view_opens_without_unnamed_controls(operator: Operator) -> None:
    await operator.sign_in(operator.control.token)
    ann = operator.telegram.private(7, "Ann")
    await ann.say("hi")
    await ann.hear("Hello.")
    for view in ("channels", "people", "usage", "catalog", "audit", "settings", "log", "now"):
        await operator.goes_to(view)
        await expect(operator.find("view").locator(f".view.{view} *").first).to_be_attached(timeout=SLOWLY)
        assert await unnamed(operator.page) == []
        if view == "usage":
            await expect(operator.page.locator(".chart .bar")).not_to_have_count(0, timeout=SLOWLY)
            await expect(operator.page.get_by_label("By person")).to_contain_text("Ann")
        if view == "settings":
            await expect(operator.find("settings")).to_contain_text("[hidden]", timeout=SLOWLY)


async def unnamed(page: Page) -> list[str]:
    """Controls without a name for people who do not see them."""
    snapshot = await page.locator("body").aria_snapshot()
    roles = ("button", "link", "textbox", "combobox", "checkbox", "radio", "searchbox")
    return [line for line in snapshot.splitlines() if line.strip().removeprefix("- ").rstrip(":") in roles]


async def test_a_wrong_key_says_so_and_a_reader_sees_nothing_of_others(operator: Operator) -> None:
    await operator.sign_in("ij_0000000000_wrong")
    await expect(operator.page.get_by_role("alert")).to_have_text("This key is not valid, or not any more.")
    key = await operator.control.client.post("/keys", json={"name": "reader", "scope": "read"})
    await operator.sign_in(key.json()["secret"])
    await expect(operator.find("who")).to_have_text("reader", timeout=SLOWLY)
    await expect(operator.find("view")).to_have_text("This page is for admins. You are signed in to the API.")
    await operator.find("sign-out").click()
    await expect(operator.find("key")).to_be_visible(timeout=SLOWLY)
