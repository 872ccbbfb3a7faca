"""Questions of the agent to people: the tool, and what a call of it asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from agent.log import Call
from agent.tool import Tool, ToolContext, ToolError

ANSWERED = "The person has answered; their words follow."
NAME = "ask_user"
MAX_OPTIONS = 8


class Question(BaseModel, extra="forbid"):
    """What is asked, with the options to choose from, perhaps none."""

    question: Annotated[str, Field(min_length=1, max_length=2000, description="One question, in Markdown.")]
    options: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=80)]],
        Field(default_factory=list, max_length=MAX_OPTIONS, description="Short answers to choose from, if any."),
    ]


async def _never_run(context: ToolContext, question: str, options: list[str]) -> str:
    raise ToolError("a question is answered by people")


ask_user = Tool(
    name=NAME,
    description=(
        "Asks the person a question and waits for their answer, for hours or days if need be. Use it when you cannot "
        "go on without a decision of theirs; give the likely answers as options."
    ),
    arguments=Question,
    run=_never_run,
    effect="external",
    on_steer="finish",
    timeout=60.0,
    asks=True,
)


@dataclass(frozen=True, slots=True)
class Asked:
    question: str
    options: tuple[str, ...]


def asked(call: Call) -> Asked | None:
    """What the call asks people; None if it is no question, or one that cannot be read."""
    if call.name != NAME:
        return None
    try:
        question = Question.model_validate_json(call.arguments or "{}")
    except ValidationError:
        return None
    return Asked(question.question, tuple(question.options))
