"""Model providers on loopback: OpenAI's and Anthropic's protocols played from one script, strict like the real ones.

    async with ModelServer() as server:
        server.script([Say("Looking."), Call("shell", {"command": "ls"})], Say(["Two ", Pause(), "files."]))

`script` takes one argument per model answer (a part, or a list of parts); each answer serves one request, whichever
protocol it speaks. `[]` is an empty answer. Without a script `respond(fn)` decides, and without that it echoes.
"""

import argparse
import asyncio
import base64
import binascii
import itertools
import json
import re
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, assert_never

from aiohttp import web

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
    """Reasoning: `reasoning_content` for OpenAI (as compatible servers have it), a signed block for Anthropic."""

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
    """A search of the web by the provider itself (Anthropic only). `found` None: it ends without a result."""

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
    """Tokens of this answer. `input` includes those read from and written to the cache (the latter Anthropic's only),
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


Provider: TypeAlias = Literal["openai", "anthropic"]


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


class ScriptNotPlayed(AssertionError):
    """What the test waited for did not happen in time; the message lists what did."""


class ModelServer:
    """A model provider on 127.0.0.1. `latency` is in seconds, before the first byte of each answer.

    With `api_key` only that key is accepted; without it any is, but one must be there. `remember=False` keeps no
    requests, for benchmarks. An error in a script function is raised when the server is left.
    """

    def __init__(self, *, port: int = 0, latency: float = 0, api_key: str | None = None, remember: bool = True) -> None:
        self.requests: list[Request] = []
        self.spoken = "Good morning."  # what is said in every recording
        self.recordings: list[bytes] = []
        self._latency = latency
        self._api_key = api_key
        self._remember = remember
        self._turns: deque[Turn] = deque()
        self._respond: Callable[[Request], Turn] = _echo
        self._permits = asyncio.Semaphore(0)
        self._changed = asyncio.Event()
        self._numbers = itertools.count(1)
        # Ids are unique across servers too, as a history may outlive one.
        self._brand = secrets.token_hex(4)
        self._playing: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._broken: list[Exception] = []
        self._wanted_port = port
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_post("/v1/messages", self._anthropic_messages)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        # Cancelling the handler is how a client's departure is noticed while nothing is being written.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._wanted_port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        await self._runner.cleanup()
        if self._broken:
            raise ExceptionGroup("the model server's script failed", self._broken)

    @property
    def port(self) -> int:
        return int(self._runner.addresses[0][1])

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def refusals(self) -> list[str]:
        """How requests broke the providers' rules; a product that renders history completely leaves this empty."""
        return [request.refusal for request in self.requests if request.refusal is not None]

    @property
    def unplayed(self) -> int:
        """How many scripted answers nobody has asked for yet."""
        return len(self._turns)

    def script(self, *turns: Turn) -> None:
        """Add answers to the queue, each a part or a list of parts. The queue goes before `respond`."""
        self._turns.extend(turns)

    def respond(self, function: Callable[[Request], Turn]) -> None:
        """Let a function decide each answer for which nothing is scripted."""
        self._respond = function

    def release(self, count: int = 1) -> None:
        """Let that many `Pause`s go, the longest held first; those not yet reached will not hold."""
        for _ in range(count):
            self._permits.release()

    async def until(self, condition: int | Callable[[], bool], timeout: float = 60) -> list[Request]:  # noqa: ASYNC109 - the test's bound is part of the question
        """Wait for that many requests, or for a predicate, looked at whenever something happens here.

        Returns the requests. Raises ScriptNotPlayed after `timeout` seconds.
        """
        holds = condition if callable(condition) else (lambda: len(self.requests) >= condition)
        try:
            async with asyncio.timeout(timeout):
                while not holds():
                    await self._changed.wait()
        except TimeoutError as error:
            raise ScriptNotPlayed(f"waited {timeout} s; received: {_summary(self.requests) or 'nothing'}") from error
        return self.requests

    async def until_held(self, timeout: float = 60) -> Request:  # noqa: ASYNC109 - as in `until`
        """Wait until a `Pause`, `Gate` or `Silence` holds an answer, and return its request, the newest of several."""
        requests = await self.until(lambda: any(request.held for request in self.requests), timeout)
        return next(request for request in reversed(requests) if request.held)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _list_models(self, http: web.Request) -> web.Response:
        dialect: Dialect = Anthropic() if "anthropic-version" in http.headers else OpenAI()
        try:
            self._check_key(dialect, http.headers)
        except Refused as refused:
            return web.json_response(dialect.error(refused.fail), status=refused.fail.status)
        return web.json_response(dialect.models())

    async def _chat_completions(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, OpenAI())

    async def _anthropic_messages(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, Anthropic())

    async def _transcribe(self, http: web.Request) -> web.Response:
        try:
            self._check_key(OpenAI(), http.headers)
        except Refused as refused:
            return web.json_response(OpenAI().error(refused.fail), status=refused.fail.status)
        file = (await http.post())["file"]
        assert isinstance(file, web.FileField)
        with file.file as recording:
            self.recordings.append(recording.read())
        return web.json_response({"text": self.spoken})

    async def _answer(self, http: web.Request, dialect: "Dialect") -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None, "aiohttp runs handlers in tasks"
        self._playing.add(task)
        request = Request(dialect.provider, http.headers, time.monotonic())
        wire = _Wire(http, request, dialect)
        try:
            await self._serve(wire)
            request.finished.set()
        except asyncio.CancelledError:
            self._note_departure(request)
            raise
        except ConnectionResetError:
            self._note_departure(request)
        except Exception as error:  # the edge between test and server: a script's bug belongs to the test
            self._broken.append(error)
            raise
        finally:
            request.held = False
            self._playing.discard(task)
            self._tell()
        return wire.response

    def _note_departure(self, request: Request) -> None:
        if not self._closing and not request.dropped:
            request.disconnection.set()

    async def _serve(self, wire: "_Wire") -> None:
        content = await wire.http.read()
        try:
            self._check_key(wire.dialect, wire.http.headers)
            _read(wire.request, wire.dialect, content)
        except Refused as refused:
            wire.request.refusal = wire.dialect.error(refused.fail)["error"]["message"]
            self._record(wire.request)
            await wire.fail(refused.fail)
            return
        self._record(wire.request)
        turn = self._turns.popleft() if self._turns else self._respond(wire.request)
        if self._latency:
            await asyncio.sleep(self._latency)
        await self._play([turn] if isinstance(turn, Part) else turn, wire)

    def _check_key(self, dialect: "Dialect", headers: Mapping[str, str]) -> None:
        key = dialect.key(headers)
        if not key or key != (self._api_key or key):
            raise Refused(Fail(401, message=None if key else dialect.no_key))

    def _record(self, request: Request) -> None:
        if self._remember:
            self.requests.append(request)
            self._tell()

    def _name(self) -> str:
        return f"{self._brand}{next(self._numbers):06d}"

    async def _play(self, turn: Sequence[Part], wire: "_Wire") -> None:
        wire.name = self._name()
        for step in _steps(turn, self._name):
            match step:
                case Text() | Thought() | Opened() | Arguments() | Searched() | Found() | Finished():
                    wire.put(step)
                case Malformed():
                    wire.break_off()
                case Wait(seconds):
                    await wire.flush()
                    await asyncio.sleep(seconds)
                case Pause():
                    await self._hold(wire, self._permits.acquire)
                case Gate(event):
                    await self._hold(wire, event.wait)
                case Silence(begun):
                    if begun:
                        wire.begin()
                    await self._hold(wire, asyncio.Event().wait)
                case Drop():
                    await wire.cut()
                case Fail():
                    await wire.fail(step)
                    return
                case TooLong():
                    await wire.fail(wire.dialect.too_long(step))
                    return
                case Raw(data):
                    await wire.send_raw(data)
                    return
                case _:
                    assert_never(step)
        await wire.finish()

    async def _hold(self, wire: "_Wire", opened: Callable[[], Any]) -> None:
        await wire.flush()
        wire.request.held = True
        self._tell()
        await opened()
        wire.request.held = False
        self._tell()


