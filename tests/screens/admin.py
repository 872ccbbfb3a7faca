"""The operator page, with what three people have the agent do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import expect

from tests.gateway.stage import gateway, write_settings
from tests.screens.alone import WEIGH
from tests.screens.camera import Camera, keep
from tests.servers.models import Call, ModelServer, Request, Say, Turn, Usage
from tests.servers.telegram import BotApi

SETTINGS = """\
busy = "queue"
pair = true
admins = ["1"]
[models.openai."test"]
price = { input = 1.25, output = 10.0 }
[tools.shell]
approval = "never"
[tools.write_file]
approval = "always"
"""

WEIGHED = "Weigh this week's harvest, orchard by orchard"
NOTED = "Write the frost dates into the calendar"
GREETED = "Which orchard ripens first?"
NEXT = "and send me a chart of it"


async def shoot_admin(camera: Camera, folder: Path, file: Path) -> None:
    (folder / "home" / "workspace").mkdir(parents=True)
    weigh = folder / "home" / "workspace" / "weigh"
    weigh.write_text(WEIGH)
    weigh.chmod(0o755)
    async with (
        asyncio.timeout(180),
        BotApi() as telegram,
        ModelServer() as models,
        gateway(write_settings(folder, telegram, models, more=SETTINGS)) as built,
        camera.window(1180, 980) as page,
    ):
        models.respond(_answer)
        ann, bob, cleo = (telegram.private(7 + n, name) for n, name in enumerate(("Ann", "Bob", "Cleo")))
        cleo.block()
        await cleo.say(GREETED)
        await bob.say(NOTED)
        await bob.hear("May I use")
        await ann.say(WEIGHED)
        await ann.hear("weigh south")
        await ann.say(NEXT)
        assert built.link is not None
        await page.goto(built.link)
        await page.goto(f"http://{urlsplit(built.link).netloc}/admin")
        await expect(page.get_by_test_id("connection")).to_have_text("live")
        for list_, words in (("running", "shell"), ("parked", "write_file"), ("queues", "1 message")):
            await expect(page.get_by_test_id(list_)).to_contain_text(words)
        await expect(page.get_by_test_id("undelivered")).to_contain_text("blocked")
        keep(await page.screenshot(), file)
        (weigh.parent / "go-on").touch()
        await ann.hear("40 t")


def _answer(request: Request) -> Turn:
    text = request.messages[-1].text
    spent = Usage(input=4_000, output=500)
    if request.results:
        return [Say("North has 40 t."), spent]
    if NOTED in text:
        return [Call("write_file", {"path": "calendar.md", "content": "2 May: last frost\n"}), spent]
    if WEIGHED in text:
        return [Call("shell", {"command": "./weigh south"}), spent]
    return [Say("The small one by the lake."), spent]
