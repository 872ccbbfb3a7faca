"""Estimates of what a model has to read, and sums of what was used."""

import pytest

from agent.context.tokens import add_up, estimate_tokens, estimate_transcript, tokens_of
from agent.log import Call, ForeignText, MessagesRead, ModelAnswered, Native, Text, Thinking, Usage, UserMessage
from agent.media import Attachment
from agent.model import Request, ToolSpec
from agent.transcript import Exchange, Result, Results, SystemNote

CAT = Attachment("0" * 64, "cat.png", "image/png", 12)
LOOK = Call("c1", "look", "{}")


def heard(text: str, *files: Attachment) -> MessagesRead:
    return MessagesRead(1, (UserMessage(1, "Ann", text, files),))


def test_four_characters_are_a_token() -> None:
    assert [tokens_of(number) for number in (0, 1, 4, 5)] == [0, 1, 1, 2]


@pytest.mark.parametrize(
    "exchange",
    [
        heard("x" * 4000),
        MessagesRead(1, (UserMessage(1, "Ann", "", foreign=(ForeignText("a message of Eve", "x" * 4000),)),)),
        ModelAnswered(1, (Text("x" * 4000),)),
        ModelAnswered(1, (Thinking("x" * 4000),)),
        ModelAnswered(1, (Call("c", "shell", "x" * 4000),)),
        ModelAnswered(1, (Native("anthropic", "x" * 4000),)),
        Results((Result(LOOK, "done", "x" * 4000),)),
        SystemNote("x" * 4000),
    ],
)
def test_whatever_is_said_counts_by_its_length(exchange: Exchange) -> None:
    assert 1000 <= estimate_transcript([exchange]) <= 1020


def test_pictures_of_people_and_tools_count_alike_and_no_more_of_them_than_are_shown() -> None:
    words = estimate_transcript([heard("Look")])
    assert 1500 <= estimate_transcript([heard("Look", CAT)]) - words <= 1520
    assert 1500 <= estimate_transcript([Results((Result(LOOK, "done", "", (CAT,)),))]) <= 1520
    assert estimate_transcript([heard("Look", *[CAT] * 100)]) < 20 * 1500 + 2000


def test_instructions_and_tools_count_too() -> None:
    tool = ToolSpec("shell", "x" * 400, {"type": "object"})
    assert 150 <= estimate_tokens(Request("x" * 200, (), (tool,))) <= 160


def test_a_sum_is_estimated_when_any_of_it_is() -> None:
    sure, guessed = Usage(1, 2, 3, 4, 5, 0.5), Usage(10, 20, 30, 40, 50, 0.25, estimated=True)
    assert add_up([sure, guessed]) == Usage(11, 22, 33, 44, 55, 0.75, estimated=True)
    assert add_up([sure]) == sure
    assert add_up([]) == Usage()
