"""Hooks: code around messages, model calls, tool calls and replies, which may change, answer, deny or end them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from agent.media import Attachment
from agent.model import ModelSettings
from agent.tool_result import SuppliedResult

Point = Literal[
    "on_message",
    "before_model",
    "after_model",
    "before_tool",
    "approve_tool",
    "after_tool",
    "before_reply",
    "on_event",
]
"""The points at which hooks are called. `on_event` only observes."""


@dataclass(frozen=True, slots=True)
class HookContext:
    """The conversation, turn and sender that a hook is called for, and the name of the turn's agent; `run_id` and
    `agent` are "" before the turn starts."""

    session: str = ""
    channel: str = ""
    run_id: str = ""
    sender: str = ""
    sender_id: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class MessageIn:
    """on_message: a message before it is stored. `text` and `note` (context for the model) may be changed."""

    text: str
    note: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """before_model. `messages` are the messages of people in this turn, read-only. May be changed: `instructions`,
    `notices` (added after the messages), `model` ("" is the default), `settings`, and `tools`, which may be removed.

    With a `tool`, a call of that tool asks the model for itself: `messages` and `instructions` are what it asks.
    """

    step: int
    messages: tuple[str, ...]
    instructions: str
    tools: tuple[str, ...]
    model: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)
    notices: tuple[str, ...] = ()
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """after_model. `text` may be changed; `tools` are the names of the tools that the answer calls. With a `tool`, the
    answer is for a call of that tool."""

    step: int
    text: str
    model: str
    tools: tuple[str, ...] = ()
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """before_tool and approve_tool. In before_tool `arguments` may be changed, and `tool` to another one of `tools`
    (those that may be called here, with their effects, at before_tool only); `effect` follows. `foreign` are the
    sources of the text from outside that the task has read."""

    call_id: str
    tool: str
    arguments: Mapping[str, Any]
    effect: str
    foreign: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """after_tool. `text` (for the model) and `for_user` may be changed. `foreign` are the sources of text from outside
    in the result."""

    call_id: str
    tool: str
    outcome: str
    text: str
    for_user: str = ""
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """before_reply: a block of text, or a file with its caption, before any of it is shown. `text` may be changed."""

    kind: Literal["text", "file"]
    text: str
    attachment: Attachment | None = None


Subject = MessageIn | ModelRequest | ModelAnswer | ToolCall | ToolEnd | ReplyPart
S = TypeVar("S", bound=Subject)


@dataclass(frozen=True, slots=True)
class Respond(SuppliedResult):
    """This is the tool's result, or its `text` the model's answer; the tool or the model is not called."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The call needs approval, for this reason."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call does not run, the reply part is not shown, or the message is refused."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The turn ends as failed, for this reason, after the current step is recorded."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The turn is stopped at once, for this reason."""

    reason: str


Ruling = Respond | Ask | Deny | End | Stop
"""The decision of a hook, if not to continue or to change the subject. Later hooks of the point are not called, except
after `Ask`: they may still deny or end."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """A ruling and its hook. `trusted`: the hook's response for a tool needs no approval."""

    ruling: Ruling
    hook: str
    trusted: bool = False


class Hook:
    """A base for hooks in Python, with the signature of each point. A hook overrides those at which it is registered;
    the base is not needed, only the methods are.

    Each returns None to continue, a changed subject, or a ruling that its point allows. What it raises counts as a
    failure: the hook is ignored, or denies where it fails closed.
    """

    async def on_message(self, context: HookContext, message: MessageIn) -> MessageIn | Deny | None: ...

    async def before_model(self, context: HookContext, request: ModelRequest) -> ModelRequest | Ruling | None: ...

    async def after_model(self, context: HookContext, answer: ModelAnswer) -> ModelAnswer | Ruling | None: ...

    async def before_tool(self, context: HookContext, call: ToolCall) -> ToolCall | Ruling | None: ...

    async def approve_tool(self, context: HookContext, call: ToolCall) -> Ruling | None: ...

    async def after_tool(self, context: HookContext, end: ToolEnd) -> ToolEnd | Ruling | None: ...

    async def before_reply(self, context: HookContext, part: ReplyPart) -> ReplyPart | Ruling | None: ...

    async def on_event(self, context: HookContext, event: Mapping[str, Any]) -> None: ...


class Hooks(Protocol):
    """All hooks of a gateway, called one after another, each with the subject as the previous one changed it.

    Raises only on cancellation, and never takes longer than the hooks' timeouts: a hook that fails open is ignored, one
    that fails closed denies.
    """

    def active(self, point: Point) -> bool:
        """Whether any hook is registered at the point."""

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        """The subject as the hooks changed it, and the first ruling, if any."""

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Passes the event to observers without waiting. Events beyond their queues are dropped and logged."""


class NoHooks:
    """No hooks at any point."""

    def active(self, point: Point) -> bool:
        return False

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        return subject, None

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        return None
