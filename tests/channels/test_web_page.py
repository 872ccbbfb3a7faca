"""The page in a real browser, in front of a real server; only the agent is played by the test."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from channels.address import Address, Sender
from channels.message import InboundMessage
from channels.reply import CallSegment, MediaSegment, QuestionSegment, TextSegment
from channels.web.parse import OWNER
from tests.channels.web_gateway import TOKEN, Gateway, Served, png, served

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Visit:
    """One person at one window, in conversation `c1`."""

    site: Served
    page: Page
    troubles: list[str]

    @property
    def gateway(self) -> Gateway:
        return self.site.gateway

    def find(self, testid: str, **data: str):
        return self.page.locator(f'[data-testid="{testid}"]' + "".join(f'[data-{k}="{v}"]' for k, v in data.items()))

    async def write(self, text: str, *, chat: str = "c1") -> int:
        """Types and sends; the message's number once the gateway has it."""
        await self.find("text").fill(text)
        await self.find("text").press("Enter")
        message = await self.gateway.hear(lambda heard: heard.text == text and heard.address.chat == chat)
        return self.gateway.heard.index(message) + 1

    async def open(self, chat: str = "c1") -> None:
        await self.page.goto(f"{self.site.url}/#{chat}")
        await self.connected()

    async def connected(self) -> None:
        await expect(self.find("connection")).to_have_attribute("data-state", "on", timeout=60_000)


async def visit(browser: Browser, site: Served, **options) -> Visit:
    context = await browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = await context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(f"dialog {dialog.message}"))
    page.on("console", lambda said: troubles.append(said.text) if "Content Security" in said.text else None)
    await page.goto(f"{site.url}/?token={TOKEN}")
    assert "token" not in page.url
    visit = Visit(site, page, troubles)
    await visit.open()
    return visit


@pytest_asyncio.fixture(loop_scope="module")
async def me(browser: Browser) -> AsyncIterator[Visit]:
    async with served(Gateway()) as site:
        me = await visit(browser, site)
        yield me
        await me.page.context.close()
        assert me.troubles == []


async def test_a_message_is_sent_seen_and_answered(me: Visit):
    await expect(me.find("welcome")).to_be_visible()
    number = await me.write("What is 2 + 2?")
    await expect(me.find("message-state")).to_have_text("Queued")
    await me.gateway.mark("c1", number, "read", 1)
    await expect(me.find("message-state")).to_have_text("Read during step 1")
    await me.gateway.say("c1", "r1", TextSegment("1.0", "It is **fo", open=True), status="thinking")
    await expect(me.find("text-segment")).to_have_text("It is **fo")
    await expect(me.find("status")).to_have_text("thinking")
    await me.gateway.mark("c1", number, "answered", 1)
    await me.gateway.say("c1", "r1", TextSegment("1.0", "It is **four**."), done=True)
    await expect(me.find("text-segment").locator("strong")).to_have_text("four")
    await expect(me.find("message-state")).to_have_text("Answered")
    await expect(me.find("announcer")).to_have_text("New answer: It is four.")
    await expect(me.find("status")).to_be_hidden()
    await expect(me.find("message")).to_have_count(1)
    await expect(me.find("welcome")).to_be_hidden()


async def test_writing_goes_on_while_a_task_runs_and_stands_where_it_was_read(me: Visit):
    spoken = ["Do a long thing", "Starting", "Rather do a short thing", "Short it is", "Help is on its way"]
    first = await me.write("Do a long thing")
    await me.gateway.mark("c1", first, "read", 1)
    await me.gateway.say(
        "c1",
        "r1",
        TextSegment("t1", "Starting", step=1),
        CallSegment("c:ab12_1_0", "shell", "sleep", "running", step=1),
    )
    await expect(me.find("hint")).to_have_text("will reach the running task")
    await me.gateway.say("c1", "r2", TextSegment("n1", "Help is on its way"), done=True)
    second = await me.write("Rather do a short thing")
    await me.gateway.mark("c1", second, "read", 2)
    await expect(me.find("message-state").last).to_have_text("Read during step 2")
    await me.gateway.say(
        "c1",
        "r1",
        TextSegment("t1", "Starting", step=1),
        CallSegment("c:ab12_1_0", "shell", "sleep", "cancelled", step=1),
        TextSegment("t2", "Short it is", step=2),
        done=True,
    )
    await expect(me.find("text-segment")).to_have_text(["Starting", "Short it is", "Help is on its way"])
    assert await said(me) == spoken
    await me.page.reload()
    await expect(me.find("text-segment")).to_have_text(["Starting", "Short it is", "Help is on its way"])
    assert await said(me) == spoken
    await me.gateway.mark("c1", first, "answered", 1)
    await me.gateway.mark("c1", second, "answered", 2)
    await expect(me.find("message-state")).to_have_text(["Answered", "Read during step 2 · Answered"])
    await expect(me.find("hint")).to_have_text("")


