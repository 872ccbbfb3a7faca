"""Pictures drawn by an image model: the real gateway between a chat platform, a chat model and an image server."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_from_settings import KEY, person
from tests.security.test_identities import on_slack
from tests.servers.images import Body, Fail, Hang, ImageServer, Late
from tests.servers.models import Call, ModelServer, Request, Say, Turn
from tests.servers.search import KEY as SEARCH_KEY
from tests.servers.search import SearchServer
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi, Chat, Shown

SETTINGS = """\
[tools.generate_image]
model = "{model}"
{more}
[models.draw]
type = "openai"
api_key = "{key}"
base_url = "{url}"
"""

COST = "price = 0.25"


@pytest.fixture
async def images() -> AsyncIterator[ImageServer]:
    async with ImageServer() as server:
        yield server


def drawing(images: ImageServer, model: str = "draw:gpt-image-1", more: str = COST) -> str:
    url = images.gemini_url if "gemini" in more else images.openai_url
    return SETTINGS.format(model=model, more=more, key=images.key, url=url)


def draws(**arguments: object) -> Call:
    return Call("generate_image", {"prompt": "a cat in a tree", **arguments})


def results(request: Request) -> list[str]:
    return [message.text for message in request.messages if message.role == "tool"]


def button_of(chat: Chat) -> tuple[Shown, str] | None:
    """The message with the newest Variation button, and the button's data."""
    found = [
        (shown, str(button["callback_data"]))
        for shown in chat.messages
        for button in shown.buttons
        if button["text"] == "Variation"
    ]
    return found[-1] if found else None


async def test_a_picture_is_shown_where_it_was_drawn_with_its_cost_and_can_be_varied(
    tmp_path: Path, api: BotApi, models: ModelServer, images: ImageServer
) -> None:
    models.script(
        [Say("I draw."), draws(size="landscape", alt="A cat.")],
        Say("Done."),
        draws(prompt="another cat"),
        Say("Again."),
    )
    async with gateway(write_settings(tmp_path, api, models, more=drawing(images))):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("draw a cat")
        await ann.hear("Done.")
        photo = next(shown for shown in ann.messages if shown.photo)
        assert photo.words == "A cat."
        shown, data = await ann.until(button_of)
        assert shown.words == "draw:gpt-image-1, 1536x1024, $0.25"
        await ann.press(shown, data)
        await ann.hear("Again.")
        await ann.say("/usage")
        usage = await ann.hear("This conversation")
        await ann.say("/how")
        how = await ann.hear("The last answer was made by")
    with Image.open(io.BytesIO(photo.photo or b"")) as picture:
        assert picture.size == (64, 64)
    assert "This conversation: $0.50" in usage.words
    assert "generate_image: another cat (draw:gpt-image-1, $0.25)" in how.words.replace("`", "")
    assert "It cost $0.25" in how.words
    name = re.search(r"[\w-]+\.png", results(models.requests[1])[0])
    assert name is not None
    assert f"Draw a variation of the picture {name[0]}." in models.requests[2].messages[-1].text
    assert [asked.values["prompt"] for asked in images.asked] == ["a cat in a tree", "another cat"]
    assert images.refused == api.refusals == []


