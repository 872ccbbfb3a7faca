"""Searching the web: the real gateway between a chat model and each search service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.stage import gateway, write_settings
from tests.gateway.test_from_settings import person
from tests.gateway.test_images import results, script
from tests.servers.models import Call, ModelServer, Say
from tests.servers.search import KEY, SearchServer
from tests.servers.telegram import BotApi

SERVICES = ("brave", "tavily", "exa", "searxng")


@pytest.fixture
async def found() -> AsyncIterator[SearchServer]:
    async with SearchServer() as server:
        yield server


def searching(found: SearchServer, service: str, key: str = KEY) -> str:
    return f'[tools.web_search]\nprovider = "{service}"\napi_key = "{key}"\nurl = "{found.url}/{service}"\n'


@pytest.mark.parametrize("service", SERVICES)
async def test_the_model_gets_what_a_service_finds_without_its_markup(
    tmp_path: Path, api: BotApi, models: ModelServer, found: SearchServer, service: str
) -> None:
    models.script(Call("web_search", {"query": "tea cake", "count": 2}), Say("Sponge."))
    async with gateway(write_settings(tmp_path, api, models, more=searching(found, service))):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("search")
        await ann.hear("Sponge.")
    (told,) = results(models.requests[1])
    assert "1. Tea & cake\nhttps://tea.example/cake" in told
    assert "The best cake with tea is a sponge." in told
    assert "2. Coffee\nhttps://coffee.example/" in told
    assert "javascript:" not in told
    # Excerpts are bounded, and the model is told whose words they are.
    assert 1_500 < len(told) < 3_000
    assert "https://tea.example/cake" in told.partition("1. Tea")[0]
    assert found.asked == ["tea cake"]


@pytest.mark.parametrize("service", SERVICES)
async def test_nothing_found_is_no_error(
    tmp_path: Path, models: ModelServer, found: SearchServer, service: str
) -> None:
    found.finds = False
    models.respond(script(Call("web_search", {"query": "zzz"}), Say("Nothing.")))
    async with person(tmp_path, models, searching(found, service)) as ann:
        assert "(done): Nothing was found for “zzz”." in await ann.asks("search")


REFUSALS = {
    "too many searches": (429, {"Retry-After": "7"}, "The rate limit of exa is reached. Try again in 7 s."),
    "a plan used up": (402, {}, "The plan at exa is used up."),
    "a fault": (503, {}, "exa has an internal error (503). Please try again."),
    "an odd answer": (200, {}, "is not one of a search"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_is_said_in_words_without_the_key(
    tmp_path: Path, models: ModelServer, found: SearchServer, refusal: str
) -> None:
    *fault, words = REFUSALS[refusal]
    found.fail = fault[0], fault[1]
    models.respond(script(Call("web_search", {"query": "tea"}), Say("No.")))
    async with person(tmp_path, models, searching(found, "exa")) as ann:
        shown = await ann.asks("search")
    assert words in shown
    assert KEY not in shown + str(models.requests[-1].messages)


@pytest.mark.parametrize("service", ["brave", "tavily", "exa"])
async def test_a_wrong_key_is_the_operators_to_check(
    tmp_path: Path, models: ModelServer, found: SearchServer, service: str
) -> None:
    models.respond(script(Call("web_search", {"query": "tea"}), Say("No.")))
    async with person(tmp_path, models, searching(found, service, "wrong-key")) as ann:
        shown = await ann.asks("search")
    assert f"{service} did not accept the API key. The operator of this gateway has to check it." in shown


async def test_a_searxng_server_that_refuses_json_is_the_operators_to_check(
    tmp_path: Path, models: ModelServer, found: SearchServer
) -> None:
    found.json_allowed = False
    models.respond(script(Call("web_search", {"query": "tea"}), Say("No.")))
    async with person(tmp_path, models, searching(found, "searxng")) as ann:
        assert "The operator has to allow the format json in its settings." in await ann.asks("search")


async def test_a_message_ends_a_search_that_hangs(
    tmp_path: Path, api: BotApi, models: ModelServer, found: SearchServer
) -> None:
    found.hangs = True
    models.script(Call("web_search", {"query": "tea"}), Say("Never mind."))
    async with gateway(write_settings(tmp_path, api, models, more=searching(found, "brave"))):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("search")
        await found.arrived.wait()
        await ann.say("no need")
        await ann.hear("Never mind.")
        await found.left.wait()
    assert results(models.requests[1])[0].startswith("Cancelled")


@pytest.mark.parametrize("kind", ["openai-responses", "anthropic"])
async def test_a_model_that_searches_by_itself_gets_no_second_search(
    tmp_path: Path, api: BotApi, models: ModelServer, found: SearchServer, kind: str
) -> None:
    url = models.anthropic_url if kind == "anthropic" else models.openai_url
    own = f'[models.own]\ntype = "{kind}"\napi_key = "test-key"\nbase_url = "{url}"\nweb_search = true\n'
    models.script(Say("Found."))
    settings = write_settings(tmp_path, api, models, model="own:big", more=own + searching(found, "brave"))
    async with gateway(settings):
        ann = api.private(user_id=7, name="Ann")
        await ann.say("search")
        await ann.hear("Found.")
    (request,) = models.requests
    declared = [str(tool.get("type")) for tool in request.body["tools"] if "web_search" in str(tool.get("name", tool))]
    assert len(declared) == 1
    assert declared[0].startswith("web_search")
