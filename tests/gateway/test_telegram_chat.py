"""Chatting with the gateway in Telegram, through the real SDK, with a model behind a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from benchmarks.meter import commits_in
from tests.gateway.play import until
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi


async def test_a_message_is_answered(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script(Say("Good **morning**"))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("hi")
        shown = await ann.hear("Good morning")
    assert shown.html == "Good <b>morning</b>"
    assert len(ann.messages) == 1
    assert api.refusals == []
    assert models.refusals == []


async def test_a_plain_message_takes_four_commits_until_it_is_delivered(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    async with gateway(write_settings(tmp_path, api, models)) as built:
        ann, delivery = api.private(user_id=7, name="Ann"), built.gateway.delivery
        commits = []
        for _ in range(3):
            await ann.say("hi")
            await until(lambda: len(ann.messages) == len(commits) + 1 and not delivery.waiting())
            commits.append(commits_in(tmp_path / "home"))
    assert commits[2] - commits[1] <= 4


async def test_a_message_in_the_middle_of_an_answer_steers_it(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["One two", Pause(), " three"])], Say("Five ten"))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("count")
        await ann.hear("One two")
        await ann.say("in fives please")
        await ann.until(lambda ann: ann.texts == ["One two\n\n⏸ interrupted", "Five ten"])
    first, second = models.requests
    assert first.disconnected
    assert [message.text for message in second.messages if message.role == "user"][-1].endswith("in fives please")


async def test_a_picture_made_by_a_tool_arrives_where_it_was_made(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    chart = {"kind": "bar", "title": "Fruit", "labels": ["a", "b"], "series": [{"name": "n", "values": [1, 2]}]}
    models.script([Say("Here it comes."), Call("draw_chart", chart)], Say("There it is."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("draw")
        await ann.hear("There it is.")
    texts = [message.text or f"photo {len(message.photo) > 1000}" for message in ann.messages]
    assert texts == ["Here it comes.", "photo True", "There it is."]


async def test_status_in_another_place_says_what_is_wrong_with_telegram(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    api.fail_next("getUpdates", 409, times=100)
    async with gateway(write_settings(tmp_path, api, models)) as built:
        # One may be the last poll of a worker that has just stopped.
        await api.until(lambda api: len(api.refusals) > 2)
        base, token = str(built.link).split("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with asyncio.timeout(60), httpx.AsyncClient(base_url=base, headers=headers, timeout=20) as web:
            post = {"text": "/status", "client_id": "status-please"}
            assert (await web.post("/api/v1/conversations/web:local:here/messages", json=post)).status_code == 200
            async with web.stream("GET", "/api/v1/conversations/web:local:here/events") as events:
                async for line in events.aiter_lines():
                    if "another program polls with the same token" in line:
                        break


async def test_a_stop_button_that_is_pressed_twice_stops_once(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["One two", Pause()])])
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("count")
        shown = await ann.hear("One two")
        button = shown.buttons[0]["callback_data"]
        for _ in range(2):
            await ann.press(shown, button, stale=True)
        await ann.until(lambda ann: len(ann.texts) == 3)
        told = sorted(ann.texts)[1:]
        assert told[0].startswith("Stopped: the model is answering, step 1, for ")
        assert told[1] == "That task is being stopped already."


@pytest.mark.parametrize(
    ("size", "reason"),
    [(30_000_000, "it is larger than the 20 MB that Telegram lets bots download"), (5, "Telegram rejects it: ")],
)
async def test_a_file_that_is_not_available_is_named_once(
    tmp_path: Path, api: BotApi, models: ModelServer, size: int, reason: str
) -> None:
    models.script(Say("I see."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private(user_id=7, name="Ann")
        sent = await ann.send_document(b"x" * size, name="film.mp4")
        if size == 5:
            sent["document"]["file_id"] = "lost"
        told = await ann.hear("not available")
        assert told.words.startswith(f"⚠️ The file film.mp4 is not available: {reason}")
        assert told.words.count("film.mp4") == 1