async def test_the_page_tells_from_half_on_how_full_the_models_window_is(me: Visit):
    await expect(me.find("hint")).to_have_text("")
    me.gateway.filled = 0.734
    number = await me.write("Hello")
    await me.gateway.mark("c1", number, "read", 1)
    await expect(me.find("hint")).to_have_text("will reach the running task")
    await me.gateway.say("c1", "r1", TextSegment("t1", "Hi", step=1), done=True)
    await me.gateway.mark("c1", number, "answered", 1)
    await expect(me.find("hint")).to_have_text("context 73% full")


async def said(me: Visit) -> list[str]:
    return await me.page.locator(".mine-text, .markdown").all_inner_texts()


@pytest.mark.parametrize("way", ["button", "escape"])
async def test_stop_reaches_the_gateway_once(me: Visit, way: str):
    await expect(me.find("stop")).to_be_hidden()
    await me.gateway.say("c1", "r1", CallSegment("1.1", "shell", "sleep 99", "running"))
    await expect(me.find("stop")).to_be_visible()
    was_seen = asyncio.Event()

    async def answer_later(route: Route) -> None:
        await was_seen.wait()
        await route.continue_()

    await me.page.route("**/messages", answer_later)
    if way == "button":
        await me.find("stop").click()
    else:
        await me.find("text").press("Escape")
    await expect(me.find("status")).to_have_text("stopping…")
    was_seen.set()
    await me.gateway.hear(lambda heard: heard.command == "stop")
    await me.gateway.say("c1", "r1", CallSegment("1.1", "shell", "sleep 99", "cancelled"), done=True)
    await expect(me.find("stop")).to_be_hidden()
    assert [heard.command for heard in me.gateway.heard] == ["stop"]
    await expect(me.find("message")).to_have_count(0)


QUESTION = QuestionSegment("q:ab12_1_0", "Which **colour** shall it be?", ("Red", "Blue", "As the sky"), step=1)
ANSWERED = replace(QUESTION, open=False, answer="Blue")


async def test_a_question_waits_and_is_answered_with_a_press_of_a_key(me: Visit):
    await me.gateway.say("c1", "r1", TextSegment("t1", "Well"), QUESTION, parked=True)
    await expect(me.find("question").locator("strong")).to_have_text("colour")
    await expect(me.find("option")).to_have_text(["Red", "Blue", "As the sky"])
    await expect(me.find("status")).to_have_text("waiting for your answer")
    await expect(me.find("hint")).to_have_text("will answer the question")
    await expect(me.find("announcer")).to_have_text("Question: Which colour shall it be?")
    await expect(me.page.get_by_role("group", name="Which colour shall it be?")).to_be_visible()
    await expect(me.find("stop")).to_be_visible()
    await me.find("option", option="1").press("Enter")
    heard = await me.gateway.hear(lambda heard: heard.command == "answer")
    assert (heard.kind, heard.text) == ("command", "q:ab12_1_0 1")
    await me.gateway.say("c1", "r1", TextSegment("t1", "Well"), ANSWERED, TextSegment("t2", "Blue it is"), done=True)
    await expect(me.find("answer")).to_have_text("Answer: Blue")
    await expect(me.find("text")).to_be_focused()
    for _ in range(2):
        await expect(me.find("text-segment")).to_have_text(["Well", "Blue it is"])
        await expect(me.find("answer")).to_be_visible()
        await expect(me.find("option")).to_have_count(3)
        await expect(me.find("option").first).to_be_hidden()
        await expect(me.find("status")).to_be_hidden()
        await expect(me.find("message")).to_have_count(0)
        await me.page.reload()
    assert len(me.gateway.heard) == 1


async def test_a_question_is_still_open_after_a_reload_and_may_be_answered_in_words(me: Visit):
    await me.gateway.say("c1", "r1", QUESTION, status="waits for you", parked=True)
    await expect(me.find("option")).to_have_count(3)
    await me.page.reload()
    await expect(me.find("option")).to_have_count(3)
    await expect(me.find("option").last).to_be_enabled()
    await expect(me.find("status")).to_have_text("waits for you")
    number = await me.write("green")
    assert me.gateway.heard[number - 1].kind == "new"
    await me.gateway.say("c1", "r1", replace(ANSWERED, answer="green"), status="painting")
    await expect(me.find("answer")).to_have_text("Answer: green")
    await expect(me.find("status")).to_have_text("painting")
    await expect(me.find("hint")).to_have_text("will reach the running task")


ALLOW = ("Allow once", "Allow for this conversation", "Deny")
MAY_I = QuestionSegment("d:ab12_1_0", "**May I use `shell`?** It may reach beyond.\n\n```\nrm x\n```", ALLOW, step=1)


async def test_a_decision_says_how_it_ended_and_by_whom(me: Visit):
    call = CallSegment("c:ab12_1_0", "shell", "shell: rm x", "waiting", step=1)
    await me.gateway.say("c1", "r1", call, MAY_I, parked=True)
    await expect(me.find("option")).to_have_text(list(ALLOW))
    await me.find("option", option="2").click()
    heard = await me.gateway.hear(lambda heard: heard.command == "answer")
    assert heard.text == "d:ab12_1_0 2"
    denied = replace(MAY_I, open=False, answer="Denied by Ada: too risky", decision="denied")
    await me.gateway.say("c1", "r1", replace(call, state="denied"), denied, TextSegment("t2", "Well"), done=True)
    for _ in range(2):
        await expect(me.find("answer", decision="denied")).to_have_text("Denied by Ada: too risky")
        await expect(me.find("option").first).to_be_hidden()
        await me.page.reload()


