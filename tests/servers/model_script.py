"""What the model servers of the tests play, and what they were asked, whichever protocol is spoken."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

# What a script is made of


@dataclass(frozen=True, slots=True)
class Pause:
    """Holds the answer here until `server.release()`; as the first part, before any byte of it."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Holds the answer here until the test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Wait:
    """Holds the answer here for some seconds. For paced streams only; tests that interrupt want `Pause`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """Sends nothing more, ever. `begun` decides whether the status line and headers have been sent before."""

    begun: bool = True


@dataclass(frozen=True, slots=True)
class Drop:
    """Closes the connection here without ending the answer; as the first part, before any byte of it."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Sends an event whose JSON breaks off (in an answer that is not streamed: the body does)."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Answers with an error: an HTTP status while nothing was sent, an error event inside the stream after that.

    `retry_after` is in seconds. `message` and `code` (OpenAI's `code`, Anthropic's error `type`) default to what the
    provider says for the status; 529 is Anthropic's "overloaded".
    """

    status: int
    retry_after: float | None = None
    message: str | None = None
    code: str | None = None
    in_stream: bool = False


@dataclass(frozen=True, slots=True)
class TooLong:
    """Answers 400 because the conversation does not fit the context window, as each provider phrases it."""

    tokens: int = 250_000
    limit: int = 200_000


@dataclass(frozen=True, slots=True)
class Raw:
    """Sends these bytes as they are in place of the rest of the answer, to be what no real provider would send."""

    data: bytes


Control: TypeAlias = Pause | Gate | Wait | Silence | Drop | Malformed | Fail | TooLong | Raw
Content: TypeAlias = str | Sequence[str | Control]


@dataclass(frozen=True, slots=True)
class Say:
    """Text, cut into `pieces`, or exactly in the pieces given; controls among those act in the middle of it."""

    text: Content
    pieces: int = 3
    delay: float = 0


@dataclass(frozen=True, slots=True)
class Think:
    """Reasoning: `reasoning_content` in Chat Completions (as compatible servers have it), an item with a summary in
    Responses, a signed block for Anthropic."""

    text: Content
    pieces: int = 3
    delay: float = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. Arguments are a mapping, raw text (broken JSON, say), or exact pieces like those of `Say`."""

    name: str
    arguments: Mapping[str, Any] | Content = field(default_factory=dict)
    id: str | None = None
    pieces: int = 3
    delay: float = 0


@dataclass(frozen=True, slots=True)
class Search:
    """A search of the web by the provider itself; not over Chat Completions. `found` None: it has no result."""

    query: str
    found: Sequence[str] | None = ("https://example.org",)
    id: str | None = None


Reason: TypeAlias = Literal["stop", "length", "tool_calls", "pause"]


@dataclass(frozen=True, slots=True)
class End:
    """Why the answer ends, where it is not the usual: `tool_calls` after calls, `stop` otherwise."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of this answer. `input` includes those read from and written to the cache (the latter not over Chat
    Completions),
    `output` the reasoning. OpenAI's compatible servers often tell none: `Usage(0, 0)`."""

    input: int = 10
    output: int = 5
    cached: int = 0
    written: int = 0
    reasoning: int = 0


Part: TypeAlias = Say | Think | Call | Search | End | Usage | Control
Turn: TypeAlias = Part | Sequence[Part]

# What a request looked like, whichever protocol it came in


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call in the history; `arguments` is its JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. A tool result is a message of its own (`call_id` is set), also where Anthropic nests it."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    images: tuple[bytes, ...] = ()
    thoughts: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    failed: bool = False


Provider: TypeAlias = Literal["openai", "openai-responses", "anthropic"]


@dataclass(slots=True, eq=False)
class Request:
    """One request as it was received, and what became of it. `arrived` is on the clock of `time.monotonic`."""

    provider: Provider
    headers: Mapping[str, str]
    arrived: float
    body: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    tools: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    status: int | None = None
    refusal: str | None = None
    """Why the request broke the provider's rules; None when it kept them."""
    held: bool = False
    """True while a `Pause`, `Gate` or `Silence` holds the answer."""
    dropped: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    disconnection: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def disconnected(self) -> bool:
        """Whether the client closed the connection before the answer's end."""
        return self.disconnection.is_set()

    @property
    def system(self) -> str:
        return "\n".join(message.text for message in self.messages if message.role == "system")

    @property
    def last_user_text(self) -> str:
        return next((m.text for m in reversed(self.messages) if m.role == "user" and m.text), "")

    @property
    def results(self) -> dict[str, str]:
        """The text of every tool result, by call id."""
        return {m.call_id: m.text for m in self.messages if m.call_id is not None}


# The script, cut into what both protocols know


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    text: str


@dataclass(frozen=True, slots=True)
class Searched:
    id: str
    query: str


@dataclass(frozen=True, slots=True)
class Found:
    id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    reason: Reason
    usage: Usage


Delta: TypeAlias = Text | Thought | Opened | Arguments | Searched | Found | Finished
Step: TypeAlias = Delta | Control


def steps(turn: Sequence[Part], name: Callable[[], str]) -> Iterator[Step]:
    reason: Reason = "tool_calls" if any(isinstance(part, Call) for part in turn) else "stop"
    usage = Usage()
    for part in turn:
        match part:
            case Say():
                yield from _pieces(Text, part.text, part)
            case Think():
                yield from _pieces(Thought, part.text, part)
            case Call():
                yield Opened(part.id or name(), part.name)
                raw = json.dumps(part.arguments) if isinstance(part.arguments, Mapping) else part.arguments
                yield from _pieces(Arguments, raw, part)
            case Search():
                search_id = part.id or f"srvtoolu_{name()}"
                yield Searched(search_id, part.query)
                if part.found is not None:
                    yield Found(search_id, tuple(part.found))
            case End():
                reason = part.reason
            case Usage():
                usage = part
            case _:
                yield part
    yield Finished(reason, usage)


def _pieces(delta: Callable[[str], Delta], content: Content, part: Say | Think | Call) -> Iterator[Step]:
    for number, piece in enumerate(_cut(content, part.pieces) if isinstance(content, str) else content):
        if number and part.delay:
            yield Wait(part.delay)
        yield delta(piece) if isinstance(piece, str) else piece


def _cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]
