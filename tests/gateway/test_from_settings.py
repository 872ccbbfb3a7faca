"""The turn engine built from a real settings file."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.gateway.stage import gateway, write_settings
from tests.servers.models import Call, Fail, ModelServer, Request, Say, Think, Turn, Usage
from tests.servers.telegram import BotApi

KEY = "sk-a-key-that-nobody-may-see"
CHAT = "/api/v1/conversations/web:local:me"

AGENT = 'model = "openai:big"\nsmall_model = "openai:small"\n'
PRICES = "".join(f"[models.openai.{name}]\nprice = {{ input = 10, output = 10 }}\n" for name in ("big", "small"))
"""Dollars per million tokens."""


_numbers = count(1)


class Person:
    """Somebody at the web chat's API, who says something and reads what is on the screen."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def say(self, text: str) -> None:
        message = {"client_id": f"message-{next(_numbers)}", "text": text}
        (await self._client.post(f"{CHAT}/messages", json=message)).raise_for_status()

    async def asks(self, text: str) -> str:
        """What is said to that, once it is all there."""
        before = len(await self.replies())
        await self.say(text)
        return await self.sees(lambda replies: len(replies) > before and replies[-1]["done"])

    async def sees(self, holds: Callable[[list[dict[str, Any]]], bool]) -> str:
        """The newest reply, once this is so of all of them: its parts and its status, a line each."""
        async with asyncio.timeout(60):
            while not holds(replies := await self.replies()):  # noqa: ASYNC110 - it is asked of a server
                await asyncio.sleep(0.02)
        return shown(replies[-1])

    async def presses(self, option: str) -> None:
        """A button of the question that is open, once there is one."""
        await self.sees(lambda replies: bool(replies) and bool(_open_questions(replies[-1])))
        (question,) = _open_questions((await self.replies())[-1])
        number = question["options"].index(option)
        await self.say(f"/answer {question['key']} {number}")

    async def context(self) -> dict[str, Any]:
        context: dict[str, Any] = (await self._client.get(CHAT)).raise_for_status().json()["context"]
        return context

    async def replies(self) -> list[dict[str, Any]]:
        answer = await self._client.get(f"{CHAT}/history")
        items = [] if answer.status_code == 404 else answer.raise_for_status().json()["items"]
        return [item["reply"] for item in items if item["kind"] == "reply"]


def _open_questions(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [segment for segment in reply["segments"] if segment["kind"] == "question" and segment["open"]]


def shown(reply: dict[str, Any]) -> str:
    lines = []
    for segment in reply["segments"]:
        match segment["kind"]:
            case "call":
                lines.append(f"{segment['title']} ({segment['state']}): {segment['detail']}")
            case "question":
                lines.append(f"{segment['question']} {segment['options']} → {segment['answer']}")
            case "media":
                lines.append(f"[{segment['attachment']['name']}] {segment['caption']}")
            case _:
                lines.append(segment["markdown"])
    return "\n".join([*lines, *([f"~ {reply['status']}"] if reply["status"] else [])])


@asynccontextmanager
async def person(
    folder: Path, models: ModelServer, more: str = "", *, agent: str = "", web: str = "", workspaces: str = "shared"
) -> AsyncIterator[Person]:
    """A gateway of which more is set, and somebody who talks to it."""
    (folder / "interject.toml").write_text(
        f'[agent]\n{AGENT}workspaces = "{workspaces}"\n{agent}\n'
        f"[web]\nport = 0\n{web}\n"
        f'[models.openai]\napi_key = "{KEY}"\nbase_url = "{models.openai_url}"\n{PRICES}{more}'
    )
    async with gateway(folder / "interject.toml") as built:
        assert built.link is not None
        origin, _, token = built.link.partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=origin, headers=headers, trust_env=False, timeout=60) as client:
            yield Person(client)


@pytest.fixture
async def models() -> AsyncIterator[ModelServer]:
    """Titles and summaries are asked of `small`, which is never in a script."""
    async with ModelServer(api_key=KEY) as server:
        yield server


def asked(models: ModelServer, name: str) -> list[Request]:
    return [request for request in models.requests if request.model == name]


def answering(*answers: Turn) -> Callable[[Request], Turn]:
    """`big` gives these answers in order, `small` the same one always."""
    script = iter(answers)
    return lambda request: Say("Small words.") if request.model == "small" else next(script)


