"""The shell tool: commands in the workspace, with everything they start ended when they end."""

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

LONGEST = 3600
"""Seconds a command may be given."""

KEPT = 16_000
"""Bytes of output kept of the beginning, and again of the end."""

PROGRESS_PAUSE = 0.2
PROGRESS_LINES = 5
PROGRESS_CHARACTERS = 500
GRACE_AT_TIMEOUT = 2.0
GRACE_AT_CANCEL = 0.3
GRACE_AT_END = 0.3

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_QUIET = {"TERM": "dumb", "NO_COLOR": "1", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0"}


# An interjection lets a command go on in the background: half a migration or half a push is worse than a late answer,
# and the person who wants it gone has /stop, which ends the whole process group at once.
@tool(
    effect="external",
    on_steer="background",
    timeout=LONGEST + 30,
    compensation="What it had done by then stays done: look before running it again.",
)
async def shell(
    context: ToolContext,
    command: Annotated[str, Field(description="A bash command line, run in the workspace.")],
    timeout_seconds: Annotated[int, Field(ge=1, le=LONGEST)] = 120,
) -> str:
    """Runs a shell command in the workspace and returns its output and exit code.

    There is no input and no terminal. Processes left in the background are ended with the command; start one with
    `setsid program >log 2>&1 &` when it is to stay. Long output is cut in the middle: send it to a file and read that.
    """
    if "\0" in command:
        raise ToolError("The command could not be started: it has a null character in it")
    output = Output()
    try:
        ending = await _run(command, context.workspace, output, context.progress, timeout_seconds)
    except OSError as error:
        raise ToolError(f"The command could not be started: {error}") from error
    text = f"{output.text()}\n[{ending.words()}]".lstrip("\n")
    if ending.code is None:
        raise ToolError(text)
    return text


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended: `code` as `subprocess` has it, None when its time was up after `seconds`."""

    code: int | None
    seconds: float
    leftovers: bool

    def words(self) -> str:
        if self.code is None:
            return f"stopped: the command took longer than {self.seconds:g} s; all its processes were ended"
        how = f"exit code {self.code}" if self.code >= 0 else f"ended by signal {-self.code}"
        return f"{how}; processes left in the background were ended with the command" if self.leftovers else how


class Output:
    """What a command wrote: the beginning, the end, and how much there was between them."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._head = bytearray()
        self._tail = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        room = KEPT - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (excess := len(self._tail) - KEPT) > 0:
            del self._tail[:excess]
            self._cut += excess
        self.changed.set()

    def text(self) -> str:
        if not self._cut:
            return _readable(bytes(self._head + self._tail)).rstrip()
        gap = f"\n[… {self._cut:,} bytes left out …]\n"
        return f"{_readable(_whole(self._head))}{gap}{_readable(bytes(self._tail.lstrip(_CONTINUATIONS)))}".rstrip()

    def last_lines(self) -> str:
        ending = _readable(bytes((self._head + self._tail)[-4 * PROGRESS_CHARACTERS :].lstrip(_CONTINUATIONS)))
        lines = [line for line in ending.split("\n") if line.strip()]
        return "\n".join(lines[-PROGRESS_LINES:])[-PROGRESS_CHARACTERS:]


_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _whole(data: bytearray) -> bytes:
    """The data without a character cut in two at its end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data)
    pending, _ = decoder.getstate()
    return bytes(data[: len(data) - len(pending)])


def _readable(data: bytes) -> str:
    """Text without colours and control characters; of a line that was overwritten, what it showed last."""
    text = _CONTROLS.sub("", data.decode(errors="replace")).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Running:
    """A started command: its shell, and what comes out of it and all its descendants."""

    process: asyncio.subprocess.Process
    stream: asyncio.StreamReader
    pipe: asyncio.ReadTransport


async def _run(
    command: str, workspace: Path, output: Output, progress: Callable[[str], Awaitable[None]], seconds: float
) -> Ending:
    """Runs the command to its end or the end of its time. None of its processes is there afterwards."""
    async with _running(command, workspace) as running, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_collect(running.stream, output))
        showing = tasks.create_task(_show(output, progress))
        grace = GRACE_AT_CANCEL
        try:
            code = await _wait(running.process, seconds)
            grace = GRACE_AT_TIMEOUT if code is None else GRACE_AT_END
            if code is not None:
                # `… > >(tee log)` outlives its shell by a moment.
                await asyncio.wait({reading}, timeout=GRACE_AT_END)
        finally:
            showing.cancel()
            leftovers = await terminate_group(running.process.pid, reading, grace=grace)
            await running.process.wait()
            # Who left the group and still holds the pipe must not hold up the call.
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
    """The command while it runs. A start is never cancelled half way: what it had started would be lost to us."""
    starting = asyncio.create_task(_start(command, workspace))
    try:
        await asyncio.wait({starting})
        yield starting.result()
    finally:
        starting.add_done_callback(_clear_away)
        await asyncio.wait({starting})


def _clear_away(started: asyncio.Task[Running]) -> None:
    if not started.cancelled() and started.exception() is None:
        signal_group(started.result().process.pid, signal.SIGKILL)
        started.result().pipe.close()


async def _start(command: str, workspace: Path) -> Running:
    # The pipe is our own: asyncio's would stay open for as long as some far descendant holds its other end.
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
