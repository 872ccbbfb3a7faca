"""Tools: typed functions the model may call, with their effect, time limit and steering policy."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, Literal, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from agent.arguments import fit_arguments
from agent.background import Background, NoBackground
from agent.hook import HookContext
from agent.log import InputEnded, InputKind, Usage
from agent.media import Attachment, MediaStore
from agent.memory import Memory, NoMemory
from agent.model import Answer, Request, ToolSpec
from agent.schedules import NoSchedules, Schedules
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


AskModel = Callable[[Request], Awaitable[Answer]]
"""Asks the turn's model. Raises `ToolError` if it may not be asked (again), and if it does not answer."""


class AskPerson(Protocol):
    async def __call__(self, question: str, options: Sequence[str], takes: InputKind) -> InputEnded:
        """Asks the person who began the turn, in Markdown, and waits while the call runs. Raises `ToolError` where
        nobody can be asked."""


class ToolError(Exception):
    """The call failed in a way that the model can act on; the message is its result."""


def _no_charge(usage: Usage, name: str) -> None:
    return None


async def _no_model(request: Request) -> Answer:
    raise ToolError("There is no model that can be asked here.")


async def _nobody(question: str, options: Sequence[str], takes: InputKind) -> InputEnded:
    raise ToolError("Nobody can be asked here.")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The environment of a running call. `progress` shows people a text, which replaces the previous one.

    `attachments` are the conversation's attachments, newest last, for tools that find them by name. `call_id` is the
    same when the call is repeated after a restart. `background` is the background work, if available. `charge`
    records what the call costs: it counts in the turn's costs and limits, however the call ends. `settings` are the
    tool's own, if it has a model for them. `tools` are all those that the turn may call. `asked_by` is where the turn
    is, and who began it; `others_wrote`: it has read messages of other people, too. `ask_model` asks the turn's model,
    at the turn's expense, while the call runs, and `ask_person` the person who began the turn. `in_group`: other people
    read what they are asked. `schedules` are the scheduled tasks of the conversation, `memory`
    the notes of whoever the turn is for.
    """

    workspace: Path
    media: MediaStore
    progress: Callable[[str], Awaitable[None]]
    attachments: tuple[Attachment, ...] = ()
    call_id: str = ""
    background: Background = field(default_factory=NoBackground)
    charge: Charge = _no_charge
    settings: Any = None
    tools: Sequence[Tool] = ()
    asked_by: HookContext = field(default_factory=HookContext)
    others_wrote: bool = False
    ask_model: AskModel = _no_model
    ask_person: AskPerson = _nobody
    in_group: bool = False
    schedules: Schedules = field(default_factory=NoSchedules)
    memory: Memory = field(default_factory=NoMemory)


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
    uses_account: bool = False
    """Whether a call may reach what is not for everybody, with an account that the operator has somewhere."""
    cost: float = 0.0
    """What a call costs in dollars, approximately. It is run only if that is within the limits of spending."""
    final: bool = False
    """Whether its result ends the turn as the answer."""
    settings_model: type[BaseModel] | None = None
    """The model of its own settings, for a tool that has some."""
    settings: BaseModel | None = None
    """Its own settings, as the operator gave them."""
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
        """Checks the JSON arguments and runs the tool. Raises `ToolError` for invalid arguments, and for a result that
        is none."""
        checked = self.check(arguments)
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        result = await self.run(context, **values)
        if isinstance(result, str):
            return ToolResult(result)
        if not isinstance(result, ToolResult):
            raise ToolError(f"{self.name} returned a {type(result).__name__}, not a text or a ToolResult.")
        return result


class AnyArguments(BaseModel):
    """Arguments that somebody else checks, who runs the tool."""

    model_config = ConfigDict(extra="allow")


@dataclass(frozen=True, slots=True)
class SchemaTool(Tool):
    """A tool with a JSON schema from outside, whose `arguments` are `AnyArguments`: `check` only ensures that they are
    a JSON object."""

    schema: dict[str, Any] = field(kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", ToolSpec(self.name, self.description, self.schema))


def tool(
    *,
    effect: Effect,
    on_steer: OnSteer | None = None,
    timeout: float = 60.0,
    repeatable: bool | None = None,
    compensation: str = "",
    foreign: bool = False,
    approval: Approval = "never",
    runs_code: bool = False,
    final: bool = False,
    settings: type[BaseModel] | None = None,
) -> Callable[[Callable[..., Awaitable[ToolResult | str] | ToolResult | str]], Tool]:
    """Makes a `Tool` from a function `(context, typed arguments…)`; its docstring is the tool's description.

    A function that is not async runs in a thread: a call that is cancelled or times out is abandoned, not stopped.

    Default of `on_steer`: an interjection cancels a running call that only reads, and lets one with effects finish.
    Default of `repeatable`: a call that only reads may be repeated after a restart, others not.
    `foreign`: results are text from outside; its source is what `ToolResult.foreign` names, else the tool.
    `final`: the result is the turn's answer. `settings`: a model of the tool's own settings, which the operator gives
    in its section; a call finds them in `context.settings`.

    Raises TypeError for a function that cannot be a tool: without a docstring, or with a parameter without a type.
    """

    def decorate(function: Callable[..., Awaitable[ToolResult | str] | ToolResult | str]) -> Tool:
        if not (function.__doc__ or "").strip():
            raise TypeError(f"the tool {function.__name__} has no docstring, which tells the model what it does")
        return Tool(
            name=function.__name__,
            description=inspect.cleandoc(function.__doc__ or ""),
            arguments=_arguments_of(function),
            run=_async(function),
            effect=effect,
            on_steer=on_steer or ("cancel" if effect == "read" else "finish"),
            timeout=timeout,
            repeatable=effect == "read" if repeatable is None else repeatable,
            compensation=compensation,
            foreign=foreign,
            approval=approval,
            runs_code=runs_code,
            final=final,
            settings_model=settings,
        )

    return decorate


def _async(function: Callable[..., Any]) -> Callable[..., Awaitable[ToolResult | str]]:
    if inspect.iscoroutinefunction(function):
        return function

    @wraps(function)
    async def in_thread(context: ToolContext, **arguments: Any) -> ToolResult | str:
        result: ToolResult | str = await asyncio.to_thread(function, context, **arguments)
        return result

    return in_thread


def _arguments_of(function: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(function, include_extras=True)
    first, *parameters = inspect.signature(function).parameters.values() or (None,)
    if first is None:
        raise TypeError(f"the tool {function.__name__} has no parameter for its context")
    for parameter in parameters:
        if parameter.name not in hints:
            raise TypeError(f"the parameter {parameter.name} of the tool {function.__name__} has no type")
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"the parameter {parameter.name} of the tool {function.__name__} has no name for the model")
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
