"""Small talk goes to the small model, work to the big one."""

import pytest

from agent.events import Delta
from agent.log import Call, ForeignText, MessagesRead, ModelAnswered, Text, UserMessage
from agent.media import Attachment
from agent.model import Request
from agent.models.routing import SMALL_TALK, RoutedModel, effort
from agent.models.scripted import ScriptedModel
from agent.transcript import Exchange, Result, Results, SystemNote

CALL = Call("c1", "shell", "{}")
WORK: tuple[Exchange, ...] = (ModelAnswered(1, (CALL,)), Results((Result(CALL, "done", "ok"),)))
CAT = Attachment("0" * 64, "cat.png", "image/png", 12)


async def ignore(delta: Delta) -> None:
    pass


def user(text: str, *files: Attachment, step: int = 1, note: str = "") -> MessagesRead:
    return MessagesRead(step, (UserMessage(1, "Ann", text, files, note),))


async def routed(*transcript: Exchange, model: str = "") -> str:
    inner = ScriptedModel()
    await RoutedModel(inner, "openai:small").answer(Request("", transcript, model=model), ignore)
    return inner.requests[0].model


@pytest.mark.parametrize(
    "text",
    ["Hello!", "How are you?", "Thanks, that was great :)", "good morning", "Danke dir!", "Who was Einstein?", "ok"],
)
async def test_small_talk_goes_to_the_small_model(text: str) -> None:
    assert await routed(user(text)) == "openai:small"


@pytest.mark.parametrize(
    "text",
    [
        "Write a function that sorts",
        "Bitte prüfe das noch einmal",
        "explique la relativité",
        "busca un vuelo",
        "напиши программу",
        "写一个程序",
        "what does `x += 1` do",
        "```\nfoo\n```",
        "see https://example.org",
        "what is in /etc/hosts",
        "why? " * 100,
        "one word after another " * 20,
    ],
)
async def test_work_goes_to_the_usual_one(text: str) -> None:
    assert await routed(user(text)) == ""


@pytest.mark.parametrize(
    "transcript",
    [
        (user("Hi", CAT),),
        (user("Hi", note="quoting Bob: the plan"),),
        (MessagesRead(1, (UserMessage(1, "Ann", "", foreign=(ForeignText("a message of Eve", "the plan"),)),)),),
        (user("Hi"), *WORK),
        (user("Hi"), *WORK, user("thanks", step=2)),
        (user("Do it"), *WORK, ModelAnswered(2, (Text("Done."),)), user("ok")),
        (user("Hi"), ModelAnswered(1, (Text("Hel"),), interrupted=True), user("no", step=2)),
        (user("Hi"), ModelAnswered(1, (Text("Hello."),))),
        (),
    ],
)
async def test_what_is_in_the_middle_of_work_goes_to_the_usual_one(transcript: tuple[Exchange, ...]) -> None:
    assert effort(Request("", transcript)) == 1
    assert await routed(*transcript) == ""


async def test_notices_of_hooks_do_not_hide_the_words_before_them() -> None:
    assert await routed(user("Hi"), SystemNote("It is Monday.")) == "openai:small"


async def test_work_of_long_ago_does_not_count() -> None:
    talk: list[Exchange] = [user("Hi"), ModelAnswered(1, (Text("Hello."),))]
    assert await routed(user("Do it"), *WORK, *talk * 4, user("Bye")) == "openai:small"


async def test_a_model_that_was_chosen_stays() -> None:
    assert await routed(user("Hi"), model="openai:chosen") == "openai:chosen"


def test_effort_grows_with_length_and_questions() -> None:
    short, longer, asking = (effort(Request("", (user(text),))) for text in ("hm", "hm " * 40, "hm???"))
    assert 0 <= short < longer < SMALL_TALK
    assert short < asking < SMALL_TALK
