"""MCP servers that ask people while a call runs (elicitation), in a whole gateway."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.play import until
from tests.gateway.stage import gateway
from tests.gateway.test_agents import ANN, GUS, telegram
from tests.gateway.test_from_settings import KEY, Person, answering, asked, person, shown
from tests.gateway.test_mcp import calls, example, ready
from tests.servers.mcp_example import serve
from tests.servers.models import Call, ModelServer, Say
from tests.servers.telegram import BotApi

ROOT = Path(__file__).parents[2]
ODD = Call("odd_odd", {})
FORM = {
    "type": "object",
    "properties": {
        "size": {"type": "string", "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}]},
        "gift": {"type": "boolean", "title": "As a gift?"},
        "number": {"type": "integer", "minimum": 1, "maximum": 5},
        "mail": {"type": "string", "format": "email"},
        "colours": {"type": "array", "items": {"type": "string", "enum": ["red", "blue", "green"]}},
        "words": {"type": "string", "default": "none"},
    },
    "required": ["size", "gift", "number", "mail", "colours"],
}


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    async with ModelServer(api_key=KEY) as server:
        yield server


def odd(folder: Path, ask: dict[str, Any], rules: str = 'effect = "external"\napproval = "never"\n') -> str:
    """The settings of a server over stdio that asks this."""
    (folder / "ask.json").write_text(json.dumps(ask))
    script = ROOT / "tests" / "servers" / "mcp_odd.py"
    return (
        f'[mcp.odd]\ncommand = ["{sys.executable}", "{script}", "{folder}", "ask"]\nsandbox = "none"\n'
        f"elicitation = true\n[mcp.odd.tools.odd]\nforeign = false\n{rules}"
    )


def form(schema: dict[str, Any], message: str = "What do you want?") -> dict[str, Any]:
    return {"mode": "form", "message": message, "requestedSchema": schema}


async def asks(ann: Person, words: str) -> None:
    """Until a question with these words is open."""
    await ann.sees(
        lambda replies: any(
            each["kind"] == "question" and each["open"] and words in each["question"]
            for each in replies[-1]["segments"]
        )
    )


def answer_of(models: ModelServer) -> dict[str, Any]:
    """What the server was answered, as the model was told."""
    (result,) = asked(models, "big")[-1].results.values()
    answer: dict[str, Any] = json.loads(result)
    return answer


def inbox(folder: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(folder / "home" / "interject.db")) as database:
        return list(database.execute("SELECT text, state, busy FROM inbox WHERE kind = 'new' ORDER BY id"))


async def test_a_form_is_asked_field_by_field_and_wrong_answers_again(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(ODD, Say("Ordered.")))
    async with person(tmp_path, models, odd(tmp_path, form(FORM))) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.presses("Large")
        for question, said in (
            ("As a gift?", "yes"),
            ("**number**", "9"),
            ("at most 5", "two"),
            ("whole number", "3"),
            ("**mail**", "nowhere"),
            ("e-mail address", "ann@example.com"),
            ("commas between", "red, Green"),
        ):
            await asks(ann, question)
            await ann.say(said)
        await asks(ann, "**words**")
        await ann.presses("Skip")
        reply = await ann.sees(lambda replies: replies[-1]["done"] and "Ordered." in shown(replies[-1]))
    content = {
        "size": "l",
        "gift": True,
        "number": 3,
        "mail": "ann@example.com",
        "colours": ["red", "green"],
        "words": "none",
    }
    assert answer_of(models) == {"action": "accept", "content": content}
    assert "→ ann@example.com" in reply
    assert len(asked(models, "big")) == 2
    rows = inbox(tmp_path)
    assert {busy for _, _, busy in rows[1:]} == {"answer"}
    assert {state for _, state, _ in rows[1:]} == {"answered"}


async def test_a_server_of_the_newest_protocol_asks_too(
    tmp_path: Path, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_RECORD", str(tmp_path))
    models.respond(answering(Call("example_order", {"thing": "hat"}), Say("Ordered.")))
    rules = 'elicitation = true\n[mcp.example.tools.order]\napproval = "never"\n'
    async with serve() as url, person(tmp_path, models, example(url, rules)) as ann:
        await ready(ann)
        await ann.say("order a hat")
        await ann.sees(lambda replies: "Which hat?" in shown(replies[-1]))
        await ann.presses("large")
        await ann.sees(lambda replies: "**Number**" in shown(replies[-1]))
        await ann.say("4")
        await ann.sees(lambda replies: replies[-1]["done"] and "Ordered." in shown(replies[-1]))
    assert calls(tmp_path) == ["order hat: large 4"]


@pytest.mark.parametrize(("pressed", "action"), [("Decline", "decline"), ("Cancel", "cancel")])
async def test_people_may_decline_and_cancel(tmp_path: Path, models: ModelServer, pressed: str, action: str) -> None:
    models.respond(answering(ODD, Say("As you wish.")))
    async with person(tmp_path, models, odd(tmp_path, form(FORM))) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.presses(pressed)
        await ann.sees(lambda replies: replies[-1]["done"] and "As you wish." in shown(replies[-1]))
    assert answer_of(models) == {"action": action}


@pytest.mark.parametrize(
    ("rules", "result"),
    [
        ('effect = "read"\n', "Cancelled: a new message arrived while this call was running."),
        ('effect = "external"\napproval = "never"\n', '{"action": "cancel"}'),
    ],
)
async def test_other_words_steer_the_turn_and_end_the_question(
    tmp_path: Path, models: ModelServer, rules: str, result: str
) -> None:
    models.respond(answering(ODD, Say("I tell a joke.")))
    async with person(tmp_path, models, odd(tmp_path, form(FORM), rules)) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.sees(lambda replies: "What do you want?" in shown(replies[-1]))
        await ann.say("forget it, tell me a joke")
        reply = await ann.sees(lambda replies: replies[-1]["done"] and "I tell a joke." in shown(replies[-1]))
        (question,) = [each for each in (await ann.replies())[-1]["segments"] if each["kind"] == "question"]
        assert not question["open"]
    assert result in next(iter(asked(models, "big")[-1].results.values()))
    assert "forget it" in asked(models, "big")[-1].messages[-1].text
    assert "What do you want?" in reply
    assert inbox(tmp_path)[-1] == ("forget it, tell me a joke", "consumed", "steer")


async def test_stop_ends_a_call_that_asks(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(ODD))
    async with person(tmp_path, models, odd(tmp_path, form(FORM))) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.sees(lambda replies: "What do you want?" in shown(replies[-1]))
        await ann.say("/stop")
        await ann.sees(lambda replies: any(reply["done"] and "Stopped" in shown(reply) for reply in replies))
        questions = [each for reply in await ann.replies() for each in reply["segments"] if each["kind"] == "question"]
        assert [question["open"] for question in questions] == [False]
    assert "notifications/cancelled" in (tmp_path / "received").read_text()


async def test_a_question_without_an_answer_is_declined_and_its_time_is_not_the_calls(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(answering(ODD, Say("Nobody said anything.")))
    rules = 'effect = "external"\napproval = "never"\n'
    settings = odd(tmp_path, form(FORM), rules).replace("elicitation", "timeout = 0.9\nelicitation")
    async with person(tmp_path, models, f"[tools]\napproval_expires = 1\n{settings}") as ann:
        await ready(ann)
        await ann.say("order")
        reply = await ann.sees(lambda replies: replies[-1]["done"])
    assert answer_of(models) == {"action": "decline"}
    assert "no answer in time" in reply


async def test_after_a_restart_the_question_is_closed_and_words_are_for_the_turn(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(answering(ODD, Say("It is not known."), Say("Large what?")))
    settings = odd(tmp_path, form(FORM))
    async with person(tmp_path, models, settings, agent="shutdown_grace = 0\n") as ann:
        await ready(ann)
        await ann.say("order")
        await ann.sees(lambda replies: "What do you want?" in shown(replies[-1]))
    async with person(tmp_path, models, settings) as ann:
        await ann.sees(lambda replies: replies[-1]["done"] and "It is not known." in shown(replies[-1]))
        questions = [each for reply in await ann.replies() for each in reply["segments"] if each["kind"] == "question"]
        assert [question["open"] for question in questions] == [False]
        assert await ann.asks("Large") == "Large what?"
    assert "unknown" in next(iter(asked(models, "big")[1].results.values()))


@pytest.mark.parametrize(
    ("field", "about"),
    [
        ("password", {"type": "string"}),
        ("userPin", {"type": "integer"}),
        ("a", {"type": "string", "title": "API key"}),
        ("a", {"type": "string", "description": "Your access token at the bank"}),
        ("a", {"type": "string", "format": "password"}),
    ],
)
async def test_secrets_are_never_asked_for(
    tmp_path: Path, models: ModelServer, field: str, about: dict[str, Any]
) -> None:
    models.respond(answering(ODD, Say("No.")))
    async with person(tmp_path, models, odd(tmp_path, form({"type": "object", "properties": {field: about}}))) as ann:
        await ready(ann)
        await ann.say("order")
        reply = await ann.sees(lambda replies: replies[-1]["done"] and "No." in shown(replies[-1]))
    assert answer_of(models) == {"action": "decline"}
    assert "What do you want?" not in reply


async def test_a_page_is_opened_by_the_person_who_says_so(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(ODD, Say("Paid.")))
    url = "https://pay.example.com/order/7?by=me"
    ask = {"mode": "url", "message": "Please *pay*.", "url": url, "elicitationId": "7"}
    async with person(tmp_path, models, odd(tmp_path, ask)) as ann:
        await ready(ann)
        await ann.say("order")
        question = await ann.sees(lambda replies: "Please" in shown(replies[-1]))
        assert f"**pay.example.com**: <{url}>" in question
        assert r"Please \*pay\*." in question
        await ann.presses("Done")
        await ann.sees(lambda replies: replies[-1]["done"] and "Paid." in shown(replies[-1]))
    assert answer_of(models) == {"action": "accept"}


PAGE = {"mode": "url", "message": "Sign in.", "url": "https://files.example.com/auth", "elicitationId": "auth-1"}


def behind_pages(folder: Path, pages: list[dict[str, Any]]) -> str:
    """The settings of a server that refuses calls until these pages were opened."""
    (folder / "pages.json").write_text(json.dumps(pages))
    return odd(folder, {}).replace('"ask"]', '"page"]')


async def test_a_call_that_needs_a_page_first_shows_it_and_is_made_again(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(ODD, Say("Read.")))
    async with person(tmp_path, models, behind_pages(tmp_path, [PAGE])) as ann:
        await ready(ann)
        await ann.say("read my file")
        await ann.sees(lambda replies: f"<{PAGE['url']}>" in shown(replies[-1]) and "Sign in." in shown(replies[-1]))
        (tmp_path / "opened").touch()
        await ann.presses("Done")
        await ann.sees(lambda replies: replies[-1]["done"] and "Read." in shown(replies[-1]))
    assert list(asked(models, "big")[-1].results.values()) == ["called"]
    assert (tmp_path / "received").read_text().count("tools/call") == 2


@pytest.mark.parametrize(
    ("pages", "change", "presses", "why"),
    [
        ([PAGE], "", "Decline", "has not"),
        ([PAGE], "", "Done", "has to open a page"),
        ([PAGE], "elicitation = true\n", "", "elicitation = true"),
        ([], "", "", "1 to 3 are allowed"),
        ([PAGE] * 4, "", "", "1 to 3 are allowed"),
        ([PAGE | {"url": "http://evil.example.com/"}], "", "", "https address"),
    ],
)
async def test_a_call_whose_page_is_not_opened_fails_with_the_reason(
    tmp_path: Path, models: ModelServer, pages: list[dict[str, Any]], change: str, presses: str, why: str
) -> None:
    models.respond(answering(ODD, Say("No.")))
    settings = behind_pages(tmp_path, pages)
    async with person(tmp_path, models, settings.replace(change, "") if change else settings) as ann:
        await ready(ann)
        await ann.say("read my file")
        if presses:
            await asks(ann, "Sign in.")
            await ann.presses(presses)
        await ann.sees(lambda replies: replies[-1]["done"] and "No." in shown(replies[-1]))
    (result,) = asked(models, "big")[-1].results.values()
    assert why in result


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ({"mode": "url", "message": "Look", "url": "http://evil.example.com/", "elicitationId": "1"}, "https address"),
        (form({"type": "object", "properties": {"a": {"type": "object"}}}), "none of text, number"),
        (form({"type": "object", "properties": {f"a{n}": {"type": "string"} for n in range(21)}}), "21 fields"),
    ],
)
async def test_what_people_cannot_be_asked_is_refused_with_the_reason(
    tmp_path: Path, models: ModelServer, ask: dict[str, Any], why: str
) -> None:
    models.respond(answering(ODD, Say("No.")))
    async with person(tmp_path, models, odd(tmp_path, ask)) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.sees(lambda replies: replies[-1]["done"] and "No." in shown(replies[-1]))
    assert why in answer_of(models)["message"]


async def test_without_the_setting_a_server_cannot_ask(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(ODD, Say("No.")))
    settings = odd(tmp_path, form(FORM)).replace("elicitation = true\n", "")
    async with person(tmp_path, models, settings) as ann:
        await ready(ann)
        await ann.say("order")
        await ann.sees(lambda replies: replies[-1]["done"] and "No." in shown(replies[-1]))
    assert "not supported" in answer_of(models)["message"]


async def test_in_a_group_only_the_one_who_is_asked_answers(tmp_path: Path, models: ModelServer, api: BotApi) -> None:
    models.respond(answering(ODD, Say("Done.")))
    more = odd(tmp_path, form(FORM))
    settings = telegram(tmp_path, models, api, access='allow = ["7", "66"]', more=more)
    settings.write_text(settings.read_text().replace('api_key = "k"', f'api_key = "{KEY}"'))
    async with gateway(settings):
        async with asyncio.timeout(60):
            await until((tmp_path / "home" / "mcp" / "odd.json").exists)
        team = api.group(people=[ANN, GUS])
        await team.say("order", sender=ANN)
        question = await team.hear(lambda shown: "What do you want?" in shown.words and bool(shown.buttons))
        buttons = {button["text"]: button["callback_data"] for button in question.buttons}
        await team.press(question, buttons["Large"], sender=GUS)
        await team.hear("Only the person who started the task is asked this")
        await team.press(question, buttons["Decline"], sender=ANN)
        await team.hear("Done.")
    assert json.loads(next(iter(asked(models, "main")[-1].results.values()))) == {"action": "decline"}
