"""Model providers on loopback: the protocols of OpenAI and Anthropic played from one script, strict like the real ones.

    async with ModelServer() as server:
        server.script([Say("Looking."), Call("shell", {"command": "ls"})], Say(["Two ", Pause(), "files."]))

`script` takes one argument per model answer (a part, or a list of parts); each answer serves one request, whichever
protocol it speaks. `[]` is an empty answer. Without a script `respond(fn)` decides, and without that it echoes.
"""

import argparse
import asyncio
import itertools
import json
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, assert_never

from aiohttp import web

from tests.servers.anthropic_messages import SIGNATURE, Anthropic
from tests.servers.chat_completions import OpenAI
from tests.servers.model_protocol import Dialect, Encoder, Refused, read_request
from tests.servers.model_script import (
    Arguments,
    Call,
    Content,
    Control,
    Delta,
    Drop,
    End,
    Fail,
    Finished,
    Found,
    Gate,
    Malformed,
    Message,
    Opened,
    Part,
    Pause,
    Provider,
    Raw,
    Request,
    Say,
    Search,
    Searched,
    Silence,
    Text,
    Think,
    Thought,
    ToolCall,
    TooLong,
    Turn,
    Usage,
    Wait,
    steps,
)
from tests.servers.responses import Responses, Stored

__all__ = [
    "SIGNATURE",
    "Anthropic",
    "Call",
    "Content",
    "Control",
    "Drop",
    "End",
    "Fail",
    "Gate",
    "Malformed",
    "Message",
    "ModelServer",
    "OpenAI",
    "Part",
    "Pause",
    "Provider",
    "Raw",
    "Refused",
    "Request",
    "Responses",
    "Say",
    "ScriptNotPlayed",
    "Search",
    "Silence",
    "Stored",
    "Think",
    "TooLong",
    "ToolCall",
    "Turn",
    "Usage",
    "Wait",
]


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
        self.stored = Stored()  # what a server of Responses keeps
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
        app.router.add_post("/v1/responses", self._responses)
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

    def url(self, provider: Provider) -> str:
        """The base URL for clients of this protocol."""
        return self.anthropic_url if provider == "anthropic" else self.openai_url

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

    async def _responses(self, http: web.Request) -> web.StreamResponse:
        return await self._answer(http, Responses(self.stored))

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
            read_request(wire.request, wire.dialect, content)
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
        for step in steps(turn, self._name):
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
    parser = argparse.ArgumentParser(description="Echoes through all protocols; prints its port first.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0, help="seconds before the first byte of each answer")
    options = parser.parse_args()
    asyncio.run(_serve_until_stopped(options.port, options.latency))


if __name__ == "__main__":
    main()
