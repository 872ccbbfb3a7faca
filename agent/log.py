"""The turn's log: the closed set of events in a turn, in the form in which they are stored.

A turn is its log. The model's input, the person's view and the state after a restart are all functions of these
entries.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from agent.gate import JsonText, rebuilt_by_kind, storable
from agent.media import Attachment

log = logging.getLogger(__name__)

Outcome = Literal["done", "failed", "skipped", "cancelled", "denied", "unknown"]
"""How a tool call ended. Every call ends in exactly one."""

TurnOutcome = Literal["completed", "failed", "stopped"]

Source = Literal["person", "wrap", "work"]
"""Where a message comes from: a person, a person's request to finish up (`/wrap`), or background work."""


@dataclass(frozen=True, slots=True)
class DeclaredTool:
    """A tool that the sender of a message runs; `schema` is the JSON schema of its arguments, an object."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ForeignText:
    """Text that none of the people who may write here has written, and its source: a web page, a message of somebody
    else. Without `text` it is part of the content that it marks."""

    source: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class UserMessage:
    """One message of a person, as a turn reads it.

    `id` is its row in the inbox, `message_id` the platform's id. `note` is context that the channel adds in plain
    words: a quote, that the message is an edit, that a file is not available. `in_group`: the conversation has several
    people, so the model is told the sender. `tools` may be called by the turn that reads the message. `sender_id` is
    the platform's id; "" in logs of earlier versions. `foreign` is foreign text that it quotes, and marks a result of
    background work that contains such text.
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
    sender_id: str = ""
    foreign: tuple[ForeignText, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning of the model, with what its provider needs in the next request (`signature`, `id`)."""

    text: str
    signature: str | None = None
    id: str | None = None
    provider: str | None = None
    kind: Literal["thinking"] = "thinking"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call the model asked for. `arguments` is the JSON text as the model wrote it, valid or not. `signature` is
    what `provider` needs with the call in the next request, if anything."""

    id: str
    name: str
    arguments: JsonText
    signature: str | None = None
    provider: str | None = None
    kind: Literal["call"] = "call"


@dataclass(frozen=True, slots=True)
class Native:
    """A step that the provider ran itself within an answer, such as a web search. `data` is its JSON text, as the
    provider needs it in the next request; `summary` is one short line for people. Without `foreign` it brought no text
    from outside: the ids that the provider gave to the answer's parts."""

    provider: str
    data: JsonText
    summary: str = ""
    foreign: bool = True
    kind: Literal["native"] = "native"


Part = Text | Thinking | Call | Native


def text_of(parts: Iterable[Part]) -> str:
    """What an answer of these parts says to people."""
    return "".join(part.text for part in parts if isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. `input` includes those read from and written to the cache, `output` those of
    `reasoning`. `cost` is in dollars, 0 if no price is known. `estimated`: counted by us, not by the provider."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: float = 0.0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class HookAsked:
    """The hooks at one point were asked so many `times` about the same: an answer, or the call `call_id`. `ruling` is
    what the hook `by` decided at last ("deny", "ask", "respond", "end", "stop"), "" to go on; `changed`: they changed
    what they were shown."""

    point: str
    times: int = 0
    seconds: float = 0.0
    ruling: str = ""
    by: str = ""
    changed: bool = False
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """The turn read these messages from its inbox at the checkpoint before step `step`."""

    step: int
    messages: tuple[UserMessage, ...]
    kind: Literal["messages_read"] = "messages_read"


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """The model's answer in one step. `interrupted`: a message or a stop ended the stream early, or a restart did
    (`by_restart`); `cut_off`: the model's length limit did; `refused`: its provider's filter did. `shown` is the text
    that people see, if hooks changed it. `seconds` is how long the model took, with all attempts, and `first_token`
    after how many seconds the first of this answer came; None where there is none, or it is not known. `hooks` were
    asked about it."""

    step: int
    parts: tuple[Part, ...]
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    interrupted: bool = False
    cut_off: bool = False
    shown: str | None = None
    refused: bool = False
    by_restart: bool = False
    seconds: float | None = field(default=None, compare=False)
    first_token: float | None = field(default=None, compare=False)
    hooks: tuple[HookAsked, ...] = field(default=(), compare=False)
    kind: Literal["model_answered"] = "model_answered"

    @property
    def text(self) -> str:
        return text_of(self.parts)

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple(part for part in self.parts if isinstance(part, Call))


SAMPLING = "sampling"
"""The purpose of a model call for a tool call, which asks the model for itself."""


@dataclass(frozen=True, slots=True)
class Spent:
    """The cost of a model call that gave the turn no answer: it failed, was cancelled, or had another `purpose` (a
    summary, a title, a side question, a tool call that asks the model: `SAMPLING`); or of a tool call ("tool")."""

    step: int
    usage: Usage
    model: str
    purpose: str
    kind: Literal["spent"] = "spent"


@dataclass(frozen=True, slots=True)
class CallStarted:
    """Written before the tool runs, so that after a crash "never started" differs from "may have run".

    `until`: the call runs externally, with these `arguments`; the turn waits for its result until then, in seconds
    since 1970. `tool` and `arguments` are what runs, where hooks have changed it; "" for what the model wrote.
    """

    call_id: str
    until: float | None = None
    arguments: JsonText = ""
    tool: str = ""
    kind: Literal["call_started"] = "call_started"


@dataclass(frozen=True, slots=True)
class SuggestedReply:
    """What people may want to say to a result: a button with a short `label` says `text` in the name of who presses
    it."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The one result of a call: `text` and `images` for the model, `attachments` and `for_user` (Markdown) for the
    person. `full` is the whole text if it was too long for the model. `final`: the result is the turn's answer.
    `silent`: people are not shown the call. `foreign`: the sources of foreign text in the result. `background`: the
    call goes on in the background, and this result says so. `suggestions` are buttons under the attachments, `how` is a
    line that says how the result was made. `hooks` were asked about the call and its result."""

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
    foreign: tuple[str, ...] = ()
    background: bool = False
    suggestions: tuple[SuggestedReply, ...] = ()
    how: str = ""
    hooks: tuple[HookAsked, ...] = field(default=(), compare=False)
    kind: Literal["call_ended"] = "call_ended"


ApprovalSubject = Literal["call", "limit"]
"""What needs approval: a tool call, or exceeding a limit."""


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """A person has to decide before the turn continues. `id` is the call's id, or the limit's; `question` is Markdown;
    `expires_at` is in seconds since 1970: after that, the request counts as denied.

    Approval covers the call of `tool` ("": the one that the model called) with these `arguments`; `masked` is what
    anybody may see of them, if a hook has put a secret there. `result` is what the call then ends with, if a hook
    supplied it; in logs of earlier versions `response` is its text. `full` is a text file with all of the arguments, if
    the question shows only their beginning.
    """

    id: str
    subject: ApprovalSubject
    question: str
    options: tuple[str, ...]
    expires_at: float
    arguments: JsonText = ""
    response: str | None = None
    full: Attachment | None = None
    result: CallEnded | None = None
    tool: str = ""
    masked: JsonText = ""
    hooks: tuple[HookAsked, ...] = field(default=(), compare=False)
    kind: Literal["approval_requested"] = "approval_requested"

    @property
    def shown_arguments(self) -> str:
        """The arguments without secrets."""
        return self.masked or self.arguments

    @property
    def supplied(self) -> CallEnded | None:
        """The result that a hook supplied."""
        if self.result is None and self.response is not None:
            return CallEnded(self.id, "done", self.response)
        return self.result


ApprovalDecision = Literal["allowed", "allowed_always", "denied", "expired", "dropped"]
"""`allowed_always` holds for the whole conversation; `dropped`: a message arrived instead of a decision."""


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """The one resolution of an `ApprovalRequested`: by whom, and the reason if one was given."""

    id: str
    decision: ApprovalDecision
    by: str = ""
    reason: str = ""
    kind: Literal["approval_decided"] = "approval_decided"


InputKind = Literal["options", "number", "text"]
"""What answers a request for input beside its options: nothing else, a number, or any text."""


@dataclass(frozen=True, slots=True)
class InputRequested:
    """A running call asks the person who began the turn, and waits. `id` is the call's id and a number; `question` is
    Markdown; `options` are answers that have buttons. `expires_at` is in seconds since 1970."""

    id: str
    call_id: str
    question: str
    options: tuple[str, ...]
    takes: InputKind
    expires_at: float
    kind: Literal["input_requested"] = "input_requested"


InputOutcome = Literal["given", "expired", "dropped"]
"""`dropped`: a message that is no answer arrived instead, or the call ended."""


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The one resolution of an `InputRequested`. `text` is what the person said, in the message `message` of the inbox,
    which has the id `message_id` on the platform."""

    id: str
    outcome: InputOutcome
    text: str = ""
    message: int = 0
    message_id: str | None = None
    kind: Literal["input_ended"] = "input_ended"


@dataclass(frozen=True, slots=True)
class Compacted:
    """From here on the model is shown `summary` in place of the past turns up to and including `through` ("": none) and
    this turn's steps before `step`. This turn's messages of people are always shown.

    `left_out`: no summary was available, and the covered part was removed without one. `foreign`: the sources of
    foreign text in the covered part.
    """

    step: int
    through: str
    summary: str
    left_out: bool = False
    foreign: tuple[str, ...] = ()
    kind: Literal["compacted"] = "compacted"


@dataclass(frozen=True, slots=True)
class Notice:
    """A message of the gateway to the person: a command's answer, an error. The model is shown it only if it is
    `for_model` too.

    With `options` it is a question of the gateway, whose answer names its `key`; `typed` says how to take an offer
    where there are no buttons. `attachments` are sent with it.
    """

    text: str
    options: tuple[str, ...] = ()
    key: str = ""
    attachments: tuple[Attachment, ...] = ()
    typed: str = ""
    for_model: bool = False
    kind: Literal["notice"] = "notice"


@dataclass(frozen=True, slots=True)
class Resumed:
    """A process found this turn unfinished after a restart and resumed it."""

    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn's one terminal entry. `reason` is text for people; empty when completed."""

    outcome: TurnOutcome
    reason: str = ""
    hooks: tuple[HookAsked, ...] = field(default=(), compare=False)
    kind: Literal["ended"] = "ended"


@dataclass(frozen=True, slots=True)
class UndeliveredPart:
    """Something that people were not shown, and why: the attachments of the call `call_id`, or else a text; `whole`:
    all of the reply that was not shown before."""

    reason: str
    call_id: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What of the ended turn's reply people were not shown. The last such entry holds; without parts, all is shown."""

    parts: tuple[UndeliveredPart, ...]
    kind: Literal["undelivered"] = "undelivered"

    @property
    def reason(self) -> str:
        return self.parts[0].reason if self.parts else ""

    @property
    def is_whole(self) -> bool:
        return any(part.whole for part in self.parts)


Entry = (
    MessagesRead
    | ModelAnswered
    | Spent
    | CallStarted
    | CallEnded
    | ApprovalRequested
    | ApprovalDecided
    | InputRequested
    | InputEnded
    | Compacted
    | Notice
    | Resumed
    | Ended
    | Undelivered
)

_ByKind = Annotated[Entry, Field(discriminator="kind")]
_LATER = ConfigDict(defer_build=True)
_entry: TypeAdapter[Entry] = TypeAdapter(_ByKind, config=_LATER)
_entries: TypeAdapter[list[Entry]] = TypeAdapter(list[_ByKind], config=_LATER)


UNREADABLE = "_A part of this conversation cannot be read any more and is left out._"


def dump(entry: Entry) -> str:
    """The entry as JSON text, for storage: it passes the gate if it could not be read again as it is."""
    try:
        return _dump_checked(entry)
    except ValueError:
        return _dump_checked(storable(entry))


def load(lines: Iterable[str]) -> tuple[Entry, ...]:
    """The entries from JSON texts, in one pass. What an earlier version wrote badly is replaced."""
    lines = tuple(lines)
    try:
        return tuple(_entries.validate_json(f"[{','.join(lines)}]"))
    except ValidationError:
        return tuple(map(_load_repaired, lines))


def _dump_checked(entry: Entry) -> str:
    """Raises `ValueError` if the text could not be read again."""
    line = _entry.dump_json(entry, warnings="none")
    _entry.validate_json(line)
    return line.decode()


def _load_repaired(line: str) -> Entry:
    try:
        return _entry.validate_json(line)
    except ValidationError as error:
        log.warning("an entry of a turn's log is broken; the broken part is replaced: %s", error.errors()[0]["msg"])
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return Notice(UNREADABLE)
    found: Entry | None = rebuilt_by_kind(get_args(Entry), data)
    return found or Notice(UNREADABLE)
