"""The shell tool: runs commands in the workspace and ends all of their processes with them."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.tool import ToolContext, ToolError, tool
from agent.tools.process import signal_group, terminate_group, without_secrets

MAX_TIMEOUT = 3600
"""Seconds."""

MAX_OUTPUT = 16_000
"""Bytes of output kept from the beginning, and as many from the end."""

PROGRESS_PAUSE = 0.2
PROGRESS_LINES = 5
PROGRESS_CHARACTERS = 500
GRACE_AT_TIMEOUT = 2.0
GRACE_AT_CANCEL = 0.3
GRACE_AT_END = 0.3

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_QUIET = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}


# An interjection moves a command to the background: half a migration or half a push is worse than a late answer,
# and /stop ends the whole process group at once.
@tool(
    effect="external",
    on_steer="background",
    timeout=MAX_TIMEOUT + 30,
    compensation="Its side effects until then are not undone: check before running it again.",
)
async def shell(
    context: ToolContext,
    command: Annotated[str, Field(description="A bash command line, run in the workspace.")],
    timeout_seconds: Annotated[int, Field(ge=1, le=MAX_TIMEOUT)] = 120,
) -> str:
    """Runs a shell command in the workspace and returns its output and exit code.

    There is no stdin and no terminal. Processes left in the background are ended with the command; to keep one running,
    start it with `setsid program >log 2>&1 &`. Long output is cut in the middle: redirect it to a file and read that.
    """
    if "\0" in command:
        raise ToolError("The command could not be started: it contains a null character")
    output = Output()
    try:
        ending = await _run(command, context.workspace, output, context.progress, timeout_seconds)
    except OSError as error:
        raise ToolError(f"The command could not be started: {error}") from error
    text = f"{output.text()}\n[{ending.description()}]".lstrip("\n")
    if ending.code is None:
        raise ToolError(text)
    return text


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended: `code` as `subprocess` reports it, None if it timed out after `seconds`."""

    code: int | None
    seconds: float
    leftovers: bool

    def description(self) -> str:
        if self.code is None:
            return f"stopped: the command took longer than {self.seconds:g} s; all its processes were ended"
        how = f"exit code {self.code}" if self.code >= 0 else f"ended by signal {-self.code}"
        return f"{how}; processes left in the background were ended with the command" if self.leftovers else how


class Output:
    """The output of a command: the beginning, the end, and how many bytes were dropped between them."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = MAX_OUTPUT - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (excess := len(self._tail) - MAX_OUTPUT) > 0:
            del self._tail[:excess]
            self._dropped += excess
        self.changed.set()

    def text(self) -> str:
        if not self._dropped:
            return _plain_text(bytes(self._head + self._tail)).rstrip()
        gap = f"\n[… {self._dropped:,} bytes left out …]\n"
        head = _plain_text(_without_partial_character(self._head))
        tail = _plain_text(bytes(self._tail.lstrip(_CONTINUATION_BYTES)))
        return f"{head}{gap}{tail}".rstrip()

    def last_lines(self) -> str:
        end = (self._head + self._tail)[-4 * PROGRESS_CHARACTERS :]
        text = _plain_text(bytes(end.lstrip(_CONTINUATION_BYTES)))
        lines = [line for line in text.split("\n") if line.strip()]
        return "\n".join(lines[-PROGRESS_LINES:])[-PROGRESS_CHARACTERS:]


_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


def _without_partial_character(data: bytearray) -> bytes:
    """The data without an incomplete UTF-8 character at its end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return bytes(data[: len(data) - len(pending)])


def _plain_text(data: bytes) -> str:
    """Text without colours and control characters; of a line that was overwritten, only the last version."""
    text = _CONTROLS.sub("", data.decode(errors="replace")).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Running:
    """A started command: its shell, and the output of it and all its descendants."""

    process: asyncio.subprocess.Process
    stream: asyncio.StreamReader
    pipe: asyncio.ReadTransport


async def _run(
    command: str, workspace: Path, output: Output, progress: Callable[[str], Awaitable[None]], seconds: float
) -> Ending:
    """Runs the command until it ends or times out. None of its processes is left afterwards."""
    async with _running(command, workspace) as running, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_collect(running.stream, output))
        showing = tasks.create_task(_show(output, progress))
        grace = GRACE_AT_CANCEL
        try:
            code = await _wait(running.process, seconds)
            grace = GRACE_AT_TIMEOUT if code is None else GRACE_AT_END
            if code is not None:
                # The tee of `… > >(tee log)` outlives its shell by a moment.
                await asyncio.wait({reading}, timeout=GRACE_AT_END)
        finally:
            showing.cancel()
            leftovers = await terminate_group(running.process.pid, reading, grace=grace)
            await running.process.wait()
            # A process that left the group and still holds the pipe must not delay the call.
            await asyncio.wait({reading}, timeout=GRACE_AT_END)
            reading.cancel()
    return Ending(code, seconds, leftovers)


async def _wait(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None


@contextlib.asynccontextmanager
async def _running(command: str, workspace: Path) -> AsyncIterator[Running]:
    """The command while it runs. The start is never cancelled half-way: we would lose track of its processes."""
    starting = asyncio.create_task(_start(command, workspace))
    try:
        await asyncio.wait({starting})
        yield starting.result()
    finally:
        starting.add_done_callback(_clean_up)
        await asyncio.wait({starting})


def _clean_up(started: asyncio.Task[Running]) -> None:
    if not started.cancelled() and started.exception() is None:
        signal_group(started.result().process.pid, signal.SIGKILL)
        started.result().pipe.close()


async def _start(command: str, workspace: Path) -> Running:
    # The pipe is our own: asyncio's would stay open as long as any descendant holds its other end.
    reading, writing = os.pipe()
    stream = asyncio.StreamReader()
    try:
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            return Running(await _spawn(command, workspace, writing), stream, pipe)
        except BaseException:
            pipe.close()
            raise
    finally:
        os.close(writing)


async def _spawn(command: str, workspace: Path, output: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(shutil.which("bash") or "/bin/sh", "-c", command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=workspace,
        env=without_secrets(os.environ) | _QUIET,
        start_new_session=True,
    )


async def _collect(stream: asyncio.StreamReader, output: Output) -> None:
    while data := await stream.read(65_536):
        output.add(data)


async def _show(output: Output, progress: Callable[[str], Awaitable[None]]) -> None:
    while await output.changed.wait():
        output.changed.clear()
        await progress(output.last_lines())
        await asyncio.sleep(PROGRESS_PAUSE)
