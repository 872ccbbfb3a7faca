"""Several real gateways, in processes of their own, on one PostgreSQL database."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.engines import engines


@dataclass
class Process:
    """One worker's process. `stopped`: it was sent SIGSTOP."""

    name: str
    running: asyncio.subprocess.Process
    stopped: bool = False

    def kill(self) -> None:
        self.running.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self.running.send_signal(signal.SIGSTOP)
        self.stopped = True

    def resume(self) -> None:
        self.running.send_signal(signal.SIGCONT)
        self.stopped = False


@dataclass
class Fleet:
    """Workers by name, each with a home folder of its own; `settings` and the database are the same for all."""

    settings: Path
    url: str
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        return self.settings.parent / "interject.db"

    async def start(self, *names: str) -> None:
        for name in names:
            log = (self.settings.parent / f"{name}.log").open("ab")
            environment = {
                **os.environ,
                "INTERJECT_HOME": str(self.settings.parent / name),
                "INTERJECT_STORE__URL": self.url,
            }
            with closing(log):
                running = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "interject", "run", "--config", str(self.settings)),
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            self.processes[name] = Process(name, running)

    async def kill(self, name: str) -> None:
        """With SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        await process.running.wait()

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


async def _a_moment() -> None:
    await asyncio.sleep(0.1)


@asynccontextmanager
async def fleet(settings: Path, *names: str, url: str | None = None) -> AsyncIterator[Fleet]:
    """The workers, which are killed at the end. `url` is another way to the database, such as through a proxy."""
    made = Fleet(settings, url or engines.url(settings.parent / "interject.db"))
    try:
        await made.start(*names)
        yield made
    except BaseException as error:
        error.add_note(made.logs())
        raise
    finally:
        for process in made.processes.values():
            if process.running.returncode is None:
                process.kill()
            await process.running.wait()
