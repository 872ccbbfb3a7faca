"""What one act of a person makes in Telegram is read together, through the real SDK and a real gateway."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Message, ModelServer, Request, Say
from tests.servers.telegram import BotApi, Person

EVE = {"id": 66, "is_bot": False, "first_name": "Eve"}
FORWARD = {"forward_origin": {"type": "user", "sender_user": EVE, "date": 1}}
ANN, BOB = Person(7, "Ann"), Person(8, "Bob")


def picture(color: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(out, "PNG")
    return out.getvalue()


def told(request: Request) -> Message:
    """What people said last, as the model was sent it."""
    return [message for message in request.messages if message.role == "user"][-1]


async def test_an_album_under_a_mention_brings_all_its_pictures(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Three colours."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.send_album(map(picture, ("red", "green", "blue")), "@interject_test_bot what is this?")
        await team.hear("Three colours.")
    assert len(models.requests) == 1
    seen = told(models.requests[0])
    assert len(seen.images) == 3
    assert "what is this?" in seen.text


async def test_a_mention_under_the_second_picture_brings_the_first_too_and_captions_name_their_pictures(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Two rooms."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.send_photo(picture("red"), "the kitchen", media_group_id="42")
        await team.say("who has the keys?", sender=BOB)
        bath = picture("blue")
        await team.send_photo(bath, "@interject_test_bot the bath", media_group_id="42")
        await team.hear("Two rooms.")
    seen = told(models.requests[0])
    assert len(models.requests) == 1
    assert len(seen.images) == 2
    kitchen, bathroom = (line for line in seen.text.splitlines() if ": the " in line)
    assert kitchen.endswith(".jpg: the kitchen")
    assert bathroom.endswith(".jpg: the bath")
    assert "keys" not in seen.text


@pytest.mark.parametrize("is_private", [True, False], ids=["private", "group"])
@pytest.mark.parametrize(("cut", "between"), [(4096, ""), (4000, "\n")])
async def test_a_text_that_the_app_cut_in_three_is_one_message(
    tmp_path: Path, api: BotApi, models: ModelServer, is_private: bool, cut: int, between: str
) -> None:
    models.script(Say("A long text."))
    async with gateway(write_settings(tmp_path, api, models)):
        chat = api.private() if is_private else api.group(people=(ANN, BOB))
        first = "@interject_test_bot ".ljust(cut, "a")
        await chat.say(first)
        if not is_private:
            await chat.say("lunch?", sender=BOB)
        await chat.say("b" * cut)
        await chat.say("the end")
        await chat.hear("A long text.")
    assert len(models.requests) == 1
    text = told(models.requests[0]).text
    assert f"a{between}{'b' * cut}{between}the end" in text
    assert "lunch" not in text


async def test_a_long_text_that_names_the_bot_at_its_end_is_heard_from_its_beginning(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Read."))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.say("a" * 4096)
        await team.say("b @interject_test_bot")
        await team.hear("Read.")
    assert f"{'a' * 4096}b" in told(models.requests[0]).text


async def test_what_is_forwarded_with_a_comment_is_heard_with_it(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.respond(lambda request: Say("It says: tea." if "green tea" in str(request.body) else "What?"))
    async with gateway(write_settings(tmp_path, api, models)):
        team = api.group(people=(ANN, BOB))
        await team.say("@interject_test_bot what does this say?")
        await team.say("green tea", **FORWARD)
        await team.say("unrelated", sender=BOB, **FORWARD)
        await team.hear("It says: tea.")
    assert "unrelated" not in str([request.body for request in models.requests])


async def test_a_forward_long_after_the_comment_is_not_for_the_bot(
    tmp_path: Path, api: BotApi, models: ModelServer
) -> None:
    models.script(Say("Hi."), Say("Bye."))
    async with gateway(write_settings(tmp_path, api, models, more="earlier_messages = 0\n")):
        team = api.group(people=(ANN, BOB))
        await team.say("@interject_test_bot hello", date=1_790_000_000)
        await team.hear("Hi.")
        await team.say("green tea", date=1_790_000_009, **FORWARD)
        await team.say("@interject_test_bot bye", date=1_790_000_099)
        await team.hear("Bye.")
    assert "green tea" not in str(models.requests[-1].body)


async def test_posts_of_an_allowed_channel_are_heard(tmp_path: Path, api: BotApi, models: ModelServer) -> None:
    settings = write_settings(tmp_path, api, models)
    settings.write_text(settings.read_text().replace('allow = ["*"]', 'allow = [-1005]\ngroups = "all"'))
    news = {"id": -1005, "type": "channel", "title": "News"}
    channel = api.group("News", chat_id=-1005)
    async with gateway(settings):
        for number in range(1, 8):
            post = {"message_id": number, "date": 1_790_000_000, "chat": news, "sender_chat": news}
            await channel.push_raw({"channel_post": post | {"text": f"post {number}"}})
            await channel.hear(f"post {number}")
