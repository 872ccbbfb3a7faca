"""A model without image support gets texts in place of images."""

import pytest

from agent.events import Delta, Waiting
from agent.log import Call, MessagesRead, ModelAnswered, Text, UserMessage
from agent.media import Attachment
from agent.model import ModelError, Request
from agent.models.content import images_in
from agent.models.scripted import Script, ScriptedModel
from agent.models.without_vision import WithoutVisionModel
from agent.transcript import Exchange, Result, Results

CAT = Attachment("abcdef01" + "0" * 56, "cat.png", "image/png", 12)
NOTES = Attachment("1" * 64, "notes.txt", "text/plain", 4)
LOOK = Call("c1", "look", "{}")
SEEN: tuple[Exchange, ...] = (
    MessagesRead(1, (UserMessage(1, "Ann", "Look", (CAT, NOTES)),)),
    ModelAnswered(1, (LOOK,)),
    Results((Result(LOOK, "done", "a cat", (CAT,)),)),
)
BLIND = ModelError("no_vision", "This model does not support pictures.")
LINE = Waiting("openai:x does not support pictures; it gets a text in place of each.")


class Asked:
    """A `WithoutVisionModel` over a script, and the deltas."""

    def __init__(self, *script: Script) -> None:
        self.inner = ScriptedModel(*script)
        self.model = WithoutVisionModel(self.inner, "openai:x")
        self.deltas: list[Delta] = []

    async def ask(self, transcript: tuple[Exchange, ...] = SEEN) -> tuple[object, ...]:
        self.deltas.clear()
        return (await self.model.answer(Request("", transcript), self._on_delta)).parts

    async def _on_delta(self, delta: Delta) -> None:
        if isinstance(delta, Waiting):
            self.deltas.append(delta)


async def test_it_is_asked_again_with_a_sentence_for_each_picture_and_the_person_is_told() -> None:
    asked = Asked(BLIND, "A cat, I am told.")
    assert await asked.ask() == (Text("A cat, I am told."),)
    assert asked.deltas == [LINE]
    read, answered, results = asked.inner.requests[1].transcript
    assert isinstance(read, MessagesRead)
    assert read.messages[0].attachments == (NOTES,)
    assert read.messages[0].text == (
        "Look\n\n[Picture cat.png, in the workspace as received/abcdef01-cat.png cannot be shown to you: "
        "this model does not support pictures]"
    )
    assert answered is SEEN[1]
    assert isinstance(results, Results)
    assert results.results[0].images == ()
    assert results.results[0].text.startswith("a cat\n\n[Picture cat.png cannot be shown to you")


async def test_from_then_on_it_is_not_shown_any_and_nobody_is_told_again() -> None:
    asked = Asked(BLIND, "One.", "Two.")
    await asked.ask()
    assert await asked.ask() == (Text("Two."),)
    assert asked.deltas == []
    assert len(asked.inner.requests) == 3
    assert images_in(asked.inner.requests[2].transcript) == []


async def test_a_picture_without_words_becomes_words_alone() -> None:
    asked = Asked(BLIND)
    await asked.ask((MessagesRead(1, (UserMessage(1, "Ann", "", (CAT,)),)),))
    (read,) = asked.inner.requests[1].transcript
    assert isinstance(read, MessagesRead)
    assert read.messages[0].text.startswith("[Picture cat.png")


async def test_a_model_that_sees_is_shown_what_there_is() -> None:
    asked = Asked("A cat.")
    await asked.ask()
    assert asked.inner.requests[0].transcript is SEEN


async def test_an_error_with_pictures_where_there_are_none_is_raised() -> None:
    asked = Asked(BLIND, "never")
    with pytest.raises(ModelError, match="pictures"):
        await asked.ask((MessagesRead(1, (UserMessage(1, "Ann", "Hello"),)),))
    assert len(asked.inner.requests) == 1


async def test_a_second_error_is_raised_as_it_is() -> None:
    asked = Asked(BLIND, ModelError("server", "broke"))
    with pytest.raises(ModelError, match="broke"):
        await asked.ask()
