"""Several workers on a PostgreSQL server of their own, behind a load balancer, and bots that post to them.

Each bot posts one update after the other, as the gateway asks Telegram to, to one worker after the other. Whatever a
worker does not take, the next one gets.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil  # type: ignore[import-untyped]  # it comes without types

from benchmarks.contenders import TIMEOUT, Failed, contender_environment, end, spawn
from benchmarks.meter import Meter
from benchmarks.scenarios import Bench
from tests.servers.local import free_port
from tests.servers.postgres import MISSING, Postgres, programs, running
from tests.servers.telegram import BotApi, Chat

BOTS = 4

AS_INSTALLED: tuple[str, ...] = ()
"""The database server is as a new one: what is committed is on the disk."""

PUBLIC = "https://bot.example.org"
"""Where Telegram would post to; the bots here know the workers."""

_POSTED = "X-Telegram-Bot-Api-Secret-Token"


@dataclass(slots=True)
class Worker:
    """A process; `url` is that of its web server."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    output: Path
    meter: Meter

    @property
    def pid(self) -> int:
        return self.process.pid


class Bot:
    """A bot with its own Bot API server; `post_all` runs meanwhile."""

    def __init__(self, name: str, api: BotApi, fleet: Fleet) -> None:
        self.name = name
        self.api = api
        self._fleet = fleet
        self._updates: asyncio.Queue[Any] = asyncio.Queue()

    async def say(self, chat: Chat, text: str) -> None:
        await chat.say(text)
        self._updates.put_nowait(self.api.updates.queue.pop().update)

    async def post_all(self) -> None:
        """Posts what is said, in its order, until cancelled."""
        [registered, *_] = await self.api.until(lambda api: api.called("setWebhook"), TIMEOUT)
        headers = {_POSTED: registered.params.text("secret_token")}
        while True:
            await self._fleet.post(f"/telegram/{self.name}/", await self._updates.get(), headers)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A private chat of one person with one of the bots."""

    bot: Bot
    chat: Chat

    async def say(self, text: str) -> None:
        await self.bot.say(self.chat, text)

    async def ask(self, text: str) -> float:
        """Seconds until the model's echo is shown."""
        since = time.perf_counter()
        await self.say(text)
        await self.hear(f"You said: {text}")
        return time.perf_counter() - since

    async def hear(self, text: str) -> None:
        await self.chat.until(lambda chat: any(shown.text == text for shown in chat.messages[-3:]), TIMEOUT)


