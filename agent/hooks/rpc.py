"""JSON-RPC 2.0 with a process that only answers: one object a line, several questions at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from itertools import count
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from agent.hooks.rules import explained
from agent.hooks.runner import HookError, shortened
from agent.hooks.wire import LONGEST, read, written

MOST_UNANSWERED = 100
"""Questions that nobody waits for any more and that were not answered, until the process counts as lost."""


class _Fault(BaseModel):
    code: int
    message: str


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    jsonrpc: Literal["2.0"]
    id: int
    result: JsonValue = None
    error: _Fault | None = None


class Sender(Protocol):
    def send(self, line: bytes) -> Awaitable[None]:
        """Waits for room and writes the line; cancelled, it has written nothing. Raises `HookError`."""


class Peer:
    """One life of the process, as somebody to talk to. `answered`: it has been of use."""

    def __init__(self, incoming: asyncio.StreamReader, outgoing: Sender) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._ids = count(1)
        # Those whose future is cancelled are waited for by nobody; their answers may still come.
        self._pending: dict[int, asyncio.Future[JsonValue]] = {}
        self._stirred = asyncio.Event()
        self._doubtful = False
        self._over: str | None = None
        self._answers = 0

    @property
    def answered(self) -> bool:
        """Whether it has answered more than the greeting."""
        return self._answers > 1

    async def request(self, method: str, params: Mapping[str, Any]) -> JsonValue:
        """The result. Raises `HookError` for an error in its place, or when the process comes to its end."""
        if self._over is not None:
            raise HookError(self._over)
        id = next(self._ids)
        line = written({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        try:
            await self._outgoing.send(line + b"\n")
            self._pending[id] = asyncio.get_running_loop().create_future()
            return await self._pending[id]
        except asyncio.CancelledError:
            self._doubtful = True
            self._stirred.set()
            raise

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Raises `HookError`."""
        await self._outgoing.send(written({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n")

    async def ping(self) -> None:
        """Returns when it has answered, whatever it was. Raises `HookError` if it leaves too much unanswered."""
        if sum(answer.cancelled() for answer in self._pending.values()) > MOST_UNANSWERED:
            raise HookError("it leaves too much unanswered")
        try:
            await self.request("ping", {})
        except HookError:
            if self._over is not None:
                raise

    async def quiet(self, seconds: float) -> None:
        """Returns when a sign of life is due: nothing was asked or answered for so long, or a question was given up."""
        while not self._doubtful:
            self._stirred.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._stirred.wait()
            except TimeoutError:
                if all(answer.cancelled() for answer in self._pending.values()):
                    break
        self._doubtful = False

    async def listen(self) -> None:
        """Takes answers until the process closes its output. Raises `HookError` for whatever is none."""
        while line := await self._line():
            self._take(line)

    def fail(self, reason: str) -> None:
        """Nothing is answered any more, for this reason."""
        self._over = reason
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(HookError(reason))

    async def _line(self) -> bytes:
        try:
            return await self._incoming.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError:
            raise HookError(f"it wrote a line of more than {LONGEST:,} bytes") from None

    def _take(self, line: bytes) -> None:
        try:
            reply = _Reply.model_validate(read(line))
        except ValidationError as error:
            raise HookError(f"it wrote what is no answer: {explained(error)}") from error
        if ("result" in reply.model_fields_set) == (reply.error is not None):
            raise HookError("it must answer with either a result or an error")
        answer = self._pending.pop(reply.id, None)
        if answer is None:
            raise HookError(f"it answered question {reply.id}, which was not asked or is answered already")
        self._answers += 1
        self._stirred.set()
        if answer.done():
            return
        if reply.error is None:
            answer.set_result(reply.result)
        else:
            answer.set_exception(HookError(f"it answered with an error: {shortened(reply.error.message)}"))
