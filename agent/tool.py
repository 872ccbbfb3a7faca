"""Tools: typed functions the model may call, with their effect, time limit and steering policy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from agent.arguments import fit_arguments
from agent.background import Background, NoBackground
from agent.log import Usage
from agent.media import Attachment, MediaStore
from agent.model import ToolSpec
from agent.tool_result import ToolResult

Effect = Literal["read", "write", "external"]
"""`read` changes nothing; `write` changes the workspace; `external` can access files and network outside it."""

OnSteer = Literal["cancel", "finish", "background"]
"""What an interjection does to a running call: it is cancelled, completes, or continues in the background, and its
result arrives as a message."""

Approval = Literal["never", "once", "always"]
"""Whether a call needs approval: never, until a person allows the tool for the conversation, or each time."""


TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""A name of a tool as every provider takes it."""


Charge = Callable[[Usage, str], None]
"""Records what a call has used, under the name of the model or service that it was used of."""


class ToolError(Exception):
    """The call failed in a way that the model can act on; the message is its result."""


def _no_charge(usage: Usage, name: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The environment of a running call. `progress` shows people a text, which replaces the previous one.

    `attachments` are the conversation's attachments, newest last, for tools that find them by name. `call_id` is the
    same when the call is repeated after a restart. `background` is the background work, if available. `charge`
    records what the call costs: it counts in the turn's costs and limits, however the call ends.
    """

    workspace: Path
    media: MediaStore
    progress: Callable[[str], Awaitable[None]]
    attachments: tuple[Attachment, ...] = ()
    call_id: str = ""
    background: Background = field(default_factory=NoBackground)
    charge: Charge = _no_charge


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call. `run` is an async function of the context and the arguments; `tool` makes one."""

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[..., Awaitable[ToolResult | str]]
    effect: Effect
    on_steer: OnSteer
    timeout: float
    """Seconds that a call may take."""
    asks: bool = False
    """Whether a call is a question to people: it is not run, and the turn waits for the next message."""
    approval: Approval = "never"
    repeatable: bool = False
    """Whether a call that a restart interrupted may be repeated."""
    compensation: str = ""
    """What to tell the model about undoing a call that was stopped halfway."""
    foreign: bool = False
    """Whether results contain text that none of the people in the conversation has written, such as a web page."""
    runs_code: bool = False
    """Whether a call runs code or commands that the model has written."""
    cost: float = 0.0
    """What a call costs in dollars, approximately. It is run only if that is within the limits of spending."""
    spec: ToolSpec = field(init=False)

    def __post_init__(self) -> None:
        if not TOOL_NAME.fullmatch(self.name):
            raise ValueError(
                f"The tool {self.name!r} cannot have this name: providers take up to 64 of a-z, A-Z, 0-9, _ and -."
            )
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        object.__setattr__(self, "spec", ToolSpec(self.name, self.description, schema))

    def fit(self, arguments: str) -> str:
        """The JSON arguments in the types that the tool declares, where models write others and mean those."""
        return fit_arguments(arguments, self.spec.schema)

    def check(self, arguments: str) -> BaseModel:
        """The parsed JSON arguments. Raises `ToolError` for invalid ones."""
        try:
            return self.arguments.model_validate_json(self.fit(arguments) or "{}")
        except ValidationError as error:
            raise ToolError(_explain(self.name, error, self.arguments.model_fields)) from error

    async def call(self, context: ToolContext, arguments: str) -> ToolResult:
        """Checks the JSON arguments and runs the tool. Raises `ToolError` for invalid arguments."""
        checked = self.check(arguments)
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        result = await self.run(context, **values)
        return ToolResult(result) if isinstance(result, str) else result


def tool(
    *,
    effect: Effect,
    on_steer: OnSteer | None = None,
    timeout: float = 60.0,
    repeatable: bool | None = None,
    compensation: str = "",
    foreign: bool = False,
    runs_code: bool = False,
) -> Callable[[Callable[..., Awaitable[ToolResult | str]]], Tool]:
    """Makes a `Tool` from an async function `(context, typed arguments…)`; its docstring is the tool's description.

    Default of `on_steer`: an interjection cancels a running call that only reads, and lets one with effects finish.
    Default of `repeatable`: a call that only reads may be repeated after a restart, others not.
    `foreign`: results are text from outside; its source is what `ToolResult.foreign` names, else the tool.
    """

    def decorate(function: Callable[..., Awaitable[ToolResult | str]]) -> Tool:
        return Tool(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or ""),
            arguments=_arguments_of(function),
            run=function,
            effect=effect,
            on_steer=on_steer or ("cancel" if effect == "read" else "finish"),
            timeout=timeout,
            repeatable=effect == "read" if repeatable is None else repeatable,
            compensation=compensation,
            foreign=foreign,
            runs_code=runs_code,
        )

    return decorate


def _arguments_of(function: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    _, *parameters = inspect.signature(function).parameters.values()
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _explain(name: str, error: ValidationError, known: Collection[str]) -> str:
    """What is wrong with which argument, and the arguments that there are if one is unknown."""
    problems = error.errors()
    errors = "; ".join(f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in problems)
    is_unknown = any(problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1 for problem in problems)
    arguments = f". The arguments are: {', '.join(known) or 'none'}" if is_unknown else ""
    return f"Invalid arguments for {name}: {errors}{arguments}"