def _echo(request: Request) -> Turn:
    return Say(f"You said: {request.last_user_text}")


def _summary(requests: Iterable[Request]) -> str:
    return "; ".join(
        f"{request.provider} {request.status or 'unanswered'} {request.refusal or request.last_user_text[:60]!r}"
        for request in requests
    )


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


def _steps(turn: Sequence[Part], name: Callable[[], str]) -> Iterator[Step]:
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


# An answer on its way


class _Wire:
    """One answer: frames gather until something holds the stream, then leave in one write, which keeps it cheap."""

    def __init__(self, http: web.Request, request: Request, dialect: "Dialect") -> None:
        self.http = http
        self.request = request
        self.dialect = dialect
        self.name = ""
        self.response: web.StreamResponse = web.StreamResponse(headers={"content-type": "text/event-stream"})
        self._encoder: Encoder | None = None
        self._frames: list[bytes] = []
        self._deltas: list[Delta] = []
        self._broken_off = False

    def begin(self) -> None:
        if self._encoder is None and self.request.stream:
            self._encoder = self.dialect.encoder(self.request, self.name)
            self._frames.append(self._encoder.begin())

    def put(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self.begin()
        if self._encoder is not None:
            self._frames.append(self._encoder.encode(delta))

    def break_off(self) -> None:
        self._broken_off = True
        self.begin()
        if self._encoder is not None:
            self._frames.append(self._encoder.malformed())

    async def flush(self) -> None:
        if not self._frames:
            return
        content = b"".join(self._frames)
        self._frames.clear()
        if not self.response.prepared:
            self.request.status = 200
            await self.response.prepare(self.http)
        await self.response.write(content)

    async def send_raw(self, data: bytes) -> None:
        self._frames.append(data)
        await self.flush()
        await self.response.write_eof()

    async def finish(self) -> None:
        if self.request.stream:
            await self.flush()
            await self.response.write_eof()
            return
        body = json.dumps(self.dialect.whole(self.request, self.name, self._deltas)).encode()
        await self._send(body[: len(body) // 2] if self._broken_off else body, 200, {})

    async def fail(self, fail: Fail) -> None:
        if fail.in_stream:
            self.begin()
        if self._encoder is not None:
            self._frames.append(self._encoder.error(fail))
            await self.flush()
            await self.response.write_eof()
            return
        headers = {} if fail.retry_after is None else {"retry-after": f"{fail.retry_after:g}"}
        await self._send(json.dumps(self.dialect.error(fail)).encode(), fail.status, headers)

    async def cut(self) -> None:
        await self.flush()
        self.request.dropped = True
        if self.http.transport is not None:
            self.http.transport.close()
        # aiohttp cancels this handler when the transport has closed; returning would end the answer properly.
        await asyncio.Event().wait()

    async def _send(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.request.status = status
        self.response = web.Response(body=body, status=status, headers=headers, content_type="application/json")
        await self.response.prepare(self.http)
        await self.response.write_eof()


# What the two protocols share


class Refused(Exception):
    """The request breaks a rule of the provider; `fail` is the provider's answer."""

    def __init__(self, fail: Fail) -> None:
        super().__init__(fail.message)
        self.fail = fail


class Encoder(Protocol):
    """Writes one streamed answer as server-sent events, called in the order of the stream."""

    def begin(self) -> bytes: ...
    def encode(self, delta: Delta) -> bytes: ...
    def error(self, fail: Fail) -> bytes: ...
    def malformed(self) -> bytes: ...


class Dialect(Protocol):
    """One provider's protocol. `check`, `tools` and `read` raise Refused where the provider answers 400."""

    provider: Provider
    no_key: str

    def key(self, headers: Mapping[str, str]) -> str | None: ...
    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None: ...
    def read(self, body: dict[str, Any]) -> tuple[Message, ...]: ...
    def tools(self, body: dict[str, Any]) -> tuple[str, ...]: ...
    def encoder(self, request: Request, name: str) -> Encoder: ...
    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]: ...
    def error(self, fail: Fail) -> dict[str, Any]: ...
    def too_long(self, fault: TooLong) -> Fail: ...
    def models(self) -> dict[str, Any]: ...


def _refuse(message: str, code: str | None = None) -> Refused:
    return Refused(Fail(400, message=message, code=code))


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _read(request: Request, dialect: Dialect, content: bytes) -> None:
    try:
        body = json.loads(content)
        if not isinstance(body, dict):
            raise _refuse("We could not parse the JSON body of your request. (The body is not an object.)")
        request.body = body
        request.stream = bool(body.get("stream"))
        request.model = body.get("model") or ""
        dialect.check(request.headers, body)
        request.tools = dialect.tools(body)
        request.messages = dialect.read(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refuse(f"The request is not of the documented form: {error!r}") from error


_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def _image(media_type: str, data: str, where: str) -> bytes:
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise _refuse(f"{where}: invalid base64 data") from error
    if not content:
        raise _refuse(f"{where}: image cannot be empty")
    if not content.startswith(_SIGNATURES.get(media_type, ())):
        raise _refuse(f"{where}: the image was specified as {media_type}, which its bytes are not or which is unknown")
    return content


def _check_tool_names(names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        if not _NAME.fullmatch(name):
            raise _refuse(f"tools.{number}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if len(set(names)) != len(names):
        raise _refuse("tools: Tool names must be unique.")


def _gather(deltas: Iterable[Delta]) -> tuple[str, str, list[ToolCall]]:
    text, thoughts = "", ""
    calls: list[ToolCall] = []
    for delta in deltas:
        match delta:
            case Text():
                text += delta.text
            case Thought():
                thoughts += delta.text
            case Opened():
                calls.append(ToolCall(delta.id, delta.name, ""))
            case Arguments():
                last = calls.pop()
                calls.append(ToolCall(last.id, last.name, last.arguments + delta.text))
            case Searched() | Found() | Finished():
                pass
    return text, thoughts, calls


def _end(deltas: Sequence[Delta]) -> Finished:
    last = deltas[-1]
    assert isinstance(last, Finished), "an answer that was not broken off has an end"
    return last


# OpenAI: https://platform.openai.com/docs/api-reference/chat

_OPENAI_ERRORS = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country or region not supported."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", "server_is_overloaded", "The engine is currently overloaded, please try again later."),
}


class OpenAI:
    """Chat Completions."""

    provider: Provider = "openai"
    no_key = "You didn't provide an API key. You need to provide your API key in an Authorization header."

    def key(self, headers: Mapping[str, str]) -> str | None:
        return _bearer(headers)

    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        if not body.get("model"):
            raise _refuse("you must provide a model parameter")
        if not body.get("messages"):
            raise _refuse(
                "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array "
                "instead.",
                "empty_array",
            )
        if body.get("tools") == []:
            raise _refuse("Invalid 'tools': empty array. Expected an array with minimum length 1.", "empty_array")

    def tools(self, body: dict[str, Any]) -> tuple[str, ...]:
        names = tuple(tool["function"]["name"] for tool in body.get("tools") or ())
        _check_tool_names(names)
        return names

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        messages = tuple(self._message(raw, number) for number, raw in enumerate(body["messages"]))
        self._check_results(messages)
        return messages

    def _message(self, raw: dict[str, Any], number: int) -> Message:
        content = raw.get("content")
        match raw["role"]:
            case "system" | "developer":
                text, images = self._content(content, number, "system")
                return Message("system", text)
            case "user":
                text, images = self._content(content, number, "user")
                return Message("user", text, images)
            case "tool":
                text, images = self._content(content, number, "tool")
                return Message("tool", text, call_id=raw["tool_call_id"])
            case "assistant":
                return self._assistant(raw, number)
            case role:
                raise _refuse(
                    f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', "
                    "'tool', and 'developer'."
                )

    def _assistant(self, raw: dict[str, Any], number: int) -> Message:
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in raw.get("tool_calls") or ()
        )
        if raw.get("content") is None and not calls:
            raise _refuse(f"Invalid value for 'content': expected a string, got null. (messages.[{number}].content)")
        if raw.get("tool_calls") == []:
            raise _refuse(f"Invalid 'messages[{number}].tool_calls': empty array.", "empty_array")
        if not all(isinstance(call.arguments, str) for call in calls):
            raise _refuse(f"Invalid type for 'messages[{number}].tool_calls[0].function.arguments': expected a string.")
        text, _ = self._content(raw.get("content") or "", number, "assistant")
        return Message("assistant", text, thoughts=raw.get("reasoning_content") or "", calls=calls)

    def _content(self, content: Any, number: int, role: str) -> tuple[str, tuple[bytes, ...]]:
        if isinstance(content, str):
            return content, ()
        if not isinstance(content, list):
            raise _refuse(f"Invalid type for 'messages[{number}].content': expected a string or an array of objects.")
        texts, images = [], []
        for part in content:
            match part["type"]:
                case "text":
                    texts.append(part["text"])
                case "image_url" if role == "user":
                    images.append(self._picture(part["image_url"]["url"], number))
                case "image_url":
                    raise _refuse(
                        f"Invalid 'messages[{number}]'. Image URLs are only allowed for messages with role 'user', but "
                        f"this message with role '{role}' contains an image URL."
                    )
                case kind:
                    raise _refuse(f"Invalid value: '{kind}'. (messages[{number}].content)")
        return "\n".join(texts), tuple(images)

    def _picture(self, url: str, number: int) -> bytes:
        media_type, separator, data = url.removeprefix("data:").partition(";base64,")
        if not separator:
            raise _refuse(f"Failed to download image from {url[:80]}. (messages[{number}].content)")
        return _image(media_type, data, f"messages[{number}].content")

    def _check_results(self, messages: Sequence[Message]) -> None:
        asked: list[str] = []
        answered: set[str] = set()
        for message in messages:
            if message.call_id is None:
                self._check_all_answered(asked, answered)
                asked, answered = [call.id for call in message.calls], set()
                if len(set(asked)) != len(asked):
                    raise _refuse(f"Duplicate value for 'tool_call_id' in 'tool_calls': {', '.join(asked)}.")
            elif not asked:
                raise _refuse(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                    "'tool_calls'."
                )
            elif message.call_id not in asked:
                raise _refuse(
                    f"Invalid parameter: 'tool_call_id' of '{message.call_id}' not found in 'tool_calls' of previous "
                    "message."
                )
            elif message.call_id in answered:
                raise _refuse(f"Duplicate value for 'tool_call_id' of '{message.call_id}' in message[role=tool].")
            else:
                answered.add(message.call_id)
        self._check_all_answered(asked, answered)

    def _check_all_answered(self, asked: Sequence[str], answered: set[str]) -> None:
        if missing := [call_id for call_id in asked if call_id not in answered]:
            raise _refuse(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}"
            )

    def encoder(self, request: Request, name: str) -> Encoder:
        return _OpenAIEncoder(request, name)

    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]:
        text, thoughts, calls = _gather(deltas)
        end = _end(deltas)
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if thoughts:
            message["reasoning_content"] = thoughts
        if calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}],
            "usage": _openai_usage(end.usage),
        }

    def error(self, fail: Fail) -> dict[str, Any]:
        kind, code, message = _OPENAI_ERRORS.get(fail.status, ("server_error", None, f"Error {fail.status}."))
        return {
            "error": {
                "message": message if fail.message is None else fail.message,
                "type": fail.code if fail.code == "insufficient_quota" else kind,
                "param": None,
                "code": fail.code or code,
            }
        }

    def too_long(self, fault: TooLong) -> Fail:
        return Fail(
            400,
            message=f"This model's maximum context length is {fault.limit} tokens. However, your messages resulted in "
            f"{fault.tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
        )

    def models(self) -> dict[str, Any]:
        model = {"id": "test-model", "object": "model", "created": 1_700_000_000, "owned_by": "tests"}
        return {"object": "list", "data": [model]}