# Hooks

POLITE = """\
from dataclasses import replace


class Polite:
    async def on_message(self, where, message):
        return replace(message, text=f"{message.text}, please")

    async def before_model(self, where, request):
        return replace(request, notices=(*request.notices, "It is Friday."))
"""

REVIEW = """\
import json, sys

for line in sys.stdin:
    asked = json.loads(line)
    result = {"protocol": 1} if asked["method"] == "initialize" else {"decision": "continue"}
    if asked["method"] == "hook/before_tool" and "sudo" in asked["params"]["subject"]["arguments"]["command"]:
        result = {"decision": "deny", "reason": "nothing as root"}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""

HOOKS = f"""
[[hooks]]
name = "polite"
type = "python"
path = "hooks/polite.py:Polite"
points = ["on_message", "before_model"]
[[hooks]]
name = "review"
type = "process"
command = ["{sys.executable}", "hooks/review.py"]
points = ["before_tool"]
timeout = 60
[[hooks]]
name = "censor"
type = "http"
url = "CENSOR"
secret = "a-secret-of-the-hook"
points = ["before_reply"]
timeout = 60
"""


@pytest.fixture
async def censor() -> AsyncIterator[str]:
    """The address of a hook that replaces a word, where the question is signed."""

    async def answer(question: web.Request) -> web.Response:
        body = await question.read()
        signed = b"v1:" + question.headers["X-Interject-Timestamp"].encode() + b":" + body
        good = hmac.new(b"a-secret-of-the-hook", signed, hashlib.sha256).hexdigest()
        if question.headers["X-Interject-Signature"] != f"v1={good}":
            return web.Response(status=403)
        assert KEY not in body.decode()
        text = json.loads(body)["subject"]["text"].replace("damned", "dear")
        return web.json_response({"decision": "modify", "change": {"text": text}})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_hooks_of_all_three_kinds_stand_where_the_settings_say(
    tmp_path: Path, models: ModelServer, censor: str
) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "polite.py").write_text(POLITE)
    (tmp_path / "hooks" / "review.py").write_text(REVIEW)
    models.respond(answering(Call("shell", {"command": "sudo ls"}), Say(f"I may not: damned rules, and {KEY}.")))
    async with person(tmp_path, models, HOOKS.replace("CENSOR", censor)) as ann:
        reply = await ann.asks("look around")
    assert reply == (
        "shell: sudo ls (denied): Denied by the hook 'review': nothing as root\nI may not: dear rules, and [secret]."
    )
    first, second = asked(models, "big")
    assert [message.text for message in first.messages[1:]] == ["look around, please", "[It is Friday.]"]
    assert list(second.results.values()) == ["Denied by the hook 'review': nothing as root"]


# Tools


async def test_a_tool_has_the_leave_and_the_time_that_the_settings_give_it(tmp_path: Path, models: ModelServer) -> None:
    late, quick = Call("shell", {"command": "sleep 600"}), Call("shell", {"command": "echo here"})
    models.respond(answering(late, Say("Too slow."), quick, Say("Quick.")))
    async with person(tmp_path, models, '[tools.shell]\napproval = "once"\ntimeout = 2\n') as ann:
        await ann.say("wait")
        await ann.presses("Allow for this conversation")
        reply = await ann.sees(lambda replies: replies[-1]["done"])
        assert "→ Allowed for this conversation by You" in reply
        assert "shell: sleep 600 (failed): shell timed out after 2 seconds and was stopped." in reply
        assert (await ann.asks("again")).startswith("shell: echo here (done): here\n")


async def test_a_steered_call_does_what_the_settings_say(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(Call("shell", {"command": "echo begun; sleep 600"}), Say("As you wish.")))
    async with person(tmp_path, models, '[tools.shell]\non_steer = "cancel"\n') as ann:
        await ann.say("wait")
        await ann.sees(lambda replies: bool(replies) and "begun" in shown(replies[-1]))
        await ann.say("never mind")
        reply = await ann.sees(lambda replies: replies[-1]["done"])
    assert reply.startswith("shell: echo begun; sleep 600 (cancelled): Cancelled: a new message arrived")
    assert reply.endswith("As you wish.")


# Limits


async def test_a_limit_asks_in_words_that_add_up_and_what_is_let_go_on_is_counted(
    tmp_path: Path, models: ModelServer
) -> None:
    # An answer is taken to have 1,000 tokens: a cent.
    todos = Call("todos", {"items": [{"text": "count sheep", "state": "doing"}]})
    models.respond(answering([todos, Usage(input=50_000, output=0)], [Say("Counted."), Usage(0, 1_000)]))
    async with person(tmp_path, models, "[limits]\nturn_cost = 0.505\n") as ann:
        await ann.say("count")
        await ann.presses("Continue")
        reply = await ann.sees(lambda replies: replies[-1]["done"])
        assert reply.startswith("**This task has cost $0.50, what comes next costs about $0.0")
        assert reply.endswith(
            " and the limit is $0.51.** Continue anyway? ['Continue', 'Stop here'] → Extended by You\nCounted."
        )
        assert "You, today: $0.51" in await ann.asks("/usage")


# Context


@pytest.mark.parametrize("window", [4000, 8192])
async def test_a_conversation_stays_within_a_small_window_and_is_not_summed_up_all_the_time(
    tmp_path: Path, models: ModelServer, window: int
) -> None:
    # The server counts no tokens, as some do: they are estimated.
    models.respond(lambda request: [Say("Sheep." if request.model == "small" else "baa " * 300), Usage(0, 0)])
    async with person(tmp_path, models, agent=f"context_window = {window}") as ann:
        for number in range(12):
            await ann.asks(f"Count on from {number}. {'x' * 500}")
    assert models.refusals == []
    # Characters, tools and all, at about four a token.
    assert max(len(json.dumps(request.body)) for request in asked(models, "big")) < 4 * window
    summaries = [request for request in asked(models, "small") if "Count on" in request.last_user_text][1:]
    assert summaries
    if window > 4000:
        assert len(asked(models, "big")) >= 3 * len(summaries)
    (last,) = asked(models, "big")[-1:]
    assert "Summary of the earlier conversation" in last.messages[1].text
    assert last.messages[-1].text.startswith("Count on from 11.")


async def test_how_full_the_window_is_goes_by_what_the_provider_counted(tmp_path: Path, models: ModelServer) -> None:
    models.respond(lambda request: [Say("Sheep."), Usage(input=2_000, output=80)])
    async with person(tmp_path, models, agent="context_window = 8000") as ann:
        await ann.asks("Count.")
        assert "Context: 26% of the model's 8,000 tokens." in await ann.asks("/status")
        assert await ann.context() == {"share": 0.26, "window": 8000}


async def test_without_auto_compact_only_people_have_a_conversation_summed_up(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(
        lambda request: Say("Sheep.") if request.model == "small" else [Say("baa " * 300), Usage(7_500, 300)]
    )
    async with person(tmp_path, models, agent="context_window = 8000\nauto_compact = false") as ann:
        for number in range(3):
            await ann.asks(f"Count on from {number}.")
        assert not any("Summarize the older part" in request.system for request in models.requests)
        assert "is summarized for the model" in await ann.asks("/compact")
        await ann.asks("And now?")
    (last,) = asked(models, "big")[-1:]
    assert "Summary of the earlier conversation" in last.messages[1].text
    assert last.messages[-1].text == "And now?"


# Delegated work


async def test_a_delegated_task_is_done_by_a_real_model_and_conversations_only_are_named(
    tmp_path: Path, models: ModelServer
) -> None:
    def respond(request: Request) -> Turn:
        if request.model == "small":
            return Say("Of sheep")
        if "count the sheep" in request.messages[1].text:
            return Say("There are three.")
        return Say("Three sheep.") if request.results else Call("delegate", {"task": "count the sheep"})

    models.respond(respond)
    async with person(tmp_path, models) as ann:
        reply = await ann.asks("how many?")
        await models.until(lambda: bool(asked(models, "small")))
        assert "for 4 model calls" in await ann.asks("/usage")
    assert reply == "delegate: count the sheep (done): There are three.\nThree sheep."
    (title,) = asked(models, "small")
    assert title.last_user_text == "[They: how many?\nYou: Three sheep.]"
    (task,) = [request for request in asked(models, "big") if "count the sheep" in request.messages[1].text]
    assert "ask_user" not in task.tools


# Models


async def test_small_talk_is_routed_another_stands_in_and_one_can_be_chosen(
    tmp_path: Path, models: ModelServer
) -> None:
    models.respond(lambda request: Fail(402) if request.model == "big" else Say(f"I am {request.model}."))
    async with person(tmp_path, models, agent='fallback = ["openai:other"]\nrouting = true') as ann:
        assert await ann.asks("good morning") == "I am small."
        assert await ann.asks("write a poem about the sea") == "I am other."
        assert len(asked(models, "big")) == 1
        assert "Model from the next task on: `openai:small`." in await ann.asks("/model openai:small")
        assert await ann.asks("write another") == "I am small."
        assert "(default)" in await ann.asks("/model default")
        assert await ann.asks("write a third") == "I am other."
    assert len(asked(models, "big")) == 1, "it cools down"


async def test_a_task_that_failed_says_why_and_can_be_tried_again(tmp_path: Path, models: ModelServer) -> None:
    models.respond(answering(Fail(400, message="no such thing"), Say("There you are.")))
    async with person(tmp_path, models) as ann:
        assert (await ann.asks("fetch it")).startswith("⚠️ I could not finish this: ")
        assert await ann.asks("/retry") == "There you are."
    assert [message.text for message in asked(models, "big")[-1].messages[1:]] == ["fetch it"]


# What is shown


def workspace(folder: Path) -> Path:
    place = folder / "home" / "workspace"
    place.mkdir(parents=True)
    return place


async def test_the_key_that_a_tool_prints_reaches_nobody(tmp_path: Path, models: ModelServer) -> None:
    workspace(tmp_path).joinpath("notes.txt").write_text(f"The key is {KEY}.")
    looks, tells = Call("read_file", {"path": "notes.txt"}), [Think(f"So it is {KEY}"), Say(f"It is {KEY}.")]
    models.respond(answering(looks, tells))
    async with person(tmp_path, models, web="show_reasoning = true") as ann:
        reply = await ann.asks(f"is it {KEY}?")
        await models.until(lambda: bool(asked(models, "small")))
    assert "The key is [secret]." in reply
    assert reply.endswith("> So it is [secret]\nIt is [secret].")
    assert [request.model for request in models.requests] == ["big", "big", "small"]
    assert KEY not in json.dumps([request.body for request in models.requests])


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            'activity = "full"\nshow_reasoning = true',
            "A file, then.\n\n• ✓ read_file: notes.txt\n\nNow I know.\n\nHello!",
        ),
        ('activity = "quiet"\nshow_reasoning = true', "A file, then.\n\nNow I know.\n\nHello!"),
        ('activity = "off"', "Hello!"),
    ],
)
async def test_telegram_shows_of_the_work_what_the_settings_say(tmp_path: Path, more: str, text: str) -> None:
    workspace(tmp_path).joinpath("notes.txt").write_text("hello")
    async with BotApi() as api, ModelServer() as models:
        models.script(
            [Think("A file, then."), Call("read_file", {"path": "notes.txt"})], [Think("Now I know."), Say("Hello!")]
        )
        async with gateway(write_settings(tmp_path, api, models, more=more)):
            ann = api.private(user_id=7, name="Ann")
            await ann.say("what does it say?")
            await ann.until(lambda ann: ann.texts == [text])


# A model that is down


async def test_while_a_model_is_down_a_task_waits_and_a_message_or_a_stop_reaches_it(
    tmp_path: Path, models: ModelServer
) -> None:
    def is_waiting(replies: list[dict[str, Any]]) -> bool:
        return bool(replies) and "trying again for up to 10 min." in replies[-1]["status"]

    down = Fail(503, retry_after=120)
    models.respond(answering(down, Say("Both."), down))
    async with person(tmp_path, models) as ann:
        await ann.say("one")
        assert "~ The model is overloaded" in await ann.sees(is_waiting)
        await ann.say("two")
        assert await ann.sees(lambda replies: replies[-1]["done"]) == "Both."
        assert "two" in str(asked(models, "big")[-1].body)
        await ann.say("three")
        await ann.sees(is_waiting)
        await ann.say("/stop")
        assert "Stopped" in await ann.sees(lambda replies: all(reply["done"] for reply in replies))
        assert len(asked(models, "big")) == 3
