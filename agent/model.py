"""Models: one coroutine that answers a request and emits deltas meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, get_args

from agent.events import OnDelta
from agent.log import Native, Part, Usage, text_of
from agent.transcript import Exchange

Finish = Literal["stop", "calls", "length", "refused", "other"]

ModelErrorKind = Literal[
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
    """A tool as the model sees it; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


Effort = Literal["off", "minimal", "low", "medium", "high", "max"]
Reasoning = Effort | int
"""How much a model reasons: an effort, or a budget of tokens."""

EFFORTS: tuple[Effort, ...] = get_args(Effort)


def reasoning_from(text: str) -> Reasoning | None:
    """The effort or the budget that a text names; None if it names none."""
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    return next((effort for effort in EFFORTS if effort == text), None)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of one request; None leaves a value to the provider. `max_tokens` limits the answer.

    `reasoning` is the effort, or a budget of tokens; each provider is sent the one of the two that it takes.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    reasoning: Reasoning | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None

    def over(self, defaults: ModelSettings) -> ModelSettings:
        """These settings, with those of `defaults` where they leave a value open."""
        return ModelSettings(
            *(
                getattr(defaults if getattr(self, field.name) is None else self, field.name)
                for field in fields(ModelSettings)
            )
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model: the whole conversation, oldest first, and the available tools.

    `text_only`: the answer must not call tools. The tools are sent anyway, because some providers reject a conversation
    with calls of tools that are not declared. `model` is the preferred model, by its name in the settings
    ("openai:gpt-5"); "" for the default. `continues`: the answer goes on where the last one in the transcript was cut
    off.
    """

    instructions: str
    transcript: Sequence[Exchange]
    tools: tuple[ToolSpec, ...] = ()
    text_only: bool = False
    model: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `parts` are in the model's order."""

    parts: tuple[Part, ...]
    usage: Usage = field(default_factory=Usage)
    finish: Finish = "stop"
    model: str = ""

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def has_steps(self) -> bool:
        """Whether tools that the provider runs itself have done something."""
        return any(isinstance(part, Native) and part.summary for part in self.parts)


class ModelError(Exception):
    """The model could not answer. The message tells a person what happened and what to do.

    `kind` is the kind of error; `retry_after` is in seconds, if the provider gave it. `was_answer`: the model did
    answer, and what it sent is of no use. `detail` is what the provider says itself, without secrets, "" if nothing;
    `status` is the HTTP status, 0 if there is none.
    """

    def __init__(
        self,
        kind: ModelErrorKind,
        message: str,
        *,
        retry_after: float | None = None,
        was_answer: bool = False,
        detail: str = "",
        status: int = 0,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after
        self.was_answer = was_answer
        self.detail = detail
        self.status = status

    def saying(self, message: str, *, detail: str | None = None) -> ModelError:
        """The same error in other words; `detail` None: the same."""
        return ModelError(
            self.kind,
            message,
            retry_after=self.retry_after,
            was_answer=self.was_answer,
            detail=self.detail if detail is None else detail,
            status=self.status,
        )


class Model(Protocol):
    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        """Answers the request and passes each piece to `on_delta` as it arrives. Raises `ModelError`.

        Cancelling ends the request at the provider at once; the deltas so far are then all there is.
        """
