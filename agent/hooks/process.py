"""Hooks as processes: JSON-RPC 2.0 over stdin and stdout, one object per line, in any language.

The process starts with the chain, is pinged when it is idle, and is restarted with growing delays when it exits, breaks
the protocol or does not answer. It ends together with all its child processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.gate import one_line
from agent.hook import HookContext, Point, Ruling, Subject
from agent.hooks.rpc import RpcClient
from agent.hooks.runner import HookError
from agent.hooks.wire import MAX_ANSWER_BYTES, VERSION, event_params, parse_decision, question_params
from agent.interrupt import cancel_and_wait, shielded
from agent.tools.piped_process import PipedProcess, ProcessInput, start_piped
from agent.tools.stderr import log_stderr
from agent.worker_process import COMMAND_VARIABLES, passed_on

log = logging.getLogger(__name__)

READ_REST_TIMEOUT = 2.0
"""Seconds to read the remaining output of a process that has exited."""


@dataclass(frozen=True, slots=True)
class ProcessTimeouts:
    """Times in seconds. `start`: until the process must be ready. `idle`: until an idle process is pinged. `ping`: for
    the answer to a ping; not shorter than the hook's timeout, because a process may handle one request at a time.
    `restart_delay`: before the first restart, doubled each time up to `max_restart_delay`. `grace`: between the request
    to end and the kill.
    """

    start: float = 30.0
    idle: float = 30.0
    ping: float = 10.0
    restart_delay: float = 1.0
    max_restart_delay: float = 60.0
    grace: float = 2.0


class ProcessHook:
    """Keeps the process running while entered. Calls wait while it starts, and fail at once while it is down."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        points: Sequence[Point],
        *,
        directory: Path | None = None,
        timeouts: ProcessTimeouts | None = None,
        variables: Set[str] = frozenset(),
    ) -> None:
        """`variables` are the names of further environment variables that the process is given."""
        if not command:
            raise HookError(f"the hook {name!r} needs a command")
        self._name = name
        self._command = tuple(command)
        self._points = tuple(points)
        self._directory = directory
        self._variables = COMMAND_VARIABLES | variables
        self._timeouts = timeouts or ProcessTimeouts()
        self._client: RpcClient | None = None
        self._error = "its process is not running"
        self.problem = ""
        self._settled = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ProcessHook:
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._supervisor is not None:
            await cancel_and_wait(self._supervisor)

    async def ask(self, point: Point, context: HookContext, subject: Subject) -> Subject | Ruling | None:
        client = await self._ready()
        answer = await client.request(f"hook/{point}", question_params(context, subject))
        return parse_decision(point, subject, answer)

    async def observe(self, context: HookContext, event: Mapping[str, Any]) -> None:
        client = await self._ready()
        await client.notify("event", event_params(context, event))

    async def _ready(self) -> RpcClient:
        await self._settled.wait()
        if self._client is None:
            raise HookError(self._error)
        return self._client

    async def _supervise(self) -> None:
        """Restarts the process forever. Catches whatever goes wrong in one run of it."""
        delay = self._timeouts.restart_delay
        while True:
            self._settled.clear()
            try:
                reason, healthy = await self._run_once()
            except Exception:
                log.exception("hook %s: internal error", self._name)
                reason, healthy = "internal error", False
            delay = self._timeouts.restart_delay if healthy else delay
            self.problem = f"does not run: {reason}"
            log.warning("hook %s: %s; restarting in %g s", self._name, reason, delay)
            self._settled.set()
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._timeouts.max_restart_delay)

    async def _run_once(self) -> tuple[str, bool]:
        """One run of the process: why it ended, and whether it had answered calls."""
        try:
            running = await shielded(
                start_piped(
                    self._command,
                    directory=self._directory,
                    environment=passed_on(os.environ, self._variables),
                    max_line=MAX_ANSWER_BYTES,
                )
            )
        except (OSError, ValueError) as error:
            self._error = f"{self._command[0]!r} cannot be started: {one_line(error)}"
            return self._error, False
        client = RpcClient(running.incoming, _RpcInput(running.outgoing))
        reason = "its process was ended"
        # Not a task group: if its tasks fail at the moment of its cancellation, it swallows the cancellation.
        listening = asyncio.create_task(client.listen())
        logging_stderr = asyncio.create_task(log_stderr(f"hook {self._name}", running.errors))
        exited = asyncio.create_task(_wait_for_exit(running.process, listening, logging_stderr))
        tasks = (listening, exited, logging_stderr, asyncio.create_task(self._monitor(client)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            reason = _failure(tasks)
        finally:
            self._client = None
            self._error = f"its process is down: {reason}"
            client.fail(reason)
            await shielded(_clean_up(running, tasks, self._timeouts.grace))
        return reason, client.answered

    async def _monitor(self, client: RpcClient) -> None:
        """Initializes the process, opens it for calls and pings it. Raises `HookError` when it does not answer."""
        params = {"protocol": VERSION, "name": self._name, "points": list(self._points)}
        try:
            async with asyncio.timeout(self._timeouts.start):
                answer = await client.request("initialize", params)
        except TimeoutError:
            raise HookError(f"it was not ready within {self._timeouts.start:g} s") from None
        match answer:
            case {"protocol": version} if version == VERSION:
                pass
            case _:
                raise HookError(f"it must answer initialize with protocol {VERSION}")
        self._client, self.problem = client, ""
        self._settled.set()
        while True:
            await client.wait_for_ping_time(self._timeouts.idle)
            try:
                async with asyncio.timeout(self._timeouts.ping):
                    await client.ping()
            except TimeoutError:
                raise HookError("it does not answer") from None


def _failure(tasks: Sequence[asyncio.Task[None]]) -> str:
    """The reason of the first failed task. Raises other errors than `HookError`."""
    for task in tasks:
        if task.done():
            try:
                task.result()
            except HookError as error:
                return str(error)
    return "its process was ended"


async def _clean_up(running: PipedProcess, tasks: Sequence[asyncio.Task[None]], grace: float) -> None:
    await cancel_and_wait(*tasks)
    await running.end(grace)


async def _wait_for_exit(
    process: asyncio.subprocess.Process, listening: asyncio.Task[None], logging_stderr: asyncio.Task[None]
) -> None:
    """Raises `HookError` when the process has exited or closed its output, after the remaining output is read."""
    exiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait((listening, exiting), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((listening, logging_stderr, exiting), timeout=READ_REST_TIMEOUT)
    finally:
        await cancel_and_wait(exiting)
    code = process.returncode
    raise HookError("it closed its output" if code is None else f"it ended with exit code {code}")


class _RpcInput:
    """The process's input, with the errors of hooks."""

    def __init__(self, outgoing: ProcessInput) -> None:
        self._outgoing = outgoing

    async def send(self, line: bytes) -> None:
        try:
            await self._outgoing.send(line)
        except BrokenPipeError as error:
            raise HookError(str(error)) from None
