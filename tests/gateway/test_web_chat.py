"""The README's first minute: the real gateway with its demo model, in a real browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from config.load import load
from gateway.assembly.build import Built
from tests.gateway.stage import gateway

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SLOWLY = 60_000


@dataclass
class Person:
    page: Page

    def find(self, testid: str, **data: str) -> Locator:
        return self.page.locator(f'[data-testid="{testid}"]' + "".join(f'[data-{k}="{v}"]' for k, v in data.items()))

    async def say(self, text: str) -> None:
        await self.find("text").fill(text)
        await self.find("text").press("Enter")

    async def sees_all_answered(self, messages: int) -> None:
        await expect(self.find("message", state="answered")).to_have_count(messages, timeout=SLOWLY)

    async def conversation(self) -> list[str]:
        return await self.find("log").locator("[data-testid=message], [data-testid=text-segment]").all_inner_texts()


@pytest_asyncio.fixture(loop_scope="module")
async def ann(tmp_path: Path, browser: Browser) -> AsyncIterator[Person]:
    settings = tmp_path / "interject.toml"
    settings.write_text("[web]\nport = 0\n")
    async with asyncio.timeout(90), gateway(settings) as built, person(link_of(built), browser) as ann:
        yield ann


@pytest_asyncio.fixture(loop_scope="module")
async def newcomer(tmp_path: Path, browser: Browser) -> AsyncIterator[Person]:
    """Without a settings file. The port is free."""
    configuration = load(None, {"INTERJECT_WEB__PORT": "0"}, tmp_path / "home")
    assert configuration.file is None
    async with asyncio.timeout(90), gateway(configuration) as built, person(link_of(built), browser) as newcomer:
        yield newcomer


def link_of(built: Built) -> str:
    assert built.link is not None
    return built.link


@asynccontextmanager
async def person(link: str, browser: Browser, headers: dict[str, str] | None = None) -> AsyncIterator[Person]:
    context = await browser.new_context(extra_http_headers=headers or {})
    page = await context.new_page()
    await page.goto(link)
    person = Person(page)
    await expect(person.find("connection")).to_have_attribute("data-state", "on", timeout=SLOWLY)
    yield person
    await context.close()


async def test_a_chat_and_a_picture(ann: Person) -> None:
    await ann.say("Hello")
    await ann.sees_all_answered(1)
    await ann.say("draw a bar chart of 3, 5, 8")
    await ann.sees_all_answered(2)
    picture = ann.find("picture").locator("img")
    await expect(picture).to_be_visible()
    await expect(picture).to_have_js_property("complete", True)
    assert await picture.evaluate("image => image.naturalWidth") > 600
    await expect(ann.find("call", state="done")).to_have_count(1)


async def test_a_picture_that_says_that_it_is_a_demo_drawing(ann: Person) -> None:
    await ann.say("draw a picture of two red houses at the sea by night")
    await ann.sees_all_answered(1)
    picture = ann.find("picture").locator("img")
    await expect(picture).to_have_js_property("complete", True)
    assert await picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [960, 640]
    await expect(ann.find("log")).to_contain_text("No image model drew it.")
    await expect(ann.find("log")).to_contain_text("[tools.generate_image]")


async def test_a_file_that_is_written_and_sent(ann: Person, tmp_path: Path) -> None:
    await ann.say("write a file about tea")
    await ann.sees_all_answered(1)
    await expect(ann.find("call", state="done")).to_have_count(2)
    (file,) = (tmp_path / "home").rglob("demo.md")
    assert "write a file about tea" in file.read_text()
    await expect(ann.find("log")).to_contain_text("demo.md")


async def test_steering_a_running_task(ann: Person) -> None:
    await ann.say("research something slow")
    await expect(ann.find("call", state="running")).to_have_count(1, timeout=SLOWLY)
    await expect(ann.find("hint")).to_have_text("will reach the running task")
    await ann.say("stop after this and draw a chart")
    await ann.sees_all_answered(2)
    await expect(ann.find("call", state="skipped")).to_have_count(4)
    await expect(ann.find("picture")).to_have_count(1)
    await expect(ann.find("message-state").last).to_contain_text("Read during step 2")


async def test_steering_calls_of_the_example_mcp_server(newcomer: Person) -> None:
    await newcomer.say("count the stock")
    await expect(newcomer.find("log")).to_contain_text(re.compile(r"box \d+ of 12"), timeout=SLOWLY)
    await newcomer.say("stop and draw a chart")
    await newcomer.sees_all_answered(2)
    await expect(newcomer.find("call", state="cancelled")).to_have_count(1)
    await expect(newcomer.find("call", state="skipped")).to_have_count(2)
    await expect(newcomer.find("picture")).to_have_count(1)
    await expect(newcomer.find("log")).to_contain_text("tea: cancelled. coffee: skipped. cups: skipped.")


async def test_with_a_settings_file_there_are_only_the_mcp_servers_that_it_names(ann: Person) -> None:
    await ann.say("count the stock")
    await ann.sees_all_answered(1)
    await expect(ann.find("log")).to_contain_text("The tools of the example MCP server are not here.")
    await expect(ann.find("call")).to_have_count(0)


async def test_stopping_a_running_task(ann: Person) -> None:
    await ann.say("research something slow")
    await expect(ann.find("call", state="running")).to_have_count(1, timeout=SLOWLY)
    await ann.find("stop").click()
    await expect(ann.find("call", state="cancelled")).to_have_count(1, timeout=SLOWLY)
    await expect(ann.find("log")).to_contain_text("⏹ Stopped.")
    await expect(ann.find("message", state="stopped")).to_have_count(1)
    await ann.say("Hello again")
    await ann.sees_all_answered(1)


async def test_reloading_in_mid_turn_loses_and_doubles_nothing(ann: Person) -> None:
    await ann.say("research something slow")
    await expect(ann.find("call", state="running")).to_have_count(1, timeout=SLOWLY)
    await ann.page.reload()
    await expect(ann.find("call", state="running")).to_have_count(1, timeout=SLOWLY)
    await ann.say("stop after this and draw a chart")
    await ann.sees_all_answered(2)
    before = await ann.conversation()
    await ann.page.reload()
    await ann.sees_all_answered(2)
    assert await ann.conversation() == before
    assert len(before) == len(set(before))


async def test_signing_out_ends_the_access_of_the_browser(ann: Person) -> None:
    await ann.find("sign-out").click()
    await expect(ann.page.get_by_role("heading", name="Sign-in link required")).to_be_visible(timeout=SLOWLY)
    assert (await ann.page.request.get(f"{ann.page.url.partition('#')[0]}api/v1/session")).status == 401


async def test_a_conversation_is_deleted_from_the_page_while_a_task_runs(ann: Person, tmp_path: Path) -> None:
    await ann.say("draw a bar chart of 3, 5, 8")
    await ann.sees_all_answered(1)
    await ann.say("research something slow, about swordfish")
    await expect(ann.find("call", state="running")).to_have_count(1, timeout=SLOWLY)
    before = ann.page.url
    ann.page.once("dialog", lambda dialog: dialog.accept())
    await ann.find("delete-conversation").click()
    await expect(ann.page).not_to_have_url(before)
    await expect(ann.find("message")).to_have_count(0)
    await expect(ann.find("conversation")).to_have_count(1)
    home = tmp_path / "home"
    assert not [file.name for file in home.glob("interject.db*") if b"swordfish" in file.read_bytes()]
    assert not [file for file in (home / "media").rglob("*") if file.is_file()]
    assert not [file for file in (home / "workspace").rglob("*") if file.is_file()]


async def test_people_whom_a_proxy_signs_in_have_conversations_of_their_own(tmp_path: Path, browser: Browser) -> None:
    settings = tmp_path / "interject.toml"
    settings.write_text(
        '[web]\nport = 0\nurl = "https://chat.example.com"\nallow = ["*"]\n'
        'trusted_header = "X-Forwarded-User"\ntrusted_proxies = ["127.0.0.1"]\n'
    )
    async with asyncio.timeout(90), gateway(settings) as built, AsyncExitStack() as stack:
        ann, bob = [
            await stack.enter_async_context(
                person(link_of(built).partition("?")[0], browser, {"X-Forwarded-User": name})
            )
            for name in ("ann@example.com", "bob")
        ]
        await ann.say("My name is Ann")
        await ann.sees_all_answered(1)
        place = ann.page.url
        assert ":" not in place.partition("#")[2]
        await ann.page.reload()
        await ann.sees_all_answered(1)
        await expect(ann.find("sender")).to_have_count(0)
        await expect(ann.find("conversation")).to_have_count(1)
        await bob.page.goto(place)
        await bob.page.reload()
        await expect(bob.find("connection")).to_have_attribute("data-state", "on", timeout=SLOWLY)
        await expect(bob.find("welcome")).to_be_visible()
        await expect(bob.find("conversation-title")).to_have_text(["New conversation"])
