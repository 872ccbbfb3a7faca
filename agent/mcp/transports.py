"""Transports to MCP servers: a child process, streamable HTTP, and the older SSE. All are bounded.

The SDK's own transport for child processes reads lines of any length; ours limits them, and what goes to stderr.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import httpx2
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client import Transport
from mcp.client._transport import TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse, jsonrpc_message_adapter

from agent.gate import one_line
from agent.interrupt import cancel_and_wait, shielded
from agent.mcp.errors import McpError
from agent.mcp.listing import read_listing
from agent.mcp.sources import HttpSource, ProcessSource
from agent.tools.piped_process import PipedProcess, start_piped
from agent.tools.stderr import log_stderr

log = logging.getLogger(__name__)

# They log addresses and ids of sessions, which may be secret.
for name in ("mcp", "client", "httpx2"):
    logging.getLogger(name).setLevel(logging.WARNING)

MAX_MESSAGE = 24 * 1024 * 1024
"""Bytes of one message. A file in a result is base64, which is a third longer than the file."""

MAX_NOTICES_PER_SECOND = 200
"""Notices (progress, logs, changes) of one server that are heard per second; further ones are dropped."""

MAX_PER_SECOND = 10_000
"""Messages of one server that are read per second, dropped or not; a server that sends more has to wait."""

READ_AHEAD = 256 * 1024
"""Bytes that are read ahead of a server's output. What waits there delays the results behind it."""

PROBLEMS = "interject/problems"
"""Where the metadata of a list has what is wrong with the tools that are left out."""

GRACE = 2.0
"""Seconds that a process has to end by itself when its input is closed."""

HTTP_TIMEOUT = httpx2.Timeout(30.0, read=600.0)
"""A server may answer a call in a stream that is silent for long; the time of a call is limited elsewhere."""

Message = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Message], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def over_process(source: ProcessSource) -> AsyncIterator[Streams]:
    """The server as a child process, over its stdin and stdout. It ends with all its processes. Raises `McpError`."""
    try:
        process = await shielded(
            start_piped(source.command, directory=source.directory, environment=source.environment, max_line=READ_AHEAD)
        )
    except (OSError, ValueError) as error:
        raise McpError(f"{source.command[0]!r} cannot be started: {one_line(error)}") from error
    arriving, incoming = anyio.create_memory_object_stream[Message](0)
    outgoing, leaving = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = (
        asyncio.create_task(_read_lines(process, arriving)),
        asyncio.create_task(_write_lines(process, leaving)),
        asyncio.create_task(log_stderr(f"MCP server {source.name}", process.errors)),
    )
    try:
        async with arriving, incoming, outgoing, leaving:
            yield incoming, outgoing
    finally:
        await shielded(_end(process, tasks))


async def _end(process: PipedProcess, tasks: tuple[asyncio.Task[None], ...]) -> None:
    await cancel_and_wait(*tasks)
    await process.end(GRACE)


async def _read_lines(process: PipedProcess, arriving: ObjectSendStream[Message]) -> None:
    """Reads messages until the process closes its output, breaks the limit or has nobody to read to."""
    pending = bytearray()
    async with arriving:
        while chunk := await process.incoming.read(65_536):
            pending += chunk
            if b"\n" not in chunk:
                if len(pending) > MAX_MESSAGE:
                    log.warning("an MCP server sent a message of more than %d bytes, and is ended", MAX_MESSAGE)
                    return
                continue
            *lines, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for line in filter(bytes.strip, lines):
                try:
                    await arriving.send(_message(line))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return


def _message(line: bytes) -> Message:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        # Without the value, which pydantic quotes.
        return McpError(f"it sent a line that is no message ({type(error).__name__})")


async def _write_lines(process: PipedProcess, leaving: ObjectReceiveStream[SessionMessage]) -> None:
    async with leaving:
        async for message in leaving:
            line = message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
            try:
                await process.outgoing.send(line)
            except BrokenPipeError:
                return


