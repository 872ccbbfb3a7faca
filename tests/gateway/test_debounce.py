"""Several quick lines get one answer where the operator says so; nothing else waits."""

from __future__ import annotations

import asyncio
import io
import signal
from pathlib import Path
from time import monotonic

import pytest
from PIL import Image

from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_kill import process
from tests.servers.models import Call, ModelServer, Request, Say, Wait
from tests.servers.telegram import BotApi

LONG = "debounce = 30\n"
SOON = 15
"""Seconds: what is answered by then did not wait."""


def lines(request: Request) -> str:
    return "\n".join(message.text for message in request.messages if message.role == "user")


async def stored(api: BotApi) -> None:
    """Only what is stored is confirmed."""
    await api.until(lambda api: api.confirmed_offset > 1 and not api.updates.queue)


async def test_quick_lines_are_read_together(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    asked_at: list[float] = []

    def answer(_: Request) -> Say:
        asked_at.append(monotonic())
        return Say("All read.")

    models.respond(answer)
    async with gateway(write_settings(tmp_path, api, models, more="debounce = 1\n")):
        ann = api.private()
        for line in ("one", "two", "three"):
            said_at = monotonic()
            await ann.say(line)
        await ann.hear("All read.")
    assert len(models.requests) == 1
    assert asked_at[0] - said_at >= 1
    assert all(line in lines(models.requests[0]) for line in ("one", "two", "three"))


async def test_a_picture_and_the_line_after_it_are_read_together(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("A red one."))
    out = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(out, "PNG")
    async with gateway(write_settings(tmp_path, api, models, more="debounce = 1\n")):
        ann = api.private()
        await ann.send_photo(out.getvalue())
        await stored(api)
        await ann.say("which colour?")
        await ann.hear("A red one.")
    assert len(models.requests) == 1
    assert "which colour?" in lines(models.requests[0])
    assert [len(message.images) for message in models.requests[0].messages if message.images] == [1]


async def test_without_the_setting_the_first_line_is_answered_at_once(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.respond(lambda request: Say("Both." if "two" in lines(request) else "One."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        await ann.say("one")
        await ann.hear("One.")
        await ann.say("two")
        await ann.hear("Both.")


async def test_a_command_does_not_wait(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    async with gateway(write_settings(tmp_path, api, models, more=LONG)):
        ann = api.private()
        await ann.say("one")
        await ann.say("/help")
        await ann.hear("/stop", timeout=SOON)


async def test_a_message_to_a_running_turn_does_not_wait(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.respond(lambda request: Say("Read it.") if "hurry" in lines(request) else [Say("Well"), Wait(60)])
    async with gateway(write_settings(tmp_path, api, models, more=LONG)):
        ann = api.private()
        await ann.say("/queue begin")
        await ann.hear("Well", timeout=SOON)
        await ann.say("hurry")
        await ann.hear("Read it.", timeout=SOON)


async def test_an_answer_to_a_question_does_not_wait(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    ask = Call("ask_user", {"question": "Tea or coffee?", "options": ["Tea", "Coffee"]})
    models.respond(lambda request: Say("Here you are.") if "neither" in str(request.body) else ask)
    async with gateway(write_settings(tmp_path, api, models, more=LONG)):
        ann = api.private()
        await ann.say("/queue a drink")
        await ann.hear("Tea or coffee?", timeout=SOON)
        await ann.say("neither")
        await ann.hear("Here you are.", timeout=SOON)


async def test_who_goes_on_writing_is_answered_all_the_same(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.respond(lambda _: Say("I am here."))
    async with gateway(write_settings(tmp_path, api, models, more="debounce = 0.3\n")):
        ann = api.private()
        began_at = monotonic()
        while not models.requests:
            await ann.say("and")
            await asyncio.sleep(0.1)
        assert monotonic() - began_at >= 5 * 0.3
        await ann.hear("I am here.")


@pytest.mark.crash
async def test_a_line_that_waits_survives_a_crash(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.respond(lambda _: Say("I am back."))
    settings = write_settings(tmp_path, api, models, more=LONG)
    ann = api.private()
    async with process(settings) as running:
        await ann.say("one")
        await stored(api)
        running.send_signal(signal.SIGKILL)
        await running.wait()
    assert models.requests == []
    async with process(settings):
        await ann.hear("I am back.", timeout=SOON)
    assert "one" in lines(models.requests[0])