class _OpenAIEncoder:
    def __init__(self, request: Request, name: str) -> None:
        self._frame = {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": request.model,
        }
        self._wants_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        self._calls = -1

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def encode(self, delta: Delta) -> bytes:
        match delta:
            case Text():
                return self._chunk({"content": delta.text})
            case Thought():
                return self._chunk({"reasoning_content": delta.text})
            case Opened():
                self._calls += 1
                function = {"name": delta.name, "arguments": ""}
                call = {"index": self._calls, "id": delta.id, "type": "function", "function": function}
                return self._chunk({"tool_calls": [call]})
            case Arguments():
                return self._chunk({"tool_calls": [{"index": self._calls, "function": {"arguments": delta.text}}]})
            case Searched() | Found():
                return b""
            case Finished():
                return self._chunk({}, delta.reason) + self._usage(delta.usage) + b"data: [DONE]\n\n"
            case _:
                assert_never(delta)

    def error(self, fail: Fail) -> bytes:
        return _event(None, OpenAI().error(fail))

    def malformed(self) -> bytes:
        return b'data: {"id": "chatcmpl-broken", "choices": [{"delta": {"cont\n\n'

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event(None, {**self._frame, "choices": [choice]})

    def _usage(self, usage: Usage) -> bytes:
        told = self._wants_usage and (usage.input or usage.output)
        return _event(None, {**self._frame, "choices": [], "usage": _openai_usage(usage)}) if told else b""


