"""What an edit means in Telegram, through the real SDK and a real gateway."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.stage import gateway, write_settings
from tests.servers.models import ModelServer, Pause, Say
from tests.servers.telegram import BotApi


async def test_a_live_location_that_moves_interrupts_nothing(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    models.script([Say(["You are", Pause(), " in town."])], Say("Near the station."))
    place = {"latitude": 52.5, "longitude": 13.4, "live_period": 900}
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        sent = await ann.send(location=place)
        await ann.hear("You are")
        for step in range(1, 4):
            ann.log[sent["message_id"]] |= {"location": place | {"latitude": 52.5 + step}}
            await ann.edit(sent, None)
        await ann.say("/status")
        await ann.hear("Running")
        models.release()
        await ann.until(lambda ann: "You are in town." in ann.texts)
        ann.log[sent["message_id"]] |= {"location": place | {"latitude": 60}}
        await ann.edit(sent, None)
        await ann.say("and where now?")
        await ann.hear("Near the station.")
    assert [request.disconnected for request in models.requests] == [False, False]
    assert "live location: 52.5, 13.4" in str(models.requests[0].body)


async def test_a_message_that_names_the_bot_once_it_is_edited_is_new(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("It is green."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group()
        sent = await team.say("check the build")
        await team.edit(sent, "@interject_test_bot check the build")
        await team.hear("It is green.")
    assert "check the build" in models.requests[0].messages[-1].text


async def test_an_edit_after_the_answer_is_a_new_question_in_a_private_chat(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Sunny in Rome."), Say("Rain in Oslo."))
    async with gateway(write_settings(tmp_path, api, models)):
        ann = api.private()
        sent = await ann.say("the weather in Rome?")
        await ann.hear("Sunny in Rome.")
        await ann.edit(sent, "the weather in Oslo?")
        await ann.hear("Rain in Oslo.")
    asked = models.requests[1].messages[-1].text
    assert "the weather in Oslo?" in asked
    assert 'Before: "the weather in Rome?"' in asked
