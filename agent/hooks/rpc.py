"""A JSON-RPC 2.0 client: one object per line, several concurrent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from itertools import count
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from agent.gate import one_line
from agent.hooks.rules import describe
from agent.hooks.runner import HookError
from agent.hooks.wire import MAX_ANSWER_BYTES, decode, encode

MAX_UNANSWERED = 100
"""Abandoned requests without an answer, beyond which the process is restarted."""


class _Error(BaseModel):
    code: int
    message: str


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    jsonrpc: Literal["2.0"]
    id: int
    result: JsonValue = None
    error: _Error | None = None


class PipeWriter(Protocol):
    def send(self, line: bytes) -> Awaitable[None]:
        """Waits until the pipe is writable and writes. Cancelled, it has written nothing. Raises `HookError`."""


class RpcClient:
    """The connection to one run of the process."""

    def __init__(self, incoming: asyncio.StreamReader, outgoing: PipeWriter) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._ids = count(1)
        # A cancelled future belongs to an abandoned request, whose answer may still arrive.
        self._pending: dict[int, asyncio.Future[JsonValue]] = {}
        self._activity = asyncio.Event()
        self._needs_ping = False
        self._closed_reason: str | None = None
        self._answer_count = 0

    @property
    def answered(self) -> bool:
        """Whether it has answered more than `initialize`."""
        return self._answer_count > 1

    async def request(self, method: str, params: Mapping[str, Any]) -> JsonValue:
        """The result. Raises `HookError` for an error response, and when the process ends."""
        if self._closed_reason is not None:
            raise HookError(self._closed_reason)
        id = next(self._ids)
        line = encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        try:
            await self._outgoing.send(line + b"\n")
            self._pending[id] = asyncio.get_running_loop().create_future()
            return await self._pending[id]
        except asyncio.CancelledError:
            self._needs_ping = True
            self._activity.set()
            raise

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Sends a notification, which has no answer. Raises `HookError`."""
        await self._outgoing.send(encode({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n")

    async def ping(self) -> None:
        """Returns when the process has answered a ping, even with an error. Raises `HookError` if too many requests are
        unanswered."""
        if sum(answer.cancelled() for answer in self._pending.values()) > MAX_UNANSWERED:
            raise HookError("too many requests are unanswered")
        try:
            await self.request("ping", {})
        except HookError:
            if self._closed_reason is not None:
                raise

    async def wait_for_ping_time(self, seconds: float) -> None:
        """Returns when a ping is due: after `seconds` without an answer while none is awaited, or when a request was
        abandoned."""
        while not self._needs_ping:
            self._activity.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._activity.wait()
            except TimeoutError:
                if all(answer.cancelled() for answer in self._pending.values()):
                    break
        self._needs_ping = False

    async def listen(self) -> None:
        """Receives answers until the process closes its output. Raises `HookError` for anything else."""
        while line := await self._read_line():
            self._receive(line)

    def fail(self, reason: str) -> None:
        """Fails all current and later requests with this reason."""
        self._closed_reason = reason
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(HookError(reason))

    async def _read_line(self) -> bytes:
        try:
            return await self._incoming.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError:
            raise HookError(f"it wrote a line of more than {MAX_ANSWER_BYTES:,} bytes") from None

    def _receive(self, line: bytes) -> None:
        try:
            reply = _Reply.model_validate(decode(line))
        except ValidationError as error:
            raise HookError(f"it wrote an invalid answer: {describe(error)}") from error
        if ("result" in reply.model_fields_set) == (reply.error is not None):
            raise HookError("it must answer with either a result or an error")
        answer = self._pending.pop(reply.id, None)
        if answer is None:
            raise HookError(f"it answered request {reply.id}, which is unknown or already answered")
        self._answer_count += 1
        self._activity.set()
        if answer.done():
            return
        if reply.error is None:
            answer.set_result(reply.result)
        else:
            answer.set_exception(HookError(f"it answered with an error: {one_line(reply.error.message)}"))
