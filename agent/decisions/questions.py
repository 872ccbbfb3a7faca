"""Questions of the agent to people: the tool `ask_user` and its calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from agent.log import Call
from agent.tool import Tool, ToolContext, ToolError

ANSWERED = "The person has answered; the answer follows."
NAME = "ask_user"
MAX_OPTIONS = 8


class Question(BaseModel, extra="forbid"):
    """The arguments: the question and its options, possibly none."""

    question: Annotated[str, Field(min_length=1, max_length=2000, description="One question, in Markdown.")]
    options: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=80)]],
        Field(default_factory=list, max_length=MAX_OPTIONS, description="Short answers to choose from, if any."),
    ]


async def _never_run(context: ToolContext, question: str, options: list[str]) -> str:
    raise ToolError("only people answer a question")


ask_user = Tool(
    name=NAME,
    description=(
        "Asks the person a question and waits for the answer, for hours or days if necessary. Use it when you cannot "
        "continue without their decision; give the likely answers as options."
    ),
    arguments=Question,
    run=_never_run,
    effect="external",
    on_steer="finish",
    timeout=60.0,
    asks=True,
)


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    question: str
    options: tuple[str, ...]


def parse_question(call: Call) -> AskedQuestion | None:
    """The question that the call asks; None if it is no question or has invalid arguments."""
    if call.name != NAME:
        return None
    try:
        question = Question.model_validate_json(call.arguments or "{}")
    except ValidationError:
        return None
    return AskedQuestion(question.question, tuple(question.options))
