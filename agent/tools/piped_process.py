"""Child processes that talk over pipes: hooks, and MCP servers over stdio."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.interrupt import cancel_and_wait
from agent.tools.process import terminate_group


class ProcessInput(asyncio.BaseProtocol):
    """The stdin of the process, with flow control."""

    def __init__(self) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._transport: asyncio.WriteTransport | None = None

    def opened(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    async def send(self, line: bytes) -> None:
        """Waits until the pipe is writable and writes. Cancelled, it has written nothing. Raises `BrokenPipeError`."""
        while not self._writable.is_set():
            # Another waiter may have filled the pipe again.
            await self._writable.wait()
        if self._lost or self._transport is None or self._transport.is_closing():
            raise BrokenPipeError("its process has closed its input")
        self._transport.write(line)

    def close(self) -> None:
        # Aborting twice breaks asyncio's own transport.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()


@dataclass(frozen=True, slots=True)
class PipedProcess:
    """A running process, leader of a group of its own. `incoming` is its stdout, `errors` its stderr."""

    process: asyncio.subprocess.Process
    outgoing: ProcessInput
    incoming: asyncio.StreamReader
    errors: asyncio.StreamReader
    pipes: contextlib.ExitStack

    async def end(self, grace: float) -> None:
        """Ends the process and its children: closes its input, then sends signals."""
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


async def start_piped(
    command: Sequence[str], *, directory: Path | None, environment: Mapping[str, str], max_line: int
) -> PipedProcess:
    """Starts the process; lines of its stdout may have `max_line` bytes. The pipes are our own: with those of asyncio,
    an exited process counts as running as long as a descendant holds their other ends. Raises `OSError`, `ValueError`.
    """
    loop = asyncio.get_running_loop()
    outgoing, incoming, errors = ProcessInput(), asyncio.StreamReader(max_line), asyncio.StreamReader()
    with contextlib.ExitStack() as pipes, contextlib.ExitStack() as child_ends:
        child_stdin, our_output = os.pipe()
        child_ends.callback(os.close, child_stdin)
        transport, _ = await loop.connect_write_pipe(lambda: outgoing, os.fdopen(our_output, "wb", buffering=0))
        outgoing.opened(transport)
        pipes.callback(outgoing.close)
        ends: list[int] = []
        for stream in (incoming, errors):
            our_input, child_output = os.pipe()
            child_ends.callback(os.close, child_output)
            ends.append(child_output)
            reading, _ = await loop.connect_read_pipe(
                lambda stream=stream: asyncio.StreamReaderProtocol(stream),  # type: ignore[misc]
                os.fdopen(our_input, "rb", buffering=0),
            )
            pipes.callback(reading.close)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=child_stdin,
            stdout=ends[0],
            stderr=ends[1],
            cwd=directory,
            env=environment,
            start_new_session=True,
        )
        return PipedProcess(process, outgoing, incoming, errors, pipes.pop_all())
