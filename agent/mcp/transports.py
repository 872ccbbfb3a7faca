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
from agent.mcp.http import HTTP_TIMEOUT, MAX_MESSAGE, http_client
from agent.mcp.listing import read_listing
from agent.mcp.oauth import AccountAuth
from agent.mcp.sources import HttpSource, ProcessSource
from agent.tools.piped_process import PipedProcess, start_piped
from agent.tools.stderr import log_stderr

log = logging.getLogger(__name__)

# They log addresses and ids of sessions, which may be secret.
for name in ("mcp", "client", "httpx2"):
    logging.getLogger(name).setLevel(logging.WARNING)

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

Message = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Message], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def over_process(source: ProcessSource, complains: Callable[[str], None]) -> AsyncIterator[Streams]:
    """The server as a child process, over its stdin and stdout. It ends with all its processes. `complains` is called
    with lines of its stderr. Raises `McpError`."""
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
        asyncio.create_task(log_stderr(f"MCP server {source.name}", process.errors, complains)),
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
        http_client(dict(source.headers), HTTP_TIMEOUT, _auth(source)) as client,
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
        httpx_client_factory=http_client,
        auth=_auth(source),
    ) as streams:
        yield streams


def _auth(source: HttpSource) -> httpx2.Auth | None:
    return None if source.account is None else AccountAuth(source.account)


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
