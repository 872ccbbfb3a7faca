"""Several real gateways, in processes of their own, on one PostgreSQL database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process as Running
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.engines import engines
from tests.servers.local import free_port


@dataclass
class Process:
    """A worker's process, or that of its link. `stopped`: it was sent SIGSTOP."""

    name: str
    running: Running
    stopped: bool = False

    def kill(self) -> None:
        self.running.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self.running.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        self.running.send_signal(signal.SIGCONT)
        self.stopped = False

    async def end(self) -> None:
        """It is killed if it still runs."""
        if self.running.returncode is None:
            self.kill()
        await self.running.wait()


class Link:
    """The network between one worker and the database server: a proxy in a process of its own."""

    def __init__(self, url: str) -> None:
        """`url` is that of the database."""
        self._parts = urlsplit(url)
        self._port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The database, by this way."""
        user, _, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{self._port}"))

    async def open(self) -> None:
        """Connections can be made from now on."""
        command = (sys.executable, "-m", "tests.servers.proxy", str(self._port), str(self._parts.port))
        self._process = Process("link", await asyncio.create_subprocess_exec(*command))
        async with asyncio.timeout(60):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def cut(self) -> None:
        """Every connection is reset, and new ones are refused until `open`."""
        assert self._process is not None
        await self._process.end()

    def swallow(self) -> None:
        """What is sent in either direction is not delivered before `deliver`. Nobody is told."""
        assert self._process is not None
        self._process.stop()

    def deliver(self) -> None:
        assert self._process is not None
        self._process.resume()


class Clock:
    """The time of day as one worker's process sees it, see `wrong_clock`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.move(0)

    def move(self, seconds: int) -> None:
        """It is wrong by so many seconds from now on."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.replace(self.file)


@dataclass
class Fleet:
    """Workers by name, each with a home folder of its own; `settings` and the database are the same for all. Those with
    a link or a clock of their own have these by their names, too."""

    settings: Path
    url: str
    processes: dict[str, Process] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.settings.parent / "interject.db"

    async def start(self, *names: str) -> None:
        for name in names:
            log = (self.settings.parent / f"{name}.log").open("ab")
            environment = {
                **os.environ,
                "INTERJECT_HOME": str(self.settings.parent / name),
                "INTERJECT_STORE__URL": self.links[name].url if name in self.links else self.url,
            }
            program = ("tests.cluster.wrong_clock", self.clocks[name].file) if name in self.clocks else ("interject",)
            with closing(log):
                running = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", *program, "run", "--config", self.settings),
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            self.processes[name] = Process(name, running)

    async def kill(self, name: str) -> None:
        """With SIGKILL."""
        await self.processes.pop(name).end()

    async def end(self, name: str) -> int:
        """With SIGTERM, as at a deploy; its exit code."""
        process = self.processes.pop(name)
        process.running.terminate()
        return await process.running.wait()

    async def alive(self, name: str) -> None:
        """Returns when others take the worker for alive. One that could not start, as without a database, is started
        again: supervisors do that."""
        async with asyncio.timeout(120):
            while not self._is_alive(name):
                code = self.processes[name].running.returncode
                assert code in (None, 1), f"{name} has ended with {code}"
                if code is not None:
                    await self.start(name)
                await _a_moment()

    def _is_alive(self, name: str) -> bool:
        with suppress(psycopg.Error):
            pid = self.processes[name].running.pid
            return bool(engines.sql(self.database, "SELECT 1 FROM workers WHERE pid = ?", pid))
        return False

    def holder(self, connector: str) -> str:
        """The name of the worker that has the connector; "" if nobody does."""
        rows = engines.sql(
            self.database,
            "SELECT workers.pid FROM leases JOIN workers ON workers.id = leases.worker WHERE leases.name LIKE ?",
            f"{connector}%",
        )
        pids = {pid for (pid,) in rows}
        return next((name for name, each in self.processes.items() if each.running.pid in pids), "")

    def logs(self) -> str:
        return "\n".join(f"--- {path.stem}\n{path.read_text()}" for path in sorted(self.settings.parent.glob("*.log")))

    def rows(self) -> str:
        """Who is alive, and who holds which connector."""
        found = []
        with suppress(psycopg.Error):
            found += engines.sql(
                self.database, "SELECT id, pid, until - extract(epoch from clock_timestamp()) FROM workers"
            )
            found += engines.sql(self.database, "SELECT name, worker, epoch FROM leases")
        return "\n".join(map(str, found))


async def _a_moment() -> None:
    await asyncio.sleep(0.1)


@asynccontextmanager
async def fleet(settings: Path, *names: str, url: str | None = None, apart: Sequence[str] = ()) -> AsyncIterator[Fleet]:
    """The workers, which are killed at the end. `url` is another way to the database, such as through a proxy. Those
    that are `apart` have a link and a clock of their own."""
    made = Fleet(settings, url or engines.url(settings.parent / "interject.db"))
    async with AsyncExitStack() as stack:
        for name in apart:
            made.clocks[name] = Clock(settings.parent / f"{name}.clock")
            link = made.links[name] = Link(made.url)
            await link.open()
            stack.push_async_callback(link.cut)
        stack.push_async_callback(_end, made)
        try:
            await made.start(*names)
            yield made
        except BaseException as error:
            error.add_note(f"{made.logs()}\n{made.rows()}")
            raise


async def _end(workers: Fleet) -> None:
    for process in workers.processes.values():
        await process.end()