@dataclass(slots=True)
class Fleet:
    """`working` are the workers that get messages."""

    folder: Path
    settings: Path
    command: Sequence[str]
    server: Postgres
    database: str
    client: aiohttp.ClientSession
    bots: list[Bot] = field(default_factory=list)
    working: list[Worker] = field(default_factory=list)
    only: Worker | None = None
    """Gets all messages, if there is one."""
    _started: list[Worker] = field(default_factory=list)
    _posts: int = 0
    _people: int = 0

    def conversations(self, count: int) -> list[Conversation]:
        """New ones, with the bots in turn."""
        found = []
        for _ in range(count):
            self._people += 1
            bot = self.bots[self._people % len(self.bots)]
            found.append(Conversation(bot, bot.api.private(10_000 + self._people, f"Person {self._people}")))
        return found

    async def start(self) -> Worker:
        """A worker that is ready and gets messages."""
        name = f"worker{len(self._started) + 1}"
        home, port = self.folder / name, free_port()
        await asyncio.to_thread(home.mkdir)
        environment = contender_environment(home) | {
            "INTERJECT_STORE__URL": self.database,
            "INTERJECT_WEB__PORT": str(port),
        }
        output = home / "output.log"
        process = await spawn((*self.command, "run", "--config", str(self.settings)), environment, output)
        worker = Worker(name, f"http://127.0.0.1:{port}", process, output, Meter(process.pid))
        self._started.append(worker)
        async with asyncio.timeout(TIMEOUT):
            while not await self._is_ready(worker):
                if process.returncode is not None:
                    raise Failed(f"{name} ended with code {process.returncode}\n{self.last_lines()}")
                await asyncio.sleep(0.05)
        self.working.append(worker)
        return worker

    async def _is_ready(self, worker: Worker) -> bool:
        try:
            async with self.client.get(f"{worker.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, worker: Worker) -> None:
        """SIGTERM, and until the process is gone. It gets messages as long as it takes them."""
        worker.process.terminate()
        async with asyncio.timeout(TIMEOUT):
            await worker.process.wait()
        self.working.remove(worker)

    async def kill(self, worker: Worker) -> None:
        """SIGKILL."""
        worker.process.kill()
        await worker.process.wait()
        self.working.remove(worker)

    async def post(self, path: str, update: Any, headers: dict[str, str]) -> None:
        """Until a worker has taken the update."""
        while True:
            for _ in range(len(self.working)):
                self._posts += 1
                worker = self.only or self.working[self._posts % len(self.working)]
                try:
                    async with self.client.post(worker.url + path, json=update, headers=headers) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    continue
            await asyncio.sleep(0.05)

    def processor_seconds(self) -> tuple[float, float, float]:
        """Of the workers, of the database server, and of the whole machine, since some time."""
        assert self.server.process is not None
        main = psutil.Process(self.server.process.pid)
        own = main.cpu_times()
        database = own.user + own.system + own.children_user + own.children_system
        for child in main.children():
            times = child.cpu_times()
            database += times.user + times.system
        whole = psutil.cpu_times()
        busy = sum(getattr(whole, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
        return sum(worker.meter.cpu() for worker in self.working), database, busy

    def last_lines(self) -> str:
        return "\n".join(
            f"--- {worker.name}\n" + "\n".join(worker.output.read_text(errors="replace").splitlines()[-8:])
            for worker in self._started
        )


@asynccontextmanager
async def fleet(bench: Bench, model_url: str, workers: int, lease: float | None = None) -> AsyncIterator[Fleet]:
    """So many workers that are ready, with an empty database; all ends on leaving. `lease` in seconds."""
    if programs() is None:
        raise Failed(MISSING)
    folder = bench.new_home()
    await asyncio.to_thread(folder.mkdir)
    async with AsyncExitStack() as stack:
        # Not in the working directory, where the account of the server may not look.
        server = stack.enter_context(running(AS_INSTALLED, Path(tempfile.gettempdir())))
        client = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        file = folder / "interject.toml"
        made = Fleet(folder, file, bench.gateway, server, server.create(), client)
        for number in range(1, BOTS + 1):
            api = await stack.enter_async_context(BotApi(token=f"{number}:token", username=f"bot{number}"))
            made.bots.append(Bot(f"bot{number}", api, made))
        file.write_text(_settings(made, model_url, lease), encoding="utf-8")
        posting: list[asyncio.Task[None]] = []
        try:
            for _ in range(workers):
                await made.start()
            posting += [asyncio.create_task(bot.post_all()) for bot in made.bots]
            yield made
        except TimeoutError as error:
            raise Failed(f"{error}\n{made.last_lines()}") from error
        finally:
            for task in posting:
                task.cancel()
            await asyncio.gather(*posting, return_exceptions=True)
            await asyncio.gather(*(end(worker.process) for worker in made._started))


def _settings(made: Fleet, model_url: str, lease: float | None) -> str:
    """The files of people are in folders that all workers share."""
    written = f"""\
[agent]
model = "openai:test"
workspace = "{made.folder / "workspace"}"
max_steps = 1000
[models.openai]
api_key = "none"
base_url = "{model_url}"
[media]
path = "{made.folder / "media"}"
[limits]
messages_per_minute = 1000000
"""
    if lease is not None:
        written += f"[store]\nlease = {lease}\n"
    for bot in made.bots:
        written += f"""\
[channels.{bot.name}]
type = "telegram"
token = "{bot.api.token}"
api_url = "{bot.api.url}"
webhook_url = "{PUBLIC}"
allow = ["*"]
"""
    return written