def _openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _event(name: str | None, data: dict[str, Any]) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


# Anthropic: https://docs.anthropic.com/en/api/messages and /en/api/errors

_ANTHROPIC_ERRORS = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "Number of requests has exceeded your per-minute rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}
_STOP_REASONS: dict[Reason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "pause": "pause_turn",
}
SIGNATURE = base64.b64encode(b"signed by the model server of the tests").decode()


class Anthropic:
    """Messages."""

    provider: Provider = "anthropic"
    no_key = "x-api-key header is required"

    def key(self, headers: Mapping[str, str]) -> str | None:
        # The documented header, and the one that version 2 of Anthropic's SDK sends.
        return headers.get("x-api-key") or _bearer(headers)

    def check(self, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        if "anthropic-version" not in headers:
            raise _refuse("anthropic-version: header is required")
        for name in ("model", "max_tokens", "messages"):
            if name not in body:
                raise _refuse(f"{name}: Field required")
        if not body["messages"]:
            raise _refuse("messages: at least one message is required")
        if (marks := _cache_marks(body)) > 4:
            raise _refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")

    def tools(self, body: dict[str, Any]) -> tuple[str, ...]:
        names = tuple(tool["name"] for tool in body.get("tools") or ())
        _check_tool_names(names)
        return names

    def read(self, body: dict[str, Any]) -> tuple[Message, ...]:
        turns = [(raw["role"], self._blocks(raw["content"], number)) for number, raw in enumerate(body["messages"])]
        self._check_roles([role for role, _ in turns])
        for number, (role, blocks) in enumerate(turns):
            for place, block in enumerate(blocks):
                self._check_block(role, block, f"messages.{number}.content.{place}")
            self._check_searches(blocks, f"messages.{number}")
        self._check_results(_merged(turns))
        system = self._blocks(body["system"], None) if body.get("system") else []
        return tuple(self._messages([("system", system), *turns] if system else turns))

    def _blocks(self, content: Any, number: int | None) -> list[dict[str, Any]]:
        if number is not None and not content:
            raise _refuse(f"messages.{number}: all messages must have non-empty content")
        return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)

    def _check_roles(self, roles: Sequence[str]) -> None:
        for number, role in enumerate(roles):
            if role not in ("user", "assistant", "system"):
                raise _refuse(f"messages.{number}.role: Input should be 'user' or 'assistant'")
        if roles[0] != "user":
            raise _refuse('messages: first message must use the "user" role')
        if roles[-1] == "assistant":
            raise _refuse(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )

    def _check_block(self, role: str, block: dict[str, Any], where: str) -> None:
        match role, block["type"]:
            case _, "text":
                if not block["text"]:
                    raise _refuse("messages: text content blocks must be non-empty")
                if not block["text"].strip():
                    raise _refuse("messages: text content blocks must contain non-whitespace text")
            case "user", "image":
                self._picture(block, where)
            case "user", "tool_result":
                content = block.get("content") or ()
                for place, inner in enumerate(() if isinstance(content, str) else content):
                    self._check_block("user", inner, f"{where}.content.{place}")
            case "assistant", "tool_use":
                if not _NAME.fullmatch(block["id"]):
                    raise _refuse(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                if not isinstance(block["input"], dict):
                    raise _refuse(f"{where}.tool_use.input: Input should be a valid dictionary")
            case "assistant", "server_tool_use" | "web_search_tool_result":
                pass
            case "assistant", "thinking" if "cache_control" in block:
                raise _refuse(f"{where}.thinking.cache_control: Extra inputs are not permitted")
            case "assistant", "thinking":
                if block.get("signature") != SIGNATURE:
                    raise _refuse(f"{where}: Invalid `signature` in `thinking` block")
            case _, kind:
                raise _refuse(f"{where}: `{kind}` blocks are not permitted in a message with role `{role}`")

    def _check_searches(self, blocks: Sequence[dict[str, Any]], where: str) -> None:
        asked = [block["id"] for block in blocks if block["type"] == "server_tool_use"]
        found = [block["tool_use_id"] for block in blocks if block["type"] == "web_search_tool_result"]
        if missing := set(asked) ^ set(found):
            raise _refuse(
                f"{where}: `web_search` tool use with id {', '.join(missing)} was found without a corresponding "
                "`web_search_tool_result` block"
            )

    def _check_results(self, turns: Sequence[tuple[str, list[dict[str, Any]]]]) -> None:
        asked: list[str] = []
        ever: set[str] = set()
        for number, (role, blocks) in enumerate(turns):
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            leading = [b["tool_use_id"] for b in itertools.takewhile(lambda b: b["type"] == "tool_result", blocks)]
            self._check_answers(number, asked, results, leading)
            asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if len(set(asked)) != len(asked) or ever & set(asked):
                raise _refuse(f"messages.{number}.content: `tool_use` ids must be unique")
            ever |= set(asked)
            if role == "assistant" and asked and number == len(turns) - 1:
                self._check_answers(number + 1, asked, [], [])

    def _check_answers(self, number: int, asked: Sequence[str], results: Sequence[str], leading: Sequence[str]) -> None:
        if missing := [call_id for call_id in asked if call_id not in leading]:
            raise _refuse(
                f"messages.{number - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the "
                "next message."
            )
        for place, call_id in enumerate(results):
            if call_id not in asked:
                raise _refuse(
                    f"messages.{number}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{call_id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous "
                    "message."
                )
            if call_id in results[:place]:
                raise _refuse(
                    f"messages.{number}.content.{place}: each tool_use must have a single result. Found multiple "
                    f"`tool_result` blocks with id: {call_id}"
                )

    def _messages(self, turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> Iterator[Message]:
        for role, blocks in turns:
            for block in blocks:
                if block["type"] == "tool_result":
                    yield self._result(block)
            rest = [block for block in blocks if block["type"] != "tool_result"]
            if not rest:
                continue
            match role:
                case "assistant":
                    yield self._assistant(rest)
                case "system":
                    yield Message("system", _text(rest))
                case _:
                    yield Message("user", _text(rest), self._pictures(rest))

    def _assistant(self, blocks: Sequence[dict[str, Any]]) -> Message:
        calls = tuple(
            ToolCall(block["id"], block["name"], json.dumps(block["input"]))
            for block in blocks
            if block["type"] == "tool_use"
        )
        thoughts = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        return Message("assistant", _text(blocks), thoughts=thoughts, calls=calls)

    def _result(self, block: dict[str, Any]) -> Message:
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        failed = bool(block.get("is_error"))
        return Message("tool", _text(inner), self._pictures(inner), call_id=block["tool_use_id"], failed=failed)

    def _pictures(self, blocks: Iterable[dict[str, Any]]) -> tuple[bytes, ...]:
        return tuple(self._picture(block, "messages") for block in blocks if block["type"] == "image")

    def _picture(self, block: dict[str, Any], where: str) -> bytes:
        source = block["source"]
        if source["type"] != "base64":
            raise _refuse(f"{where}.image.source: unable to download the file")
        return _image(source["media_type"], source["data"], f"{where}.image.source.base64")

    def encoder(self, request: Request, name: str) -> Encoder:
        return _AnthropicEncoder(request, name)

    def whole(self, request: Request, name: str, deltas: Sequence[Delta]) -> dict[str, Any]:
        text, thoughts, calls = _gather(deltas)
        end = _end(deltas)
        content: list[dict[str, Any]] = []
        if thoughts:
            content.append({"type": "thinking", "thinking": thoughts, "signature": SIGNATURE})
        if text:
            content.append({"type": "text", "text": text})
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": _parsed(c.arguments)} for c in calls]
        reason = _STOP_REASONS[end.reason]
        return _anthropic_message(request, name) | {
            "content": content,
            "stop_reason": reason,
            "usage": _anthropic_usage(end.usage),
        }

    def error(self, fail: Fail) -> dict[str, Any]:
        kind, message = _ANTHROPIC_ERRORS.get(fail.status, ("api_error", f"Error {fail.status}."))
        error = {"type": fail.code or kind, "message": message if fail.message is None else fail.message}
        return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(6)}"}

    def too_long(self, fault: TooLong) -> Fail:
        return Fail(400, message=f"prompt is too long: {fault.tokens} tokens > {fault.limit} maximum")

    def models(self) -> dict[str, Any]:
        model = {
            "id": "test-model",
            "type": "model",
            "display_name": "Test model",
            "created_at": "2025-01-01T00:00:00Z",
        }
        return {"data": [model], "has_more": False, "first_id": "test-model", "last_id": "test-model"}


Block: TypeAlias = Literal["text", "thinking", "tool_use", "server_tool_use", "web_search_tool_result"]


class _AnthropicEncoder:
    def __init__(self, request: Request, name: str) -> None:
        self._message = _anthropic_message(request, name)
        self._open: Block | None = None
        self._index = -1

    def begin(self) -> bytes:
        return _typed({"type": "message_start", "message": self._message}) + _typed({"type": "ping"})

    def encode(self, delta: Delta) -> bytes:
        match delta:
            case Text():
                start = b"" if self._open == "text" else self._start("text", {"text": ""})
                return start + self._delta({"type": "text_delta", "text": delta.text})
            case Thought():
                start = b"" if self._open == "thinking" else self._start("thinking", {"thinking": "", "signature": ""})
                return start + self._delta({"type": "thinking_delta", "thinking": delta.text})
            case Opened():
                return self._start("tool_use", {"id": delta.id, "name": delta.name, "input": {}})
            case Arguments():
                return self._delta({"type": "input_json_delta", "partial_json": delta.text})
            case Searched():
                start = self._start("server_tool_use", {"id": delta.id, "name": "web_search", "input": {}})
                return start + self._delta(
                    {"type": "input_json_delta", "partial_json": json.dumps({"query": delta.query})}
                )
            case Found():
                content = [
                    {
                        "type": "web_search_result",
                        "url": address,
                        "title": f"About {address}",
                        "encrypted_content": SIGNATURE,
                        "page_age": None,
                    }
                    for address in delta.addresses
                ]
                return self._start("web_search_tool_result", {"tool_use_id": delta.id, "content": content})
            case Finished():
                stop = {"stop_reason": _STOP_REASONS[delta.reason], "stop_sequence": None}
                usage = _anthropic_usage(delta.usage)
                end = _typed({"type": "message_delta", "delta": stop, "usage": usage})
                return self._stop() + end + _typed({"type": "message_stop"})
            case _:
                assert_never(delta)

    def error(self, fail: Fail) -> bytes:
        return _event("error", Anthropic().error(fail))

    def malformed(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block_delta", "delta": {"te\n\n'

    def _start(self, kind: Block, block: dict[str, Any]) -> bytes:
        stop = self._stop()
        self._open = kind
        self._index += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": {"type": kind, **block}}
        return stop + _typed(start)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _typed({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        signed = self._delta({"type": "signature_delta", "signature": SIGNATURE}) if self._open == "thinking" else b""
        self._open = None
        return signed + _typed({"type": "content_block_stop", "index": self._index})


def _cache_marks(value: Any) -> int:
    """How many blocks of the body are marked for the prompt cache, at whatever depth."""
    match value:
        case dict():
            return ("cache_control" in value) + sum(map(_cache_marks, value.values()))
        case list():
            return sum(map(_cache_marks, value))
        case _:
            return 0


def _typed(data: dict[str, Any]) -> bytes:
    return _event(data["type"], data)


def _merged(turns: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Consecutive messages of one role count as one, as the API documents."""
    return [
        (role, [block for _, blocks in group for block in blocks])
        for role, group in itertools.groupby(turns, key=lambda turn: turn[0])
    ]


def _text(blocks: Iterable[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _anthropic_message(request: Request, name: str) -> dict[str, Any]:
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _anthropic_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input - usage.cached - usage.written,
        "output_tokens": usage.output,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": usage.written,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }


# As a process of its own


async def _serve_until_stopped(port: int, latency: float) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with ModelServer(port=port, latency=latency, remember=False) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Echoes through both protocols; prints its port first.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0, help="seconds before the first byte of each answer")
    options = parser.parse_args()
    asyncio.run(_serve_until_stopped(options.port, options.latency))


if __name__ == "__main__":
    main()
