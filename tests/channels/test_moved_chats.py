"""Ids that platforms exchange: the conversation goes on under the new one, through the real SDKs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.schedules import Timing
from channels.address import Address, Sender
from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, ModelServer, Pause, Say
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

MENTION = "@interject_test_bot"


def words_of_people(models: ModelServer) -> str:
    return "\n".join(message.text for message in models.requests[-1].messages if message.role == "user")


async def test_a_supergroup_continues_the_conversation_of_its_group(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Noted."), Say("Blue."), Say("Still blue."))
    file, group = write_settings(tmp_path, api, models), api.group()
    async with gateway(file):
        await group.say(f"{MENTION} my color is blue")
        await group.hear("Noted.")
        new = await group.migrate()
        await new.say(f"{MENTION} which color?")
        await new.hear("Blue.")
    assert "my color is blue" in words_of_people(models)
    async with gateway(file):
        await new.say(f"{MENTION} and now?")
        await new.hear("Still blue.")
    assert "my color is blue" in words_of_people(models)


async def test_an_answer_follows_a_group_whose_new_id_is_learnt_when_it_is_sent(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Pause(), Say("Here it is.")], Say("Again."))
    file, group = write_settings(tmp_path, api, models), api.group()
    async with gateway(file):
        await group.say(f"{MENTION} find it")
        await models.until_held()
        new = await group.migrate(told=False)
        models.release()
        await new.hear("Here it is.")
        await new.say(f"{MENTION} once more")
        await new.hear("Again.")
    assert "find it" in words_of_people(models)
    assert group.texts == []


async def test_people_in_the_supergroup_steer_the_turn_that_began_in_the_group(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script([Say(["One two", Pause()])], Say("Five ten."))
    file, group = write_settings(tmp_path, api, models), api.group()
    async with gateway(file):
        await group.say(f"{MENTION} count")
        await group.hear("One two")
        new = await group.migrate()
        await new.say(f"{MENTION} in fives")
        await new.hear("Five ten.")
    assert len(models.requests) == 2
    assert "count" in words_of_people(models)


@pytest.mark.parametrize("pressed", [True, False], ids=["button", "words"])
async def test_an_open_question_of_the_group_is_answered_in_the_supergroup(
    tmp_path: Path, api: BotApi, models: ModelServer, *, pressed: bool
) -> None:
    question = {"question": "Which color?", "options": ["red", "blue"]}
    models.script([Call("ask_user", question)], Say("Blue it is."))
    file, group = write_settings(tmp_path, api, models), api.group()
    async with gateway(file):
        await group.say(f"{MENTION} paint it")
        shown = await group.hear("Which color?")
        await group.until(lambda _: [button["text"] for button in shown.buttons] == ["red", "blue"])
        new = await group.migrate()
        if pressed:
            await group.press(shown, shown.buttons[1]["callback_data"])
        else:
            await new.say(f"{MENTION} blue")
        await new.hear("Blue it is.")
    assert len(models.requests[1].results) == 1
    assert "blue" in "\n".join([*models.requests[1].results.values(), words_of_people(models)])


async def test_a_supergroup_that_spoke_first_gets_the_history_of_its_group(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Noted."), Say("Which color?"), Say("Blue."))
    file, group = write_settings(tmp_path, api, models), api.group()
    async with gateway(file) as built:
        await group.say(f"{MENTION} my color is blue")
        await group.hear("Noted.")
        new = await group.migrate(told=False)
        await new.say(f"{MENTION} paint it")
        await new.hear("Which color?")
        await new.until(lambda new: new.messages[-1].buttons == [])
        there, place = f"telegram/123456/{new.id}", Address("telegram", "123456", str(new.id), kind="group")
        ann, later = Sender("7", "Ann"), datetime.now(UTC) + timedelta(days=1)
        await built.gateway.schedules.add(there, place, ann, "test", "Paint it.", later, Timing())
        await built.gateway.memories.add(place, there, ann, "test", "Ann likes blue.")
        await group.send(migrate_to_chat_id=new.id)
        await new.say(f"{MENTION} mine")
        await new.hear("Blue.")
        await new.say(f"{MENTION} /schedules")
        await new.hear("Paint it.")
        await new.say(f"{MENTION} /memory")
        await new.hear("Ann likes blue.")
        assert await built.gateway.schedules.of(there) == ()
    heard = words_of_people(models)
    assert "my color is blue" in heard
    assert "paint it" in heard


async def test_a_slack_channel_with_another_id_is_the_same_conversation(tmp_path: Path, models: ModelServer) -> None:
    models.script(Say("Noted."), Say("Blue."))
    async with Slack() as server:
        file = tmp_path / "interject.toml"
        file.write_text(
            f'[agent]\nmodel = "openai:test"\n[models.openai]\napi_key = "test-key"\nbase_url = "{models.openai_url}"\n'
            f'[web]\nenabled = false\n[channels.slack]\nbot_token = "{server.bot_token}"\n'
            f'app_token = "{server.app_token}"\napi_url = "{server.api_url}"\nallow = ["*"]\n'
        )
        channel = server.channel("team", ["Ann", "Bob"])
        async with gateway(file):
            said = await channel.say(f"<@{server.me.id}> my color is blue")
            await channel.hear("Noted.")
            await channel.change_id()
            await channel.say("which color?", thread=said["ts"])
            await channel.hear("Blue.")
    assert "my color is blue" in words_of_people(models)