async def test_what_is_told_of_the_work_looks_like_less(me: Visit):
    thought = TextSegment("r1", "> Hm", step=1, secondary=True)
    await me.gateway.say("c1", "r1", thought, TextSegment("t1", "So", step=1), done=True)
    await expect(me.find("text-segment")).to_have_class(["text secondary", "text"])
    await expect(me.find("announcer")).to_have_text("New answer: So")


async def test_while_an_answer_is_sent_no_other_can_be_and_a_lost_one_is_sent_again_as_the_same(me: Visit):
    tries = 0
    may_go_on = asyncio.Event()

    async def lose_the_first_answer(route: Route) -> None:
        nonlocal tries
        tries += 1
        answer = await route.fetch()
        if tries == 1:
            await may_go_on.wait()
            await route.abort()
        else:
            await route.fulfill(response=answer)

    await me.page.route("**/messages", lose_the_first_answer)
    await me.gateway.say("c1", "r1", QUESTION, parked=True)
    await me.find("option").first.click()
    for option in await me.find("option").all():
        await expect(option).to_be_disabled()
    async with me.page.expect_response("**/messages"):
        may_go_on.set()
    assert tries == 2
    assert [heard.text for heard in me.gateway.heard] == ["q:ab12_1_0 0"]
    await me.page.unroute_all(behavior="wait")


async def test_an_answer_that_is_refused_says_why_and_may_be_given_again(browser: Browser):
    async with served(Gateway(refuse="ask Ann")) as site:
        me = await visit(browser, site)
        await me.gateway.say("c1", "r1", QUESTION, parked=True)
        await me.find("option").first.click()
        await expect(me.find("problem")).to_have_text("The answer was not sent: ask Ann")
        await expect(me.find("option").first).to_be_enabled()
        await me.find("option").last.click()
        await me.gateway.hear(lambda heard: heard.text == "q:ab12_1_0 2")
        assert len({heard.event_id for heard in me.gateway.heard}) == 2
        await me.page.context.close()
    assert me.troubles == []


async def test_a_turn_that_waits_for_an_answer_can_be_stopped(me: Visit):
    await me.gateway.say("c1", "r1", replace(QUESTION, options=()), parked=True)
    await expect(me.find("question")).to_be_visible()
    await me.find("stop").click()
    await me.gateway.hear(lambda heard: heard.command == "stop")
    await me.gateway.say("c1", "r1", replace(QUESTION, options=(), open=False), TextSegment("n", "Stopped."), done=True)
    await expect(me.find("status")).to_be_hidden()
    await expect(me.find("answer")).to_be_hidden()


async def test_a_message_of_somebody_else_says_whose_it_is(me: Visit):
    number = await me.write("Mine")
    here = Address("web", "local", "c1")
    await me.gateway.deliver(InboundMessage("other-01", here, Sender("7", "Ann"), datetime.now(UTC), text="Hers"))
    await me.page.reload()
    await expect(me.find("message")).to_have_count(2)
    await expect(me.find("sender")).to_have_text(["Ann"])
    await expect(me.find("message").last).to_contain_text("Hers")
    await me.gateway.mark("c1", number, "answered", 1)
    await me.gateway.mark("c1", number + 1, "read", 2)
    await expect(me.find("message-state")).to_have_text(["Answered", "Read during step 2"])


async def test_a_scheduled_task_says_that_nobody_has_written_it_now(me: Visit):
    await me.write("Remind me of the tea")
    here, now = Address("web", "local", "c1"), datetime.now(UTC)
    events = {"schedule:ab12cd34:1796000000": OWNER, "schedule:0f0f0f0f:1796000060": Sender("7", "Ann")}
    for event, sender in events.items():
        await me.gateway.deliver(InboundMessage(event, here, sender, now, text="Tea!"))
    await expect(me.find("scheduled")).to_have_text(["Scheduled task ab12cd34", "Scheduled task 0f0f0f0f"])
    await expect(me.find("message").first.locator('[data-testid="scheduled"]')).to_have_count(0)
    await expect(me.find("sender")).to_have_text(["Ann"])
    await me.page.reload()
    await expect(me.find("scheduled")).to_have_count(2)


async def test_tool_calls_are_folded_lines_with_their_state(me: Visit):
    states = ("running", "done", "skipped", "cancelled", "failed", "denied", "unknown")
    calls = [CallSegment(f"1.{n}", "shell", f"call {n}", state, f"detail {n}") for n, state in enumerate(states)]
    await me.gateway.say("c1", "r1", *calls)
    await expect(me.find("call")).to_have_count(7)
    for n, state in enumerate(states):
        await expect(me.find("call", state=state).locator(".call-title")).to_have_text(f"call {n}")
    await expect(me.find("call-detail").nth(1)).to_be_hidden()
    await me.find("call", state="running").locator("summary").press("Enter")
    await expect(me.find("call-detail").first).to_have_text("detail 0")
    await me.gateway.say("c1", "r1", replace(calls[0], state="done", detail="all of it"), *calls[1:], done=True)
    await expect(me.find("call-detail").first).to_have_text("all of it")
    await expect(me.find("call-detail").first).to_be_visible()


