"""Hooks: code around what a turn hears, asks, does and says, which may change, answer, deny or end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from agent.media import Attachment
from agent.model import ModelSettings

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
"""Where a hook may stand. `on_event` only looks on."""


@dataclass(frozen=True, slots=True)
class HookContext:
    """In which conversation and turn it happens, and on whose behalf; `run_id` is "" before there is a turn."""

    session: str = ""
    channel: str = ""
    run_id: str = ""
    sender: str = ""
    sender_id: str = ""


@dataclass(frozen=True, slots=True)
class MessageIn:
    """on_message: what somebody wrote, before it is kept. `text` may be changed, and `note` (context for the model)."""

    text: str
    note: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """before_model. `said` is what people said in this turn, to look at only. May be changed: `instructions`, `notices`
    (added after what was said), `model` ("" is the usual one), `settings`, and `tools`, of which some may be left out.
    """

    step: int
    messages: tuple[str, ...]
    instructions: str
    tools: tuple[str, ...]
    model: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """after_model. `text` may be changed; `tools` are the names of the calls that it asks for."""

    step: int
    text: str
    model: str
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """before_tool and approve_tool. In before_tool `arguments` may be changed."""

    call_id: str
    tool: str
    arguments: Mapping[str, Any]
    effect: str


@dataclass(frozen=True, slots=True)
class ToolEnd:
    """after_tool. `text` (for the model) and `for_user` may be changed."""

    call_id: str
    tool: str
    outcome: str
    text: str
    for_user: str = ""


@dataclass(frozen=True, slots=True)
class ReplyPart:
    """before_reply: a block of text, or a file with its caption, before any of it is shown. `text` may be changed."""

    kind: Literal["text", "file"]
    text: str
    attachment: Attachment | None = None


Subject = MessageIn | ModelRequest | ModelAnswer | ToolCall | ToolEnd | ReplyPart
S = TypeVar("S", bound=Subject)


@dataclass(frozen=True, slots=True)
class Respond:
    """This is the tool's result (`text`), or the model's answer; neither is asked."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """People have to approve the call; `reason` says why."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deny:
    """The call does not run, the segment is not shown, the message is refused."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """The turn ends as failed, for this reason, after what it does is recorded."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The turn is stopped at once, for this reason."""

    reason: str


Ruling = Respond | Ask | Deny | End | Stop
"""What ends the asking: later hooks of that point are not asked, except after `Ask`, where they may still deny or end.
Going on and changing are said by the subject."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """A ruling and the hook it came from. `trusted`: its answer for a tool needs no approval of people."""

    ruling: Ruling
    hook: str
    trusted: bool = False


class Hooks(Protocol):
    """All hooks of a gateway, asked one after another, each seeing what the one before made of the subject.

    Never raises but for cancellation, and never takes longer than the hooks' time limits: a hook that fails counts as
    one without an opinion, or, where it fails closed, as one that denies.
    """

    def active(self, point: Point) -> bool:
        """Whether any hook stands at the point; asking costs nothing then."""

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        """The subject as changed, and the first ruling, if any."""

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Tells observers; never waits for them. What they are too slow for is dropped, and counted in the log."""


class NoHooks:
    def active(self, point: Point) -> bool:
        return False

    async def ask(self, point: Point, context: HookContext, subject: S) -> tuple[S, Ruled | None]:
        return subject, None

    def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        return None
