"""The shell tool: runs commands in the workspace and ends all of their processes with them."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools.process import end_command, kill_command
from agent.tools.sandbox import MIB, CommandLimits, CommandPolicy, SandboxUnavailable

MAX_TIMEOUT = 3600
"""Seconds."""

PROGRESS_PAUSE = 0.2
PROGRESS_LINES = 5
PROGRESS_CHARACTERS = 500
GRACE_AT_TIMEOUT = 2.0
GRACE_AT_CANCEL = 0.3
GRACE_AT_END = 0.3

SIGNALS = 64
"""The highest number of a signal."""

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_POLICY = CommandPolicy()

SANDBOXED = """

It runs in a sandbox: only the workspace can be written, and what is written elsewhere, such as in /tmp, is gone with
the command. """

WORKSPACE_FULL = (
    "\n[The workspace is full: it may hold {limit:,} MiB. Delete files that are not needed; until then commands cannot "
    "write files.]"
)

NO_NETWORK = "There is no network."

NETWORK = "The network can be used."


async def run_command(
    policy: CommandPolicy,
    context: ToolContext,
    command: Annotated[str, Field(description="A bash command line, run in the workspace.")],
    timeout_seconds: Annotated[int, Field(ge=1, le=MAX_TIMEOUT)] = 120,
) -> ToolResult:
    """Runs the command as the policy says. Raises `ToolError`."""
    if "\0" in command:
        raise ToolError("The command could not be started: it contains a null character")
    output = Output(policy.limits.output // 2)
    try:
        policy = await _within_quota(policy, context.workspace)
        ending = await _run(policy, command, context.workspace, output, context.progress, timeout_seconds)
    except (OSError, SandboxUnavailable) as error:
        raise ToolError(f"The command could not be started: {error}") from error
    full = await _quota_exceeded(policy.limits, context.workspace)
    text = f"{output.text()}\n[{ending.description()}]{full}".lstrip("\n")
    if ending.code is None:
        raise ToolError(text)
    return ToolResult(text, failed=ending.code != 0)


async def _within_quota(policy: CommandPolicy, workspace: Path) -> CommandPolicy:
    """The policy with which no file can become larger than the workspace has room for."""
    limits = policy.limits
    if limits.workspace is None:
        return policy
    room = max(0, limits.workspace - await asyncio.to_thread(_size_of, workspace, limits.workspace))
    return replace(policy, limits=replace(limits, file_size=min(limits.file_size, room)))


async def _quota_exceeded(limits: CommandLimits, workspace: Path) -> str:
    """What the model is to know about a workspace that is full, "" if it is not."""
    if limits.workspace is None or await asyncio.to_thread(_size_of, workspace, limits.workspace) < limits.workspace:
        return ""
    return WORKSPACE_FULL.format(limit=limits.workspace // MIB)


def _size_of(folder: Path, enough: int) -> int:
    """Bytes of the files in the folder, counted until that is enough. Links are not followed."""
    size = 0
    # What a command deletes meanwhile is not counted.
    with contextlib.suppress(OSError):
        for _, _, names, descriptor in os.fwalk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    # Blocks of 512 bytes: a file with holes takes less room than it is long.
                    size += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
            if size >= enough:
                break
    return size


# An interjection moves a command to the background: half a migration or half a push is worse than a late answer,
# and /stop ends all of its processes at once.
@tool(
    effect="external",
    on_steer="background",
    timeout=MAX_TIMEOUT + 30,
    runs_code=True,
    compensation="Its side effects until then are not undone: check before running it again.",
)
async def shell(
    context: ToolContext,
    command: Annotated[str, Field(description="A bash command line, run in the workspace.")],
    timeout_seconds: Annotated[int, Field(ge=1, le=MAX_TIMEOUT)] = 120,
) -> ToolResult:
    """Runs a shell command in the workspace and returns its output and exit code.

    There is no stdin and no terminal. Nothing stays running: all processes that the command has started are ended with
    it. Long output is cut in the middle: redirect it to a file and read that.
    """
    return await run_command(_POLICY, context, command, timeout_seconds)


def shell_with(policy: CommandPolicy) -> Tool:
    """The shell tool that runs its commands by this policy. Outside the sandbox it needs approval once."""
    where = f"{SANDBOXED}{NETWORK if policy.network else NO_NETWORK}" if policy.sandboxed else ""
    return replace(
        shell,
        description=shell.description + where,
        run=partial(run_command, policy),
        approval="never" if policy.sandboxed else "once",
        # In the sandbox without network, a command changes nothing but the workspace.
        effect="write" if policy.sandboxed and not policy.network else "external",
    )


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

    def __init__(self, room: int) -> None:
        """`room` is the number of bytes kept from the beginning, and as many from the end."""
        self._room = room
        self.changed = asyncio.Event()
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        room = self._room - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (excess := len(self._tail) - self._room) > 0:
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
    """A started command: the process that ends with all of its processes, their output, and its status.

    `status` ends when the command's shell has ended and everything that it has left was ended too.
    """

    process: asyncio.subprocess.Process
    output: asyncio.StreamReader
    status: asyncio.StreamReader
    pipes: contextlib.ExitStack


async def _run(
    policy: CommandPolicy,
    command: str,
    workspace: Path,
    output: Output,
    progress: Callable[[str], Awaitable[None]],
    seconds: float,
) -> Ending:
    """Runs the command until it ends or times out. None of its processes is left afterwards."""
    async with _running(policy, command, workspace) as running, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(_collect(running.output, output))
        showing = tasks.create_task(_show(output, progress))
        grace = GRACE_AT_CANCEL
        try:
            code = await _wait(running.process, seconds)
            grace = GRACE_AT_TIMEOUT if code is None else GRACE_AT_END
        finally:
            showing.cancel()
            await end_command(running.process, reading, grace=grace)
            reading.cancel()
    if code is None:
        return Ending(None, seconds, leftovers=True)
    return _ending(code, await running.status.read(100), seconds)


def _ending(code: int, status: bytes, seconds: float) -> Ending:
    """From the exit code and the status of the process that watched over the command; it has none if it was killed."""
    reported, _, left = status.decode("ascii", "replace").strip().partition(" ")
    if reported.lstrip("-").isdecimal():
        code = int(reported)
    # Shells report a signal so.
    return Ending(128 - code if 128 < code <= 128 + SIGNALS else code, seconds, left == "1")


async def _wait(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None


@contextlib.asynccontextmanager
async def _running(policy: CommandPolicy, command: str, workspace: Path) -> AsyncIterator[Running]:
    """The command while it runs. The start is never cancelled half-way: we would lose track of its processes."""
    starting = asyncio.create_task(_start(policy, command, workspace))
    try:
        await asyncio.wait({starting})
        yield starting.result()
    finally:
        starting.add_done_callback(_clean_up)
        await asyncio.wait({starting})


def _clean_up(started: asyncio.Task[Running]) -> None:
    if not started.cancelled() and started.exception() is None:
        running = started.result()
        if running.process.returncode is None:
            kill_command(running.process.pid)
        running.pipes.close()


async def _start(policy: CommandPolicy, command: str, workspace: Path) -> Running:
    # The pipes are our own: asyncio's would stay open as long as any descendant holds their other ends.
    loop = asyncio.get_running_loop()
    output, status = asyncio.StreamReader(), asyncio.StreamReader()
    with contextlib.ExitStack() as pipes, contextlib.ExitStack() as child_ends:
        ends: list[int] = []
        for stream in (output, status):
            reading, writing = os.pipe()
            child_ends.callback(os.close, writing)
            ends.append(writing)
            transport, _ = await loop.connect_read_pipe(
                lambda stream=stream: asyncio.StreamReaderProtocol(stream),  # type: ignore[misc]
                os.fdopen(reading, "rb", buffering=0),
            )
            pipes.callback(transport.close)
        process = await asyncio.create_subprocess_exec(
            *policy.arguments(command, workspace, ends[1]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=ends[0],
            stderr=ends[0],
            cwd=workspace,
            env=policy.environment(),
            pass_fds=(ends[1],),
            start_new_session=True,
        )
        return Running(process, output, status, pipes.pop_all())


async def _collect(stream: asyncio.StreamReader, output: Output) -> None:
    while data := await stream.read(65_536):
        output.add(data)


async def _show(output: Output, progress: Callable[[str], Awaitable[None]]) -> None:
    while await output.changed.wait():
        output.changed.clear()
        await progress(output.last_lines())
        await asyncio.sleep(PROGRESS_PAUSE)