async def test_a_picture_is_shown_and_grows_and_a_file_is_offered(me: Visit):
    chart = replace(await me.gateway.media.put(png(), "chart one.png"), width=640, height=360)
    report = await me.gateway.media.put(b"%PDF" * 400, "report.pdf")
    await me.gateway.say("c1", "r1", MediaSegment("1.0", chart, "Sales"), MediaSegment("1.1", report), done=True)
    picture = me.find("picture").locator("img")
    await expect(picture).to_be_visible()
    await me.page.wait_for_function("document.querySelector('.picture img').naturalWidth === 640")
    await me.find("picture").click()
    await expect(me.find("lightbox")).to_be_visible()
    await me.page.keyboard.press("Escape")
    await expect(me.find("lightbox")).to_be_hidden()
    await expect(me.find("file")).to_contain_text("1.6 kB")
    async with me.page.expect_download() as offered:
        await me.find("file").click()
    download = await offered.value
    assert download.suggested_filename == "report.pdf"
    saved = await download.path()
    assert saved.stat().st_size == 1600


async def test_files_are_picked_pasted_dropped_removed_and_sent(me: Visit):
    await me.find("files").set_input_files(
        [
            {"name": "a.png", "mimeType": "image/png", "buffer": png()},
            {"name": "no.txt", "mimeType": "text/plain", "buffer": b"no"},
        ]
    )
    for kind, name in (("paste", "pasted.txt"), ("drop", "dropped.txt")):
        await me.page.evaluate(GIVE, [kind, name])
    await expect(me.find("preview")).to_have_count(4)
    await me.page.get_by_label("Remove no.txt").click()
    await expect(me.find("preview")).to_have_count(3)
    await me.write("three files")
    message = await me.gateway.hear()
    assert [file.name for file in message.files] == ["a.png", "pasted.txt", "dropped.txt"]
    assert [await me.gateway.channel.fetch(file) for file in message.files] == [png(), b"given", b"given"]
    await expect(me.find("preview")).to_have_count(0)
    await expect(me.find("message").locator("img")).to_be_visible()
    await expect(me.find("message").locator("[data-testid=file]")).to_have_count(2)


GIVE = """([kind, name]) => {
  const data = new DataTransfer();
  data.items.add(new File(["given"], name, { type: "text/plain" }));
  const options = { bubbles: true, cancelable: true };
  document.getElementById("text").dispatchEvent(
    kind === "paste" ? new ClipboardEvent("paste", { ...options, clipboardData: data })
                     : new DragEvent("drop", { ...options, dataTransfer: data }));
}"""


async def test_what_the_model_writes_never_becomes_code(me: Visit):
    evil = (
        "<img src=x onerror=alert(1)> <script>alert(2)</script>\n\n"
        "[a](javascript:alert(3)) [b](data:text/html,x) [c](/api/v1/conversations) <b>bold</b>\n\n"
        "![x](https://example.com/pixel.png)\n\n```<script>\nalert(4)\n```"
    )
    await me.gateway.say("c1", "r1", CallSegment("1.0", "x", evil, "done", evil), TextSegment("1.1", evil), done=True)
    shown = me.find("text-segment")
    await expect(shown).to_contain_text("<script>alert(2)</script>")
    await expect(shown).to_contain_text("[a](javascript:alert(3))")
    assert await shown.locator("img, script, b, iframe").count() == 0
    assert await shown.locator("a").evaluate_all("links => links.map(a => [a.href, a.rel])") == [
        ["https://example.com/pixel.png", "noopener noreferrer"]
    ]


TABLE = (
    '<div class="table" tabindex="0"><table><thead><tr><th>a</th></tr></thead>'
    "<tbody><tr><td>x<br>{}</td></tr></tbody></table></div>"
)
MEANT = [
    ("# One\n## Two", "<h1>One</h1><h2>Two</h2>"),
    (
        "a *b* _c_ **d** __e__ ~~f~~ ***g***",
        "<p>a <em>b</em> <em>c</em> <strong>d</strong> <strong>e</strong> <del>f</del> <strong><em>g</em></strong></p>",
    ),
    ("snake_case_name 2*3*4 = 24 \\*plain\\*", "<p>snake_case_name 2<em>3</em>4 = 24 *plain*</p>"),
    ("**not closed and * alone", "<p>**not closed and * alone</p>"),
    ("`` a`b ``", "<p><code>a`b</code></p>"),
    ("1. a\n2. b\n   - c\n   - d\n3. e", "<ol><li>a</li><li>b<ul><li>c</li><li>d</li></ul></li><li>e</li></ol>"),
    ("- a\n- b\n\nafter", "<ul><li>a</li><li>b</li></ul><p>after</p>"),
    ("3. c\n4. d", '<ol start="3"><li>c</li><li>d</li></ol>'),
    ("> a\n> b\n\nc", "<blockquote><p>a\nb</p></blockquote><p>c</p>"),
    ("a  \nb\nc", "<p>a<br>b\nc</p>"),
    ("---", "<hr>"),
    ("$5 | $6", "<p>$5 | $6</p>"),
    ("<b> &amp; x < y &amp;lt; &#233;", "<p>&lt;b&gt; &amp; x &lt; y &amp;lt; é</p>"),
    ("**标题**：正文 **强调。**后", "<p><strong>标题</strong>：正文 <strong>强调。</strong>后</p>"),  # noqa: RUF001
    ("5\\,km", "<p>5\\,km</p>"),
    ("| a |\n|---|\n| x<br>`<br>` |", TABLE.format("<code>&lt;br&gt;</code>")),
]