async def test_on_the_page_and_after_a_restart_a_picture_can_be_varied_but_not_in_a_new_conversation(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    models.respond(script(draws(), Say("Done."), Say("Like this?")))
    async with person(tmp_path, models, drawing(images)) as ann:
        await ann.asks("draw")
    async with person(tmp_path, models, drawing(images)) as ann:
        await ann.presses("Variation")
        await ann.sees(lambda replies: "Like this?" in str(replies))
        drawn = next(reply for reply in await ann.replies() if "Variation" in str(reply))
        (key,) = [segment["key"] for segment in drawn["segments"] if segment["kind"] == "question"]
        await ann.say("/new")
        await ann.sees(lambda replies: bool(replies) and "Variation" not in str(replies))
        await ann.say(f"/answer {key} 0")
        await ann.sees(lambda replies: "belongs to an earlier conversation" in str(replies[-1]))


async def test_a_picture_can_be_drawn_from_earlier_ones(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    def answer(request: Request) -> Turn:
        if request.model == "small":
            return Say("Words.")
        made = [re.findall(r"[\w-]+\.png", result)[0] for result in results(request)]
        return draws(references=made) if len(made) < 3 else Say("Done.")

    models.respond(answer)
    async with person(tmp_path, models, drawing(images)) as ann:
        await ann.asks("draw three")
        (reply,) = await ann.replies()
    assert [asked.path for asked in images.asked] == ["/v1/images/generations", *["/v1/images/edits"] * 2]
    assert [asked.pictures for asked in images.asked] == [(), ((64, 64),), ((64, 64), (64, 64))]
    media = [segment for segment in reply["segments"] if segment["kind"] == "media"]
    assert len({segment["attachment"]["name"] for segment in media}) == 3
    assert images.refused == []


async def test_a_message_ends_the_request_at_once_and_nothing_is_delivered(
    tmp_path: Path, api: BotApi, models: ModelServer, images: ImageServer
) -> None:
    images.faults.append(Hang())
    models.script(draws(), Say("A dog then."))
    async with gateway(write_settings(tmp_path, api, models, more=drawing(images))):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("draw")
        await images.arrived.wait()
        await ann.say("no, a dog")
        await ann.hear("A dog then.")
        await images.left.wait()
        await ann.say("/usage")
        usage = await ann.hear("This conversation")
    assert results(models.requests[1])[0].startswith("Cancelled: a new message arrived")
    assert not any(shown.photo or shown.buttons for shown in ann.messages)
    # Nobody knows whether the provider charges for it.
    assert "This conversation: $0.25" in usage.words
    assert "Partly estimated" in usage.words


FAULTS = {
    "a wrong key": (
        Fail(401, "Incorrect API key provided: sk-right-0123456789.", "invalid_api_key"),
        "did not accept the API key",
    ),
    "content policy": (
        Fail(400, "Your request was rejected by our safety system: swords.", "moderation_blocked"),
        "refused to draw this: its safety system does not allow it. Change the prompt. It says: Your request",
    ),
    "no credit": (Fail(429, "You exceeded your current quota.", "insufficient_quota"), "has no credit left"),
    "too many": (Fail(429, "Rate limit reached.", "rate_limit_exceeded"), "The rate limit of the model's provider"),
    "a fault": (Fail(500, "The server had an error."), "internal error"),
    "a page of a proxy": (Body(b"<html>Sign in</html>"), "answer has no picture"),
    "no picture": (Body(b'{"data": []}'), "answer has no picture"),
    "another file": (Body(b'{"data": [{"b64_json": "bm8gcGljdHVyZQ=="}]}'), "sent something that is no picture"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_what_goes_wrong_at_the_server_is_said_in_words(
    tmp_path: Path, models: ModelServer, images: ImageServer, fault: str
) -> None:
    wrong, words = FAULTS[fault]
    images.faults.append(wrong)
    models.respond(script(draws(), Say("It did not work.")))
    async with person(tmp_path, models, drawing(images)) as ann:
        shown = await ann.asks("draw")
    assert words in shown
    assert "Variation" not in shown
    assert images.key not in shown + str(models.requests[-1].messages)


def script(*answers: Turn) -> Callable[[Request], Turn]:
    given = iter(answers)
    return lambda request: Say("Words.") if request.model == "small" else next(given)


async def test_a_server_that_does_not_answer_is_given_up_and_what_it_may_charge_counts(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    images.faults.append(Hang())
    models.respond(script(draws(), Say("Too slow.")))
    async with person(tmp_path, models, drawing(images, more=f"{COST}\ntimeout = 1")) as ann:
        shown = await ann.asks("draw")
        await images.left.wait()
        usage = await ann.asks("/usage")
    assert "timed out after 1 seconds and was stopped. The provider may have charged for it." in shown
    assert "The last task: $0.25" in usage


async def test_a_picture_that_would_exceed_a_limit_is_not_drawn(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    models.respond(script(draws(), draws(), Say("Enough.")))
    limits = "[limits]\nperson_daily_cost = 0.4\n"
    async with person(tmp_path, models, limits + drawing(images)) as ann:
        shown = await ann.asks("draw")
    assert "Not run: What you asked for today has cost $0.25, what comes next costs about $0.25, and the limit" in shown
    assert len(images.drawn) == 1


KINDS = {
    "tokens at the price of the settings": (
        "draw:gpt-image-1",
        "\n[models.draw.gpt-image-1]\nprice = { input = 10, output = 40 }",
        "1024x1024, $0.04",
    ),
    "an old model": ("draw:dall-e-3", "", "1024x1024"),
    "a quality": ("draw:gpt-image-1", 'quality = "low"', "1024x1024"),
    "Gemini": ("draw:gemini-image", 'protocol = "gemini"', "1:1"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_of_server_is_asked_in_its_own_way(
    tmp_path: Path, models: ModelServer, images: ImageServer, kind: str
) -> None:
    model, more, how = KINDS[kind]
    models.respond(script(draws(size="square"), Say("Done.")))
    text = drawing(images, model, more if "models" not in more else "") + (more if "models" in more else "")
    async with person(tmp_path, models, text) as ann:
        shown = await ann.asks("draw")
    assert f"_{model}, {how}_".replace("-", "").replace(":", "") in re.sub(r"[\\:-]", "", shown)
    assert images.refused == []
    assert len(images.drawn) == 1


async def test_a_picture_at_an_address_is_fetched_without_the_key(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    images.by_address = True
    models.respond(script(draws(), Say("Done.")))
    async with person(tmp_path, models, drawing(images)) as ann:
        await ann.asks("draw")
        (reply,) = await ann.replies()
    assert [segment["kind"] for segment in reply["segments"]].count("media") == 1
    assert images.refused == []


@pytest.mark.parametrize("address", ["{url}/gone.png", "http://127.0.0.1:1/picture.png"])
async def test_a_picture_that_cannot_be_fetched_was_drawn_so_its_cost_counts(
    tmp_path: Path, models: ModelServer, images: ImageServer, address: str
) -> None:
    answer = {"data": [{"url": address.format(url=images.url)}]}
    images.faults.append(Body(json.dumps(answer).encode()))
    models.respond(script(draws(), Say("It did not work.")))
    async with person(tmp_path, models, drawing(images)) as ann:
        shown = await ann.asks("draw")
        usage = await ann.asks("/usage")
    assert "It exists, but cannot be fetched." in shown
    assert "The last task: $0.25" in usage


@pytest.mark.parametrize("host", ["localhost", "[::1]", "169.254.169.254", "2130706433"])
async def test_an_address_in_the_gateways_network_is_not_asked_for_a_picture(
    tmp_path: Path, models: ModelServer, images: ImageServer, host: str
) -> None:
    images.drawn.append(b"a secret of the network")
    address = images.url.replace("127.0.0.1", host) + "/pictures/1.png"
    images.faults.append(Body(json.dumps({"data": [{"url": address}]}).encode()))
    models.respond(script(draws(), Say("It did not work.")))
    async with person(tmp_path, models, drawing(images)) as ann:
        shown = await ann.asks("draw")
    assert "which is not an address of the public internet" in shown


async def test_after_text_from_outside_people_are_asked_before_anything_is_drawn(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    models.respond(script(Call("web_search", {"query": "cake"}), draws(), Say("Done.")))
    async with SearchServer() as found:
        search = f'[tools.web_search]\nprovider = "tavily"\napi_key = "{SEARCH_KEY}"\nurl = "{found.url}/tavily"\n'
        async with person(tmp_path, models, drawing(images) + search) as ann:
            await ann.say("search, then draw")
            await ann.presses("Allow once")
            await ann.sees(lambda replies: replies[-1]["done"])
    assert len(images.drawn) == 1


async def test_neither_drawing_nor_searching_is_offered_unless_it_is_configured(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(script(Say("Nothing.")))
    async with person(tmp_path, models) as ann:
        await ann.asks("hi")
    offered = next(request.tools for request in models.requests if request.model == "big")
    assert not {"generate_image", "web_search"} & set(offered)
    assert KEY not in str(offered)


async def test_a_picture_that_is_drawn_in_the_background_is_counted_for_the_task_that_asked(
    tmp_path: Path, models: ModelServer, images: ImageServer
) -> None:
    images.faults.append(Late(drawn := asyncio.Event()))
    models.respond(script(draws(), Say("It goes on."), Say("There it is.")))
    async with person(tmp_path, models, drawing(images, more=f'{COST}\non_steer = "background"')) as ann:
        await ann.say("draw")
        await images.arrived.wait()
        await ann.say("go on")
        await ann.sees(lambda replies: "It goes on." in str(replies))
        drawn.set()
        await ann.sees(lambda replies: "There it is." in str(replies))
        usage = await ann.asks("/usage")
    assert "This conversation: $0.25" in usage


async def test_on_slack_the_button_asks_for_a_variation_in_the_name_of_who_presses_it(
    tmp_path: Path, slack: Slack, models: ModelServer, images: ImageServer
) -> None:
    ann, gus = slack.person("Ann"), slack.person("Gus")
    access = f'allow = ["{ann.id}"]\nguests = ["{gus.id}"]\n'
    home = on_slack(tmp_path, models, slack, access + drawing(images))
    models.script(draws(), Say("Done."), Say("You may not."))
    art = slack.channel("art", [ann, gus])
    async with home.running():
        await slack.connected()
        thread = art.thread(await art.say(f"{slack.mention} draw", by=ann))
        await thread.hear("Done.")
        shown = next(shown for shown in thread.messages if "Variation" in shown.labels)
        await art.press(shown, "Variation", by=gus)
        await thread.hear("You may not.")
    first, last = models.requests[0], models.requests[-1]
    assert "Draw a variation of the picture" in last.messages[-1].text
    # A guest's task has no tool with effects outside the workspace.
    assert "generate_image" in first.tools
    assert "generate_image" not in last.tools
