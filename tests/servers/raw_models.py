"""A server of bytes on loopback: it plays what a model server sends, byte for byte, and keeps what it was sent.

    async with RawModelServer() as server:
        server.script([stream_head(), sse({"choices": [...]}), Hold(), b"data: [DONE]\r\n\r\n"])
        ...  # a client asks server.url
        await server.until(1)
        assert server.requests[0].json["stream"] is True

It knows no protocol of models and none of our code. Each answer serves one request and is a list of steps; after the
last one the connection is closed, unless it is `KeepOpen` or `KeepAlive`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class Wait:
    """Sends nothing for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Sends nothing until the event is set; without one, until the client leaves."""

    event: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class KeepOpen:
    """As the last step: the connection stays open, and silent, until the client closes it."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """As the last step: the next request may come over the same connection."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Breaks the connection off, without what has not been sent yet."""


Step: TypeAlias = bytes | Wait | Hold | KeepOpen | KeepAlive | Reset
Steps: TypeAlias = bytes | Sequence[Step]


@dataclass(slots=True, eq=False)
class RawRequest:
    """A request as it was received; names of headers are in lower case, `target` has the path and the query.

    `connection` is the number of its connection; `arrived` and `left_at` are on the clock of `time.monotonic`.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    arrived: float = field(default_factory=time.monotonic)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    left_at: float | None = None

    @property
    def json(self) -> dict[str, Any]:
        body = json.loads(self.body)
        assert isinstance(body, dict), "the body of a request to a model is an object"
        return body

    async def until_left(self) -> float:
        """Waits until the client has closed the connection, and returns when it did."""
        async with asyncio.timeout(60):
            await self.left.wait()
        assert self.left_at is not None
        return self.left_at


class RawModelServer:
    """Use as `async with`. Without a script `respond` decides; without both the answer is a 500 that says so."""

    def __init__(self) -> None:
        self.requests: list[RawRequest] = []
        self.connections = 0
        self._script: deque[Steps] = deque()
        self._respond: Callable[[RawRequest], Steps] = _nothing_scripted
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(partial(_Connection, self._begin), "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None, "use it as `async with`"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def script(self, *answers: Steps) -> None:
        self._script.extend(answers)

    def respond(self, function: Callable[[RawRequest], Steps]) -> None:
        """Lets a function decide each answer for which nothing is scripted."""
        self._respond = function

    async def until(self, count: int) -> RawRequest:
        """Waits for that many requests, and returns the last of them."""
        async with asyncio.timeout(60):
            while len(self.requests) < count:
                await self._changed.wait()
        return self.requests[count - 1]

    def _begin(self, connection: _Connection) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(connection, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: _Connection, number: int) -> None:
        try:
            while (request := await connection.read_request(number)) is not None:
                self.requests.append(request)
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
                answer = self._script.popleft() if self._script else self._respond(request)
                if not await connection.play([answer] if isinstance(answer, bytes) else answer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, begin: Callable[[_Connection], None]) -> None:
        self._begin = begin
        self._reader = asyncio.StreamReader(limit=2**20)
        self._left = asyncio.Event()
        self._closes = False
        self._request: RawRequest | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begin(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def eof_received(self) -> bool:
        self._leave()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    async def read_request(self, number: int) -> RawRequest | None:
        """The next request, or None if there is none any more."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        line, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body = await self._read_body(headers)
        self._request = RawRequest(method, target, headers, body, number)
        return self._request

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readuntil(b"\r\n")
        return body

    async def play(self, steps: Sequence[Step]) -> bool:
        """Plays the steps, as far as the client stays, and tells whether the connection may be used again."""
        assert self._transport is not None
        for step in steps:
            if self._left.is_set():
                return False
            match step:
                case bytes():
                    self._transport.write(step)
                    await asyncio.sleep(0)
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Hold(None) | KeepOpen():
                    await self._left.wait()
                case Hold(asyncio.Event() as event):
                    await self._until_set_or_left(event)
                case KeepAlive():
                    return True
                case Reset():
                    self._closes = True
                    # Without lingering, closing sends a reset in place of an orderly end.
                    connection = self._transport.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._transport.abort()
                    return False
                case _:
                    assert_never(step)
        return False

    def close(self) -> None:
        self._closes = True
        if self._transport is not None:
            self._transport.close()

    async def _until_set_or_left(self, event: asyncio.Event) -> None:
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._left)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def _leave(self) -> None:
        if self._left.is_set():
            return
        self._left.set()
        self._reader.feed_eof()
        if self._request is not None and not self._closes:
            self._request.left_at = time.monotonic()
            self._request.left.set()


def _nothing_scripted(request: RawRequest) -> Steps:
    return whole({"error": {"message": "nothing is scripted for this request"}}, status=500)


# What answers are made of


def head(status: int = 200, **headers: str) -> bytes:
    """The status line and headers; an underscore in a name stands for a hyphen."""
    lines = [f"HTTP/1.1 {status} Status", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def stream_head(content_type: str = "text/event-stream", **headers: str) -> bytes:
    """The head of a stream that ends with the connection."""
    return head(200, content_type=content_type, connection="close", **headers)


def chunk(data: bytes) -> bytes:
    """A piece of a body with `transfer-encoding: chunked`; the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def sse(*events: object, newline: str = "\n", name: str | None = None) -> bytes:
    """Server-sent events: objects as JSON, strings as they are; `name` is that of each, in its `event:` line."""
    before = "" if name is None else f"event: {name}{newline}"
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"{before}data: {text}{newline}{newline}" for text in texts).encode(errors="surrogatepass")


def whole(body: object, *, status: int = 200, content_type: str = "application/json", **headers: str) -> bytes:
    """An answer in one piece, whose connection may be used again: `[whole(…), KeepAlive()]`."""
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return head(status, content_type=content_type, content_length=str(len(content)), **headers) + content