async def test_markdown_is_shown_as_its_writer_meant_it(me: Visit):
    assert [(markdown, await me.page.evaluate(RENDER, markdown)) for markdown, _ in MEANT] == MEANT


RENDER = """async (markdown) => {
  const { renderMarkdown } = await import("/page/markdown.js");
  const box = document.createElement("div");
  for (let end = 1; end < markdown.length; end += 1) renderMarkdown(box, markdown.slice(0, end)); // as it streams
  renderMarkdown(box, markdown);
  return box.innerHTML.replaceAll(' dir="auto"', "");
}"""


async def test_formulas_are_typeset_and_unknown_ones_stay_as_written(me: Visit):
    text = (
        "So \\(a_1^2 * b^2\\) and $\\sqrt{x}$, from $5 to $10:\n\n$$\n\\frac{1}{2} * x * y\n$$\n\n\\[a^b^c\\]\n\n"
        "\\(\\href{javascript:alert(1)}{x}\\)"
    )
    await me.gateway.say("c1", "r1", TextSegment("1.0", text), done=True)
    shown = me.find("text-segment")
    await expect(shown.locator("math")).to_have_count(4)
    assert await shown.locator("math").evaluate_all(
        "all => all.map(one => one.title || one.getAttribute('title'))"
    ) == [
        "\\(a_1^2 * b^2\\)",
        "$\\sqrt{x}$",
        "$$\n\\frac{1}{2} * x * y\n$$",
        "\\(\\href{javascript:alert(1)}{x}\\)",
    ]
    assert await shown.locator("math[display=block] mfrac").count() == 1
    assert await shown.locator("math [href], em").count() == 0
    assert await shown.locator("code.tex").all_text_contents() == ["\\[a^b^c\\]"]
    await expect(shown).to_contain_text("from $5 to $10:")


async def test_text_has_the_direction_of_its_language(me: Visit):
    text = "שלום עולם\n\nHello\n\n- مرحبا\n\n| العربية |\n|---|\n| نص |"
    await me.gateway.say("c1", "r1", TextSegment("1.0", text), done=True)
    shown = me.find("text-segment")
    await expect(shown.locator("td")).to_have_text("نص")
    directions = "all => all.map(one => getComputedStyle(one).direction)"
    assert await shown.locator("p, li, td").evaluate_all(directions) == ["rtl", "ltr", "rtl", "rtl"]


async def test_a_fence_inside_a_fence_of_markdown_stays_inside(me: Visit):
    inner = "# Title\n\n```python\nx = 1\n```\n\nmore"
    await me.gateway.say("c1", "r1", TextSegment("1.0", f"```markdown\n{inner}\n```\nafter"), done=True)
    shown = me.find("text-segment")
    await expect(shown).to_contain_text("after")
    assert await shown.locator("pre").all_text_contents() == [inner]


async def test_links_tables_and_code_are_built(me: Visit):
    text = (
        "See [the (long) page](https://example.com/a_(b)?x=1) and https://example.com/c_d, <https://example.com/e>.\n\n"
        "| a | b |\n|:--|--:|\n| 1 | **2** |\n| `x \\| y` |\n\n~~~py\nprint('*x*')\n\n# y\n~~~\nend"
    )
    await me.gateway.say("c1", "r1", TextSegment("1.0", text), done=True)
    shown = me.find("text-segment")
    await expect(shown).to_contain_text("end")
    assert await shown.locator("a").evaluate_all("all => all.map(a => [a.textContent, a.getAttribute('href')])") == [
        ["the (long) page", "https://example.com/a_(b)?x=1"],
        ["https://example.com/c_d", "https://example.com/c_d"],
        ["https://example.com/e", "https://example.com/e"],
    ]
    assert await shown.locator("tr").all_inner_texts() == ["a\tb", "1\t2", "x | y"]
    assert await shown.locator("pre").text_content() == "print('*x*')\n\n# y"
    await me.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await me.find("copy-code").click()
    await expect(me.find("copy-code")).to_have_text("Copied")
    assert await me.page.evaluate("navigator.clipboard.readText()") == "print('*x*')\n\n# y"


BROKEN = [
    "[",
    "*",
    "`",
    "_a ",
    "**a ",
    "[a](",
    "> ",
    "- ",
    "| ",
    "a`",
    "![",
    "<http://",
    "\\",
    "(\n",
    "a\n- b\n  ",
    "$a",
    "\\(",
    "&a",
    "```md\n",
]


