"""The turn's log: the closed set of things that can happen in a turn, in the form in which they are kept.

A turn is its log. What the model is shown, what the person is shown and where a restart goes on are all
functions of these entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from agent.media import Attachment

Outcome = Literal["done", "failed", "skipped", "cancelled", "denied", "unknown"]
"""How a tool call ended. Every call ends in exactly one."""

TurnOutcome = Literal["completed", "failed", "stopped"]

Source = Literal["person", "wrap", "work"]
"""Where a heard message comes from: a person, a person's wish that the turn come to its end, or background work."""


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool that whoever wrote a message runs themselves; `schema` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UserMessage:
    """One message of a person, as a turn reads it.

    `id` is its row in the inbox, `message_id` the platform's id of it. `note` is context the channel adds in plain
    words: what is quoted, that the message is an edit, that a file could not be had. `in_group`: others are there, so
    that the model is to know who speaks. `tools` may be called by the turn that reads it.
    """

    id: int
    sender: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    note: str = ""
    message_id: str | None = None
    in_group: bool = False
    source: Source = "person"
    tools: tuple[DeclaredTool, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning of the model, with what its provider wants to see again (`signature`, `id`)."""

    text: str
    signature: str | None = None
    id: str | None = None
    provider: str | None = None
    kind: Literal["thinking"] = "thinking"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call the model asked for. `arguments` is the JSON text as the model wrote it, valid or not."""

    id: str
    name: str
    arguments: str
    kind: Literal["call"] = "call"


@dataclass(frozen=True, slots=True)
class Native:
    """What the provider did by itself in the middle of an answer, like a search of the web. `data` is its JSON text,
    as the provider wants to see it again; `summary` one short line for people."""

    provider: str
    data: str
    summary: str = ""
    kind: Literal["native"] = "native"


Part = Text | Thinking | Call | Native


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. `input` includes those read from and written to the cache, `output` those of
    `reasoning`. `cost` is in dollars, 0 where no price is known. `estimated`: counted by us, as nobody told."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: float = 0.0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """The turn read these messages at the checkpoint before step `step`."""

    step: int
    messages: tuple[UserMessage, ...]
    kind: Literal["heard"] = "heard"


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model's answer of one step; `interrupted` when a message or a stop ended the stream early, `cut_off` when
    the model's length limit did. `shown` is what people see of its text, where hooks changed that."""

    step: int
    parts: tuple[Part, ...]
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    interrupted: bool = False
    cut_off: bool = False
    shown: str | None = None
    kind: Literal["answered"] = "answered"

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(part for part in self.parts if isinstance(part, Call))


@dataclass(frozen=True, slots=True)
class Spent:
    """A model call that gave the turn no answer and cost something all the same: one that failed or was cancelled, or
    that was made for another `purpose` (a summary, a title, a question on the side)."""

    step: int
    usage: Usage
    model: str
    purpose: str
    kind: Literal["spent"] = "spent"


@dataclass(frozen=True, slots=True)
class CallStarted:
    """Written before the tool runs, so that a crash can tell "never started" from "may have run".

    `until`: the call is run outside, with these `arguments`, and its result is waited for until then, in seconds since
    1970.
    """

    call_id: str
    until: float | None = None
    arguments: str = ""
    kind: Literal["call_started"] = "call_started"


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The one result of a call: `text` for the model, `attachments` and `for_user` (markdown) for the person, `images`
    for the model's eyes. `full` holds all of a text that was too long for the model. `final`: the result is the
    turn's answer. `silent`: people are not shown that the call was made."""

    call_id: str
    outcome: Outcome
    text: str
    attachments: tuple[Attachment, ...] = ()
    images: tuple[Attachment, ...] = ()
    caption: str = ""
    for_user: str = ""
    full: Attachment | None = None
    final: bool = False
    silent: bool = False
    kind: Literal["call_ended"] = "call_ended"


Subject = Literal["call", "limit"]
"""What a decision is about: whether a call may run, or whether the turn may go beyond a limit."""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """Somebody has to decide before the turn goes on. `id` is the call's id, or that of the limit; `question` is
    markdown; `expires_at` is in seconds since 1970, when it is decided against by itself.

    What is allowed is the call with these `arguments`; where a hook has a `response`, that is its result.
    """

    id: str
    about: Subject
    question: str
    options: tuple[str, ...]
    expires_at: float
    arguments: str = ""
    response: str | None = None
    kind: Literal["decision_asked"] = "decision_asked"


ApprovalDecision = Literal["allowed", "allowed_always", "denied", "expired", "dropped"]
"""`allowed_always` holds for the whole conversation; `dropped`: something was said instead of deciding."""


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """The one resolution of a `ApprovalRequested`: by whom, and why if they said so."""

    id: str
    decision: ApprovalDecision
    by: str = ""
    reason: str = ""
    kind: Literal["decided"] = "decided"


@dataclass(frozen=True, slots=True)
class Compacted:
    """From here on the model is shown `summary` in place of what came before, up to and including the past turn
    `through` ("": none of them is covered) and this turn's steps before `step` (words of people are always shown).

    `left_out`: no summary could be had, and what it covers was left out without one.
    """

    step: int
    through: str
    summary: str
    left_out: bool = False
    kind: Literal["summarised"] = "summarised"


@dataclass(frozen=True, slots=True)
class Notice:
    """Words of the gateway's own to the person: a command's answer, an apology. The model is not shown them.

    With `options` they are a question of the gateway's, whose answer names its `key`.
    """

    text: str
    options: tuple[str, ...] = ()
    key: str = ""
    kind: Literal["told"] = "told"


@dataclass(frozen=True, slots=True)
class Resumed:
    """A process found this turn unfinished after a restart and goes on with it."""

    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn's one terminal entry. `reason` is in words for a person; empty when completed."""

    outcome: TurnOutcome
    reason: str = ""
    kind: Literal["ended"] = "ended"


Entry = (
    MessagesRead
    | ModelAnswered
    | Spent
    | CallStarted
    | CallEnded
    | ApprovalRequested
    | ApprovalDecided
    | Compacted
    | Notice
    | Resumed
    | Ended
)

_ByKind = Annotated[Entry, Field(discriminator="kind")]
_LATER = ConfigDict(defer_build=True)
_entry: TypeAdapter[Entry] = TypeAdapter(_ByKind, config=_LATER)
_entries: TypeAdapter[list[Entry]] = TypeAdapter(list[_ByKind], config=_LATER)


def dump(entry: Entry) -> str:
    """The entry as JSON text, for keeping."""
    return _entry.dump_json(entry).decode()


def load(lines: Iterable[str]) -> tuple[Entry, ...]:
    """Entries again, in one pass. Raises `pydantic.ValidationError` for what `dump` did not write."""
    return tuple(_entries.validate_json(f"[{','.join(lines)}]"))
