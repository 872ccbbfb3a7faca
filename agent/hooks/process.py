"""Hooks as processes: JSON-RPC 2.0 over stdin and stdout, one object a line, in any language.

The process is started with the chain, asked for a sign of life when it is quiet, and started again with growing
pauses when it exits, lies or does not answer. It ends with all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.hook import Point, Ruling, Subject, HookContext
from agent.hooks.rpc import Peer
from agent.hooks.runner import HookError, shortened
from agent.hooks.stderr import show_errors
from agent.hooks.wire import LONGEST, VERSION, decision, news, question
from agent.interrupt import cancel_and_wait, shielded
from agent.tools.process import terminate_group, without_secrets

log = logging.getLogger(__name__)

LAST_WORDS = 2.0
"""Seconds at most in which what a process said before its end is read."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. `start` is how long a process may take to be ready, `quiet` after how long it is asked for a
    sign of life and `sign` how long that may take; `pause` is the first one before it is started again, doubled until
    `longest_pause`; `grace` is what it has to end in peace.

    `sign` is not to be shorter than the hook's time limit: one that does one thing at a time answers afterwards.
    """

    start: float = 30.0
    quiet: float = 30.0
    sign: float = 10.0
    pause: float = 1.0
    longest_pause: float = 60.0
    grace: float = 2.0


class ProcessHook:
    """Keeps the process running while entered. While it starts, questions wait; while it is down, they fail at once."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        points: Sequence[Point],
        *,
        directory: Path | None = None,
        pace: Pace | None = None,
    ) -> None:
        if not command:
            raise HookError(f"the hook {name!r} needs a command")
        self._name = name
        self._command = tuple(command)
        self._points = tuple(points)
        self._directory = directory
        self._pace = pace or Pace()
        self._peer: Peer | None = None
        self._trouble = "its process is not running"
        self._settled = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ProcessHook:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._keeping is not None:
            await cancel_and_wait(self._keeping)

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        peer = await self._ready()
        answer = await peer.request(f"hook/{point}", question(context, subject))
        return decision(point, subject, answer)

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        peer = await self._ready()
        await peer.notify("event", news(context, event))

    async def _ready(self) -> Peer:
        await self._settled.wait()
        if self._peer is None:
            raise HookError(self._trouble)
        return self._peer

    async def _keep(self) -> None:
        """Starts it again for ever. This is the edge at which whatever goes wrong with one life of it ends."""
        pause = self._pace.pause
        while True:
            self._settled.clear()
            try:
                reason, well = await self._live()
            except Exception:
                log.exception("hook %s: its runner broke", self._name)
                reason, well = "its runner broke", False
            pause = self._pace.pause if well else pause
            log.warning("hook %s: %s; it is started again in %g s", self._name, reason, pause)
            self._settled.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._pace.longest_pause)

    async def _live(self) -> tuple[str, bool]:
        """One life of the process: why it ended, and whether it had been of use."""
        try:
            running = await shielded(_start(self._command, self._directory))
        except (OSError, ValueError) as error:
            self._trouble = f"{self._command[0]!r} cannot be started: {shortened(error)}"
            return self._trouble, False
        peer = Peer(running.incoming, running.outgoing)
        reason = "its process was ended"
        # No task group: one whose tasks fail just when it is cancelled swallows the cancellation.
        listening = asyncio.create_task(peer.listen())
        showing = asyncio.create_task(show_errors(self._name, running.errors))
        over = asyncio.create_task(_over(running.process, listening, showing))
        tasks = (listening, over, showing, asyncio.create_task(self._attend(peer)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            reason = _failure(tasks)
        finally:
            self._peer = None
            self._trouble = f"its process is down: {reason}"
            peer.fail(reason)
            await shielded(_tidy(running, tasks, self._pace.grace))
        return reason, peer.answered

    async def _attend(self, peer: Peer) -> None:
        """Greets the process, lets it be asked, and looks after it. Raises `HookError` when it is not well."""
        greeting = {"protocol": VERSION, "name": self._name, "points": list(self._points)}
        try:
            async with asyncio.timeout(self._pace.start):
                said = await peer.request("initialize", greeting)
        except TimeoutError:
            raise HookError(f"it was not ready within {self._pace.start:g} s") from None
        match said:
            case {"protocol": version} if version == VERSION:
                pass
            case _:
                raise HookError(f"it must answer initialize with protocol {VERSION}")
        self._peer = peer
        self._settled.set()
        while True:
            await peer.quiet(self._pace.quiet)
            try:
                async with asyncio.timeout(self._pace.sign):
                    await peer.ping()
            except TimeoutError:
                raise HookError("it does not answer") from None


def _failure(tasks: Sequence[asyncio.Task[None]]) -> str:
    """Why the first of those that failed did. Raises what is no `HookError`."""
    for task in tasks:
        if task.done():
            try:
                task.result()
            except HookError as error:
                return str(error)
    return "its process was ended"


async def _tidy(running: _Running, tasks: Sequence[asyncio.Task[None]], grace: float) -> None:
    await cancel_and_wait(*tasks)
    await running.end(grace)


async def _over(
    process: asyncio.subprocess.Process, listening: asyncio.Task[None], showing: asyncio.Task[None]
) -> None:
    """Raises `HookError` when the process has exited or closed its output, and what it said before is read."""
    exiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait((listening, exiting), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((listening, showing, exiting), timeout=LAST_WORDS)
    finally:
        await cancel_and_wait(exiting)
    code = process.returncode
    raise HookError("it closed its output" if code is None else f"it ended with exit code {code}")


class _Outgoing(asyncio.BaseProtocol):
    """The process's stdin, which may be full."""

    def __init__(self) -> None:
        self._room = asyncio.Event()
        self._room.set()
        self._lost = False
        self._transport: asyncio.WriteTransport | None = None

    def opened(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    async def send(self, line: bytes) -> None:
        """Waits for room and writes; cancelled, it has written nothing. Raises `HookError`."""
        while not self._room.is_set():
            # Of those that wait, only as many may go on as there is room for.
            await self._room.wait()
        if self._lost or self._transport is None or self._transport.is_closing():
            raise HookError("its process does not listen any more")
        self._transport.write(line)

    def close(self) -> None:
        # Aborting twice breaks asyncio's own transport.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._room.set()


@dataclass(frozen=True, slots=True)
class _Running:
    process: asyncio.subprocess.Process
    outgoing: _Outgoing
    incoming: asyncio.StreamReader
    errors: asyncio.StreamReader
    pipes: contextlib.ExitStack

    async def end(self, grace: float) -> None:
        """Ends the process and all that it started: the end of its input and a signal ask for it."""
        draining = asyncio.create_task(_drain(self.incoming))
        try:
            self.outgoing.close()
            await terminate_group(self.process.pid, draining, grace=grace)
            await self.process.wait()
        finally:
            draining.cancel()
            self.pipes.close()
            await cancel_and_wait(draining)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass


async def _start(command: Sequence[str], directory: Path | None) -> _Running:
    """Starts it. The pipes are our own: asyncio's would keep an exited process alive for us for as long as some far
    descendant of it holds their other ends."""
    loop = asyncio.get_running_loop()
    outgoing, incoming, errors = _Outgoing(), asyncio.StreamReader(LONGEST), asyncio.StreamReader()
    with contextlib.ExitStack() as pipes, contextlib.ExitStack() as theirs:
        their_input, our_output = os.pipe()
        theirs.callback(os.close, their_input)
        transport, _ = await loop.connect_write_pipe(lambda: outgoing, os.fdopen(our_output, "wb", buffering=0))
        outgoing.opened(transport)
        pipes.callback(outgoing.close)
        ends: list[int] = []
        for stream in (incoming, errors):
            our_input, their_output = os.pipe()
            theirs.callback(os.close, their_output)
            ends.append(their_output)
            reading, _ = await loop.connect_read_pipe(
                lambda stream=stream: asyncio.StreamReaderProtocol(stream),  # type: ignore[misc]
                os.fdopen(our_input, "rb", buffering=0),
            )
            pipes.callback(reading.close)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=their_input,
            stdout=ends[0],
            stderr=ends[1],
            cwd=directory,
            env=without_secrets(os.environ),
            start_new_session=True,
        )
        return _Running(process, outgoing, incoming, errors, pipes.pop_all())