async def test_100_kb_of_broken_markdown_do_not_hold_the_page_up(me: Visit):
    took = {piece: await me.page.evaluate(TIME, (piece * 100_000)[:100_000]) for piece in BROKEN}
    assert {piece: took for piece, took in took.items() if took > 60_000} == {}


TIME = """async (text) => {
  const { renderMarkdown } = await import("/page/markdown.js");
  const begun = performance.now();
  renderMarkdown(document.createElement("div"), text);
  return performance.now() - begun;
}"""


async def test_a_reload_in_mid_turn_shows_the_same_and_keeps_the_unsent_text(me: Visit):
    number = await me.write("Go")
    await me.gateway.mark("c1", number, "read", 1)
    await me.gateway.say("c1", "r1", TextSegment("1.0", "Half of", open=True), status="writing")
    await expect(me.find("text-segment")).to_have_text("Half of")
    await me.find("text").fill("not sent yet\nsecond line")
    await me.page.reload()
    await me.connected()
    await expect(me.find("text")).to_have_value("not sent yet\nsecond line")
    await expect(me.find("text-segment")).to_have_text("Half of")
    await expect(me.find("message-state")).to_have_text("Read during step 1")
    await me.gateway.say("c1", "r1", TextSegment("1.0", "Half of it. All of it."), done=True)
    await expect(me.find("text-segment")).to_have_text("Half of it. All of it.")
    await expect(me.find("message")).to_have_count(1)


async def test_a_message_whose_answer_was_lost_is_sent_again_and_kept_once(me: Visit):
    tries: list[str] = []

    async def lose_the_first_answer(route: Route) -> None:
        tries.append(route.request.url)
        answer = await route.fetch()
        if len(tries) == 1:
            await route.abort()
        else:
            await route.fulfill(response=answer)

    await me.page.route("**/messages", lose_the_first_answer)
    await me.write("once only")
    await me.write("and then this")
    await expect(me.find("message-state")).to_have_text(["Queued", "Queued"])
    assert [heard.text for heard in me.gateway.heard] == ["once only", "and then this"]
    await me.page.unroute_all(behavior="wait")


async def test_the_gateway_may_go_and_come_back(browser: Browser):
    gateway = Gateway()
    async with served(gateway) as site:
        port = int(site.url.rsplit(":", 1)[1])
        me = await visit(browser, site)
        await me.write("before")
        await gateway.say("c1", "r1", TextSegment("1.0", "one", open=True))
        await expect(me.find("text-segment")).to_have_text("one")
    await expect(me.find("connection")).to_have_attribute("data-state", "off")
    await expect(me.find("connection")).to_contain_text("next attempt in")
    await me.find("text").fill("while you were away")
    await me.find("text").press("Enter")
    await expect(me.find("message-state").last).to_contain_text("retrying")
    await gateway.say("c1", "r1", TextSegment("1.0", "one two"), done=True)
    async with served(gateway, port=port):
        await me.connected()
        await expect(me.find("text-segment")).to_have_text("one two")
        await gateway.hear(lambda heard: heard.text == "while you were away")
        await expect(me.find("message-state").last).to_have_text("Queued")
        await expect(me.find("message")).to_have_count(2)
        assert len(gateway.heard) == 2
        await me.page.context.close()
    assert me.troubles == []


async def test_a_lost_connection_goes_on_after_what_the_page_has(me: Visit):
    await me.write("before")
    await me.gateway.say("c1", "r1", TextSegment("1.0", "one", open=True))
    await expect(me.find("text-segment")).to_have_text("one")
    async with me.page.expect_request("**/events?after=*"):
        me.site.cut()
        await expect(me.find("connection")).to_have_attribute("data-state", "off")
        await me.gateway.say("c1", "r1", TextSegment("1.0", "one two", open=True))
    await me.connected()
    await me.gateway.say("c1", "r1", TextSegment("1.0", "one two three"), done=True)
    await expect(me.find("text-segment")).to_have_text("one two three")
    await expect(me.find("message")).to_have_count(1)


async def test_two_windows_show_the_same(me: Visit):
    other = await me.page.context.new_page()
    await other.goto(f"{me.site.url}/#c1")
    await expect(other.get_by_test_id("connection")).to_have_attribute("data-state", "on")
    await me.write("Hello from here")
    await expect(other.get_by_test_id("message")).to_have_text(re.compile("Hello from here"))
    await me.gateway.say("c1", "r1", TextSegment("1.0", "Hello both"), done=True)
    for page in (me.page, other):
        await expect(page.get_by_test_id("text-segment")).to_have_text("Hello both")
        await expect(page.get_by_test_id("message")).to_have_count(1)


