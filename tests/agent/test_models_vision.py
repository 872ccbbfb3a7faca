"""Turns with pictures go to the vision model."""

from collections.abc import Sequence

import pytest

from agent.events import Delta, Waiting
from agent.log import Call, MessagesRead, ModelAnswered, Text, UserMessage
from agent.masking import Mask
from agent.media import Attachment
from agent.model import Answer, ModelError, Request
from agent.models.chain import model_chain
from agent.models.fallback import CoolDowns
from agent.models.scripted import ScriptedModel
from agent.transcript import Exchange, Result, Results

PHOTO = Attachment("a" * 64, "cat.png", "image/png", 10, 30, 20)
WORDS = MessagesRead(1, (UserMessage(1, "Ann", "hello"),))
PICTURE = MessagesRead(1, (UserMessage(1, "Ann", "look", (PHOTO,)),))
ANSWERED = ModelAnswered(1, (Text("A cat."),))
CALL = Call("1", "view_image", "{}")
LOOKED = ModelAnswered(1, (CALL,))
SEEN = Results((Result(CALL, "done", "cat.png", (PHOTO,)),))


class Chat:
    def __init__(self, *eyes: Answer | ModelError) -> None:
        self.deltas: list[Delta] = []
        self.models = {name: ScriptedModel(*([Answer((Text(name),))] * 3)) for name in ("main", "other", "sees")}
        self.models["eyes"] = ScriptedModel(*(eyes or (Answer((Text("eyes"),)),)))

    async def asks(self, *transcript: Exchange, model: str = "") -> str:
        """The name of the model that answers."""
        chain = model_chain(
            ["main", "other"], self.models, CoolDowns(), mask=Mask([]), vision="eyes", see=frozenset({"eyes", "sees"})
        )
        answer = await chain.answer(Request("", transcript, model=model), self._on_delta)
        return answer.model

    async def _on_delta(self, delta: Delta) -> None:
        self.deltas.append(delta)


@pytest.mark.parametrize(
    ("transcript", "asked"),
    [
        ([WORDS], "main"),
        ([PICTURE], "eyes"),
        ([WORDS, LOOKED, SEEN], "eyes"),
        ([PICTURE, ANSWERED, WORDS], "main"),
        ([WORDS, LOOKED, SEEN, MessagesRead(2, (UserMessage(2, "Ann", "and?"),))], "eyes"),
        ([LOOKED, SEEN], "eyes"),
    ],
)
async def test_pictures_of_this_turn_count(transcript: Sequence[Exchange], asked: str) -> None:
    assert await Chat().asks(*transcript) == asked


async def test_a_chosen_model_that_sees_is_not_replaced_and_one_that_does_not_is() -> None:
    chat = Chat()
    assert await chat.asks(PICTURE, model="sees") == "sees"
    assert await chat.asks(PICTURE, model="other") == "eyes"


async def test_the_chain_takes_over_from_a_vision_model_that_fails() -> None:
    chat = Chat(ModelError("billing", "no credit"))
    assert await chat.asks(PICTURE) == "main"
    assert [delta.reason for delta in chat.deltas if isinstance(delta, Waiting)] == [
        "The model is not available at the moment; using main instead."
    ]
