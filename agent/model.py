"""Models as the turn loop sees them: one coroutine that answers, telling its deltas on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agent.events import OnDelta
from agent.log import Part, Usage
from agent.transcript import Exchange

Finish = Literal["stop", "calls", "length", "refused", "other"]

ModelTrouble = Literal[
    "overloaded",
    "rate_limit",
    "timeout",
    "network",
    "server",
    "auth",
    "billing",
    "refused",
    "too_long",
    "no_vision",
    "bad_request",
]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is to answer; None leaves it to the provider. `max_tokens` bounds the answer."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: the whole conversation, oldest first, and the tools there are.

    `text_only`: the answer must not call tools. They are named all the same, since a conversation that holds calls is
    refused by some providers when their tools are not. `model` asks this one first, by its name in the settings
    ("openai:gpt-5"); "" leaves the choice to whoever is asked.
    """

    instructions: str
    transcript: Sequence[Exchange]
    tools: tuple[ToolSpec, ...] = ()
    text_only: bool = False
    model: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer. `parts` keep the order in which the model gave them."""

    parts: tuple[Part, ...]
    usage: Usage = field(default_factory=Usage)
    finish: Finish = "stop"
    model: str = ""


class ModelError(Exception):
    """The model could not answer. The message is for the person: what happened and what to do.

    `trouble` is its class, `retry_after` seconds where the provider named them.
    """

    def __init__(self, trouble: ModelTrouble, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.retry_after = retry_after


class Model(Protocol):
    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        """Answers, telling each piece of text as it comes. Raises `ModelError`.

        Cancelling it ends the request at the provider at once; what was told until then is all there is.
        """