@asynccontextmanager
async def over_http(source: HttpSource) -> AsyncIterator[TransportStreams]:
    """The server over streamable HTTP."""
    async with (
        _client(dict(source.headers), HTTP_TIMEOUT, source.auth) as client,
        streamable_http_client(source.url, http_client=client, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        yield streams


@asynccontextmanager
async def over_sse(source: HttpSource) -> AsyncIterator[TransportStreams]:
    """The server over HTTP with server-sent events, as servers spoke before March 2025."""
    async with sse_client(
        source.url,
        dict(source.headers),
        timeout=30.0,
        sse_read_timeout=600.0,
        httpx_client_factory=_client,
        auth=source.auth,
    ) as streams:
        yield streams


def _client(
    headers: dict[str, str] | None = None, timeout: httpx2.Timeout | None = None, auth: httpx2.Auth | None = None
) -> httpx2.AsyncClient:
    # Not compressed: a small answer could become a large one.
    return httpx2.AsyncClient(
        headers={"User-Agent": "Interject", "Accept-Encoding": "identity", **(headers or {})},
        timeout=timeout or HTTP_TIMEOUT,
        auth=auth,
        transport=_LimitedTransport(),
    )


class _LimitedTransport(httpx2.AsyncHTTPTransport):
    """Refuses answers that are too long or compressed. Streams of events have a limit for each event instead."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx2.DecodingError("the answer is compressed, which was not asked for", request=request)
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _LimitedStream(response.stream)
        return response


class _LimitedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_MESSAGE:
                raise httpx2.ReadError(f"the answer has more than {MAX_MESSAGE} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def bounded(transport: Transport, closed: Callable[[], None]) -> AsyncIterator[Streams]:
    """The transport at a bounded pace, its lists of tools checked; `closed` is called when nothing arrives any more."""
    async with transport as (incoming, outgoing):
        passing, received = anyio.create_memory_object_stream[Message](0)
        async with anyio.create_task_group() as group, received:
            group.start_soon(_relay, incoming, passing, closed)
            yield received, outgoing  # type: ignore[misc]  # the SDK has two kinds of streams
            group.cancel_scope.cancel()


async def _relay(
    incoming: AsyncIterable[Message], passing: ObjectSendStream[Message], closed: Callable[[], None]
) -> None:
    pace = _Pace()
    async with passing:
        async for message in incoming:
            if not await pace.passes(message):
                continue
            if isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCResponse):
                await _check_tools(message.message.result)
            try:
                await passing.send(message)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
    closed()


class _Pace:
    """Counts what a server sends within a second."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._next_second()

    def _next_second(self) -> None:
        self._until = self._clock() + 1.0
        self._messages = self._notices = self._requests = 0

    async def passes(self, message: Message) -> bool:
        """Whether the message is to be heard. Waits until the second is over if there are too many."""
        inner = message.message if isinstance(message, SessionMessage) else None
        self._messages += 1
        self._requests += isinstance(inner, JSONRPCRequest)
        self._notices += not isinstance(inner, JSONRPCRequest | JSONRPCResponse | JSONRPCError)
        left = self._until - self._clock()
        if left > 0 and (self._messages > MAX_PER_SECOND or self._requests > MAX_NOTICES_PER_SECOND):
            await anyio.sleep(left)
            left = 0.0
        is_heard = self._notices <= MAX_NOTICES_PER_SECOND or isinstance(
            inner, JSONRPCRequest | JSONRPCResponse | JSONRPCError
        )
        if left <= 0:
            self._next_second()
        return is_heard


async def _check_tools(result: dict[str, object]) -> None:
    """Leaves bad tools out of a list, so that they cost only themselves: the SDK refuses a list with a bad one. What
    describes results is left out too: checking against the schema of a stranger may take any time."""
    tools = result.get("tools")
    if not isinstance(tools, list):
        return
    listing = await asyncio.to_thread(read_listing, tools)
    result["tools"] = [
        {
            "name": tool.name,
            "description": tool.description,
            "inputSchema": tool.schema,
            "annotations": dict(tool.annotations),
        }
        for tool in listing.tools
    ]
    if listing.problems:
        meta = result.get("_meta")
        result["_meta"] = {**(meta if isinstance(meta, dict) else {}), PROBLEMS: list(listing.problems)}