async def test_conversations_are_listed_switched_and_begun(me: Visit):
    await me.write("The first one")
    await expect(me.find("title")).to_have_text("The first one")
    await me.find("text").fill("a draft")
    await me.find("new-conversation").click()
    await me.connected()
    await expect(me.find("message")).to_have_count(0)
    await expect(me.find("text")).to_have_value("")
    chat = me.page.url.rsplit("#", 1)[1]
    assert chat != "c1"
    await me.write("The second one", chat=chat)
    await expect(me.find("conversation-title")).to_have_text(["The second one", "The first one"])
    await me.find("conversation", chat="c1").click()
    await expect(me.find("message")).to_have_text(re.compile("The first one"))
    await expect(me.find("text")).to_have_value("a draft")
    await me.page.go_back()
    await expect(me.find("message")).to_have_text(re.compile("The second one"))


async def test_a_command_whose_effect_is_shown_is_no_message(me: Visit):
    await me.find("text").fill("/stop all")
    await me.find("text").press("Enter")
    await me.gateway.hear(lambda heard: (heard.command, heard.text) == ("stop", "all"))
    await expect(me.find("message")).to_have_count(0)
    await me.page.reload()
    await me.connected()
    await expect(me.find("message")).to_have_count(0)


async def test_new_begins_another_conversation_and_the_one_before_goes_on_when_it_is_opened(me: Visit):
    await me.write("Paint the shed")
    await me.gateway.say("c1", "r1", CallSegment("1.1", "shell", "sleep 99", "running"))
    await expect(me.find("stop")).to_be_visible()
    await me.find("text").fill("/new")
    await me.find("text").press("Enter")
    stop = await me.gateway.hear(lambda heard: heard.command == "stop")
    assert stop.address.chat == "c1"
    await me.connected()
    await expect(me.find("message")).to_have_count(0)
    await expect(me.find("text")).to_be_focused()
    chat = me.page.url.rsplit("#", 1)[1]
    await me.write("Cook a soup", chat=chat)
    assert not [heard for heard in me.gateway.heard if heard.command == "new"]
    await expect(me.find("conversation-title")).to_have_text(["Cook a soup", "Paint the shed"])
    await expect(me.find("conversation").locator("time")).to_have_count(2)
    await me.find("find").fill("SHED")
    await expect(me.find("conversation-title")).to_have_text(["Paint the shed"])
    await me.find("find").press("Tab")
    await me.page.keyboard.press("Enter")
    await me.page.reload()
    await expect(me.find("message")).to_have_text(re.compile("Paint the shed"))
    await me.write("And now?")
    await me.find("find").fill("castle")
    await expect(me.find("found")).to_have_text("No title has these words.")


async def test_what_a_program_ended_with_new_is_listed_and_can_be_read(me: Visit):
    await me.write("Paint the shed")
    await me.gateway.say("c1", "r1", TextSegment("1.0", "Painted **green**."), done=True)
    async with me.site.client() as client:
        sent = {"client_id": "program-1", "text": "/new"}
        assert (await client.post("/api/v1/conversations/web:local:c1/messages", json=sent)).status_code == 200
    await expect(me.find("message")).to_have_count(0)
    await me.write("Cook a soup")
    await expect(me.find("conversation-title")).to_have_text(["Cook a soup", "Paint the shed"])
    await me.find("conversation", chat="c1.0").click()
    await expect(me.find("conversation", chat="c1.0")).to_have_attribute("aria-current", "page")
    for _ in range(2):
        await expect(me.find("message")).to_have_text(re.compile("Paint the shed"))
        await expect(me.find("text-segment").locator("strong")).to_have_text("green")
        await expect(me.find("title")).to_have_text("Paint the shed")
        await expect(me.find("composer")).to_be_hidden()
        await expect(me.find("delete-conversation")).to_be_hidden()
        await me.page.reload()
    await me.find("to-current").click()
    await expect(me.find("message")).to_have_text(re.compile("Cook a soup"))
    await expect(me.find("composer")).to_be_visible()
    await me.page.goto(f"{me.site.url}/#c1.7")
    await expect(me.find("problem")).to_have_text("There is nothing here: it may have been deleted.")


async def test_the_page_follows_the_newest_only_while_one_is_at_the_end(me: Visit):
    lines = [f"line {n}" for n in range(200)]
    await me.gateway.say("c1", "r1", TextSegment("1.0", "\n\n".join(lines), open=True))
    await expect(me.find("text-segment").locator("p").last).to_be_in_viewport()
    await me.find("scroller").hover()
    await me.page.mouse.wheel(0, -1500)
    await expect(me.find("to-end")).to_be_visible()
    before = await me.find("scroller").evaluate("box => box.scrollTop")
    await me.gateway.say("c1", "r1", TextSegment("1.0", "\n\n".join([*lines, "the end"])), done=True)
    await expect(me.find("text-segment").locator("p").last).to_have_text("the end")
    assert await me.find("scroller").evaluate("box => box.scrollTop") == before
    await me.find("to-end").click()
    await expect(me.find("text-segment").locator("p").last).to_be_in_viewport()
    await expect(me.find("to-end")).to_be_hidden()


