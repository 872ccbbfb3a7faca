"""A real PostgreSQL server for the tests: its programs are found on the machine, its data lives in memory."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

IN_MEMORY = Path("/dev/shm")
PASSWORD = "secret"
ACCOUNT = "nobody"
"""PostgreSQL does not run as root."""

MISSING = (
    "NO POSTGRESQL FOUND: the store on PostgreSQL is NOT TESTED. Install it (Debian: apt-get install postgresql), or "
    "put initdb and postgres on the PATH."
)

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "max_connections=300")
"""What is written survives a kill of the server all the same, only not a power cut."""


def programs() -> Path | None:
    """The directory of PostgreSQL's server programs, the newest of those installed; None if there are none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return next(iter(reversed(installed)), None if found is None else Path(found).resolve().parent)


@dataclass
class Postgres:
    """One server on a free port of 127.0.0.1; use `running`. Databases are made by `create`."""

    bin: Path
    folder: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = FAST
    _administrator: psycopg.Connection[Any] | None = None

    def start(self) -> None:
        """Starts it, again on the port that it had."""
        self.port = self.port or _free_port()
        options = [part for option in self.options for part in ("-c", option)]
        command = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-k", "", "-h", "127.0.0.1"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                _as_account([*command, "-p", str(self.port), *options]), stdout=log, stderr=log, cwd=self.folder
            )
        self._wait_until_it_answers()

    def stop(self, *, kill: bool = False) -> None:
        """Ends it as an administrator would ("fast"), or with all its processes at once."""
        assert self.process is not None
        if self._administrator is not None:
            self._administrator.close()
            self._administrator = None
        if kill:
            main = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(main, 9)
            self.process.kill()
        else:
            subprocess.run(
                _as_account([str(self.bin / "pg_ctl"), "stop", "-D", str(self.folder / "data"), "-m", "fast", "-s"]),
                check=True,
                timeout=30,
            )
        self.process.wait(timeout=30)

    def create(self, template: str | None = None) -> str:
        """The URL of a new database, empty or a copy of another."""
        name = f"t{uuid4().hex}"
        copied = f' TEMPLATE "{template}" STRATEGY FILE_COPY' if template else ""
        self.execute(f'CREATE DATABASE "{name}"{copied}')
        return self.url(name)

    def drop(self, url: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def url(self, name: str) -> str:
        return f"postgresql://interject:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Runs SQL as the superuser, beside all databases."""
        if self._administrator is None:
            self._administrator = psycopg.connect(self.url("postgres"), autocommit=True)
        self._administrator.execute(statement.encode())

    def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        until = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self.folder / "log").read_text()[-3000:]) from None
                time.sleep(0.02)


@contextmanager
def running(options: tuple[str, ...] = FAST, within: Path | None = None) -> Iterator[Postgres]:
    """A server of its own, with its data in a temporary folder, in memory or `within` this one. Raises `RuntimeError`
    where there is none."""
    found = programs()
    if found is None:
        raise RuntimeError(MISSING)
    memory = IN_MEMORY if os.access(IN_MEMORY, os.W_OK | os.X_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="interject-postgres-", dir=within or memory))
    server = Postgres(found, folder, options=options)
    try:
        folder.chmod(0o755)
        if os.getuid() == 0:
            shutil.chown(folder, ACCOUNT)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            _as_account(
                [
                    str(found / "initdb"),
                    "-D",
                    str(folder / "data"),
                    "-U",
                    "interject",
                    "-A",
                    "scram-sha-256",
                    f"--pwfile={password}",
                    "-E",
                    "UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                ]
            ),
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            timeout=120,
        )
        server.start()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            with suppress(subprocess.SubprocessError, OSError):
                server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_account(command: list[str]) -> list[str]:
    if os.getuid() != 0:
        return command
    pwd.getpwnam(ACCOUNT)
    drop = "import os,sys; os.setgid(65534); os.setgroups([]); os.setuid(65534); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", drop, *command]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
