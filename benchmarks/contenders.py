"""The contenders, the gateway and two floors: each a process of its own with a Bot API server of its own."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never, get_args

from benchmarks.meter import Meter
from tests.servers.telegram import BotApi, Chat

Kind = Literal["gateway", "SDK floor", "bare floor"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FLOORS: tuple[Kind, ...] = ("SDK floor", "bare floor")

ROOT = Path(__file__).resolve().parents[1]
GATEWAY = (sys.executable, "-m", "interject")
TIMEOUT = 60.0
"""Seconds after which an answer counts as lost."""


class Failed(Exception):
    """A contender did not do what is measured; the message ends with the last lines of its output."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How a contender is started. `gateway` is the command before "run", `floor` that before the module's name."""

    model_url: str
    gateway: Sequence[str] = GATEWAY
    floor: Sequence[str] = (sys.executable, "-m")
    web: bool = True


@dataclass(slots=True)
class Contender:
    """A running contender. `spawned` is the time just before its process was created, in monotonic seconds."""

    kind: Kind
    api: BotApi
    process: asyncio.subprocess.Process
    output: Path
    spawned: float
    meter: Meter
    chats: int = 0

    async def first_poll(self) -> float:
        """Seconds from the start of the process to its first request for updates."""
        ended = asyncio.ensure_future(self.process.wait())
        polled = asyncio.ensure_future(self.api.until(lambda api: api.polls > 0, TIMEOUT))
        await asyncio.wait((ended, polled), return_when=asyncio.FIRST_COMPLETED)
        try:
            if ended.done():
                raise self.failure("it ended before its first poll")
            await self._within_timeout(polled)
        finally:
            ended.cancel()
            polled.cancel()
        return self.api.called("getUpdates")[0].at - self.spawned

    def new_chat(self) -> Chat:
        """A private chat with a new person."""
        self.chats += 1
        return self.api.private(10_000 + self.chats, f"Person {self.chats}")

    async def ask(self, chat: Chat, text: str) -> float:
        """Sends the text; returns the seconds until the complete echo is shown. Partial streaming does not count."""
        expected = f"You said: {text}"
        start = time.perf_counter()
        await chat.say(text)
        await self._within_timeout(chat.until(lambda chat: _shows(chat, expected), TIMEOUT))
        return time.perf_counter() - start

    async def talk(self, chat: Chat, messages: int) -> list[float]:
        """Sends that many messages, one after another; returns the seconds that each took."""
        return [await self.ask(chat, f"message {number} in chat {chat.id}") for number in _fresh(chat, messages)]

    async def talk_all(self, chats: Sequence[Chat], messages: int) -> None:
        """Sends that many messages in every chat, the chats in parallel."""
        try:
            async with asyncio.TaskGroup() as group:
                for chat in chats:
                    group.create_task(self.talk(chat, messages))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _within_timeout(self, waiting: Awaitable[object]) -> None:
        try:
            await waiting
        except TimeoutError as error:
            raise self.failure(str(error)) from error

    def failure(self, what: str) -> Failed:
        state = "runs" if self.process.returncode is None else f"ended with code {self.process.returncode}"
        last = "\n".join(self.output.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        return Failed(f"the {self.kind} ({state}): {what}\n{last}")


def _fresh(chat: Chat, messages: int) -> range:
    start = len(chat.log) + 1
    return range(start, start + messages)


def _shows(chat: Chat, text: str) -> bool:
    return any(shown.text == text for shown in chat.messages[-2:])


@asynccontextmanager
async def start(kind: Kind, setup: Setup, home: Path) -> AsyncIterator[Contender]:
    """Starts a contender in the directory `home`, and ends it."""
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    output = home / "output.log"
    async with BotApi() as api:
        command = _command(kind, setup, api, home)
        spawned = time.monotonic()
        process = await spawn(command, contender_environment(home), output)
        try:
            yield Contender(kind, api, process, output, spawned, Meter(process.pid))
        finally:
            await end(process)


@asynccontextmanager
async def model_server(latency: float) -> AsyncIterator[str]:
    """An echoing model that takes `latency` seconds, in a process of its own; yields its address."""
    command = (sys.executable, "-m", "tests.servers.models", "--port", "0", "--latency", str(latency))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        if process.stdout is None:
            raise Failed("the model server has no output")
        async with asyncio.timeout(TIMEOUT):
            port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await end(process)


async def spawn(command: Sequence[str], environment: Mapping[str, str], output: Path) -> asyncio.subprocess.Process:
    with output.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), cwd=ROOT
        )


async def end(process: asyncio.subprocess.Process) -> None:
    """Terminates the process, and kills it after five seconds."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _command(kind: Kind, setup: Setup, api: BotApi, home: Path) -> Sequence[str]:
    match kind:
        case "gateway":
            file = home / "interject.toml"
            file.write_text(_settings(setup, api), encoding="utf-8")
            return (*setup.gateway, "run", "--config", str(file))
        case "SDK floor":
            return (*setup.floor, "benchmarks.sdk_floor", api.url, api.token, setup.model_url)
        case "bare floor":
            return (*setup.floor, "benchmarks.bare_floor", api.url, api.token, setup.model_url)
        case _:
            assert_never(kind)


def _settings(setup: Setup, api: BotApi) -> str:
    return f"""\
[agent]
model = "openai:test"
[models.openai]
api_key = "none"
base_url = "{setup.model_url}"
[web]
enabled = {str(setup.web).lower()}
port = 0
[limits]
messages_per_minute = 1000000
[channels.telegram]
token = "{api.token}"
api_url = "{api.url}"
allow = ["*"]
"""


def contender_environment(home: Path) -> dict[str, str]:
    """Our environment without the variables that would configure a contender, or that make Python compile the
    sources at each start: an install is compiled once."""
    apart = ("INTERJECT_", "OPENAI_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    return kept | {"INTERJECT_HOME": str(home), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
