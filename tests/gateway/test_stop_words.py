"""A running task is stopped in words: by a message that says nothing else, from people who may stop it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway.inbound.stop_words import asks_to_stop
from tests.gateway.play import until
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.telegram import BotApi, Person

ANN, BOB = Person(7, "Ann"), Person(8, "Bob")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "stop",
            "Stop!",
            "STOP",
            " stop. ",
            "stop stop stop!!!",
            "Please stop.",
            "stop, please",
            "cancel that",
            "abort",
        ),
        *(
            "Stopp!",
            "Hör auf!",
            "AUFHÖREN",
            "Arrête !",
            "arrete",
            "¡Para!",
            "detente",
            "🛑",
            "✋",
            "🛑\N{VARIATION SELECTOR-16}",
        ),
    ],
)
def test_phrases_that_stop(text: str) -> None:
    assert asks_to_stop(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "wait",
            "no",
            "stop after this and draw a chart",
            "stop the server",
            "do not stop",
            "don't stop",
            "stop?s",
        ),
        *("nonstop", "cancel my subscription", "bus stop", "para mañana", "it stopped", "🛑 is a stop sign", "👍"),
    ],
)
def test_words_that_are_for_the_agent(text: str) -> None:
    assert not asks_to_stop(text)


@pytest.mark.parametrize("busy", ["steer", "queue", "collect", "interrupt"])
async def test_a_shell_command_is_ended_by_the_word_stop(
    tmp_path: Path, api: BotApi, models: ModelServer, busy: str
) -> None:
    models.script(Call("shell", {"command": "touch begun; sleep 600; touch ended"}), Say("never"))
    settings = write_settings(tmp_path, api, models, more=f'busy = "{busy}"\n[tools.shell]\napproval = "never"\n')
    async with gateway(settings), asyncio.timeout(60):
        ann = api.private()
        await ann.say("run it")
        await until(lambda: (tmp_path / "home" / "workspace" / "begun").exists())
        await ann.say("Stop!")
        await ann.hear("⏹ Stopped.")
        await ann.hear("Stopped: shell, step 1")
        assert len(models.requests) == 1


async def test_in_a_group_the_mention_is_no_other_word(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["One two", Pause()])], Say("I am told to stop."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.say("@interject_test_bot count")
        await team.hear("One two")
        await team.say("@interject_test_bot stop")
        await team.hear("Stopped: the model is answering")
        assert len(models.requests) == 1


async def test_of_others_in_a_group_it_is_a_message(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["One two", Pause()])], Say("Bob wants me to stop."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.say("@interject_test_bot count")
        await team.hear("One two")
        await team.say("@interject_test_bot stop", sender=BOB)
        await team.hear("Bob wants me to stop.")


async def test_a_program_is_told_that_it_was_a_stop_unless_it_sends_a_message(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Say(["One", Pause()])], [Say(["Two", Pause()])])
    async with gateway(write_settings(tmp_path, api, models)) as built, asyncio.timeout(60):
        base, token = str(built.link).split("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        messages = f"{base}/api/v1/conversations/web:local:here/messages"
        async with httpx.AsyncClient(headers=headers, timeout=30) as web:

            async def send(id: str, text: str, **more: str) -> object:
                answer = await web.post(messages, json={"client_id": id, "text": text, **more})
                return answer.json()["command"]

            assert await send("client-1", "count") is None
            await models.until(1)
            assert await send("client-2", "stop", **{"as": "message"}) is None
            await models.until(2)
            assert await send("client-3", "stop") == "stop"
            assert await send("client-3", "stop") == "stop"
            assert len(models.requests) == 2