@pytest.mark.parametrize(("way", "newest"), [("wheel", 20), ("keys", 20), ("button", 2)])
async def test_earlier_messages_come_when_one_looks_for_them(browser: Browser, way: str, newest: int):
    async with served(Gateway(), newest=newest) as site:
        for number in range(50):
            await site.gateway.say("c1", f"r{number}", TextSegment("1.0", f"answer {number}\n\nmore of it"), done=True)
        me = await visit(browser, site)
        await expect(me.find("text-segment")).to_have_count(newest)
        await expect(me.find("text-segment").last).to_be_in_viewport()
        looked_at = me.find("reply", reply=f"r{50 - newest}")
        match way:
            case "wheel":
                await me.find("scroller").hover()
                await me.page.mouse.wheel(0, -100_000)
            case "keys":
                await me.find("scroller").focus()
                await me.page.keyboard.press("Home")
            case "button":
                await me.find("more").click()
        await expect(me.find("text-segment")).to_have_count(50)
        await expect(me.find("more")).to_be_hidden()
        await expect(looked_at).to_be_in_viewport()
        texts = await me.find("text-segment").all_inner_texts()
        assert [text.split()[1] for text in texts] == [str(number) for number in range(50)]
        await me.page.context.close()
    assert me.troubles == []


async def test_a_refused_message_says_why_and_a_bad_one_too(browser: Browser):
    async with served(Gateway(refuse="not today"), upload_limit=5_000) as site:
        me = await visit(browser, site)
        await me.write("please")
        await expect(me.find("message-state")).to_have_text("Refused: not today")
        await me.find("files").set_input_files([{"name": "b.bin", "mimeType": "a/b", "buffer": b"x" * 6_000}])
        await me.find("text").press("Enter")
        await expect(me.find("problem")).to_have_text("6 kB in one message; the limit is 5 kB.")
        await me.page.context.close()


async def test_a_long_text_is_sent_whole_and_shown_folded(me: Visit):
    text = "A rather long line of text. " * 4000
    await me.write(text.strip())
    await expect(me.find("message").get_by_role("button")).to_have_text(re.compile("Show all 111,999"))
    await me.find("message").get_by_role("button").click()
    await expect(me.find("message").get_by_role("button")).to_have_count(0)


async def test_shift_enter_is_a_new_line_and_an_empty_message_is_not_sent(me: Visit):
    await me.find("text").press("Enter")
    await me.find("text").press_sequentially("one")
    await me.find("text").press("Shift+Enter")
    await me.find("text").press_sequentially("two")
    await me.find("send").click()
    assert (await me.gateway.hear()).text == "one\ntwo"
    await expect(me.find("text")).to_have_value("")
    assert len(me.gateway.heard) == 1


async def test_on_a_phone_nothing_sticks_out_and_the_list_slides_in(browser: Browser):
    async with served(Gateway()) as site:
        me = await visit(browser, site, viewport={"width": 360, "height": 640}, has_touch=True, color_scheme="dark")
        chart = replace(await me.gateway.media.put(png(1600, 500), "chart.png"), width=1600, height=500)
        wide = "x" * 400 + "\n\n```\n" + "y" * 400 + "\n```\n\n|" + " head |" * 12 + "\n|" + "---|" * 12
        await me.gateway.say(
            "c1",
            "r1",
            MediaSegment("1.0", chart),
            CallSegment("1.1", "a", "z" * 300, "done", "d" * 500),
            TextSegment("1.2", wide),
        )
        await expect(me.find("text-segment")).to_be_visible()
        assert await me.page.evaluate("document.documentElement.scrollWidth") == 360
        assert await me.find("scroller").evaluate("box => box.scrollWidth - box.clientWidth") == 0
        await expect(me.find("sidebar")).to_be_hidden()
        await me.find("open-sidebar").click()
        await expect(me.find("new-conversation")).to_be_in_viewport()
        await me.page.keyboard.press("Escape")
        await expect(me.find("sidebar")).to_be_hidden()
        assert await me.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 29)"
        await me.page.context.close()


async def test_everything_that_can_be_pressed_has_a_name_and_can_be_reached(me: Visit):
    await me.write("hello")
    await me.gateway.say("c1", "r1", CallSegment("1.0", "a", "a call", "running"), TextSegment("1.1", "```\nx\n```"))
    await expect(me.find("copy-code")).to_be_visible()
    nameless = await me.page.evaluate(
        "Array.from(document.querySelectorAll('button, a, textarea'))"
        ".filter(each => each.checkVisibility() && !(each.ariaLabel || each.textContent.trim()))"
        ".map(each => each.outerHTML)"
    )
    assert nameless == []
    reached = set()
    for _ in range(25):
        await me.page.keyboard.press("Tab")
        reached.add(await me.page.evaluate("document.activeElement.dataset.testid ?? document.activeElement.tagName"))
    assert {"new-conversation", "conversation", "text", "attach", "stop", "send", "copy-code", "SUMMARY"} <= reached


async def test_a_page_without_its_cookie_says_what_to_do(browser: Browser):
    async with served(Gateway()) as site:
        page = await browser.new_page()
        await page.goto(site.url, timeout=60_000)
        await expect(page.get_by_role("heading")).to_have_text("Sign-in link required")
        await page.context.close()
        me = await visit(browser, site)
        await me.page.context.clear_cookies()
        site.end_streams()
        await expect(me.find("connection")).to_have_attribute("data-state", "locked")
        await me.page.context.close()
