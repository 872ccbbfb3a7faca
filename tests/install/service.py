"""The real program as a service manager starts it, and what it tells that manager."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "interject")
SETTINGS = "[web]\nport = 0\n"


@dataclass(frozen=True)
class Service:
    process: Process
    home: Path
    notifications: asyncio.Queue[str]
    socket: Path

    async def told(self, text: str) -> str:
        """The next notification that contains this; others before it are passed over."""
        async with asyncio.timeout(60):
            while text not in (told := await self.notifications.get()):
                pass
        return told

    @asynccontextmanager
    async def api(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the HTTP API, signed in."""
        address, _, token = json.loads((self.home / "gateway.json").read_text())["link"].partition("/?token=")
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
            yield client

    async def answer(self, text: str, files: Mapping[str, bytes] | None = None) -> dict[str, object]:
        """The run of a message, after its end."""
        async with self.api() as api:
            message = {"client_id": uuid4().hex, "text": text}
            form = {"data": message, "files": [("files", (name, data)) for name, data in (files or {}).items()]}
            sent = await api.post(
                "/api/v1/conversations/web:local:a/messages", **(form if files else {"json": message})
            )
            sent.raise_for_status()
            run = (await api.get(f"/api/v1/runs/{sent.json()['run']}", params={"wait": 60, "until": "end"})).json()
            items = (await api.get("/api/v1/conversations/web:local:a/history")).json()["items"]
            return {"state": run["state"], "items": json.dumps(items)}

    async def end(self, signal: int) -> int:
        """Sends the signal to the gateway itself, not to what it was started by. Returns the exit code."""
        self.inner.send_signal(signal)
        return await asyncio.wait_for(self.process.wait(), 30)

    @property
    def inner(self) -> psutil.Process:
        """The process that the wrapper has started, if there is one."""
        outer = psutil.Process(self.process.pid)
        while (children := outer.children()) and outer.name() in ("unshare", "bwrap"):
            (outer,) = children
        return outer


@asynccontextmanager
async def service(
    folder: Path,
    *,
    wrapper: Sequence[str] = (),
    redirections: str = "",
    program: Sequence[str] = PROGRAM,
    ready: bool = True,
    **environ: str,
) -> AsyncIterator[Service]:
    """`interject run` behind the wrapper, with redirections as in a shell and only these environment variables. Entered
    when it says that it is ready; `ready=False`: at once."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    settings = folder / "interject.toml"
    if not settings.exists():
        settings.write_text(SETTINGS)
    notified: asyncio.Queue[str] = asyncio.Queue()
    # The path of a socket is short, some 100 characters at most.
    sockets = tempfile.TemporaryDirectory(dir="/tmp", prefix="interject-")
    address = Path(sockets.name) / "notify"
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    given |= {"INTERJECT_HOME": str(home), "NOTIFY_SOCKET": str(address)} | environ
    command = [*wrapper, *program, "run", "--config", str(settings)]
    with sockets, _Listening(address, notified):
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *command),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=folder,
            env=given,
            start_new_session=True,
        )
        running = Service(process, home, notified, address)
        try:
            if ready:
                await _ready(running)
            yield running
        finally:
            _kill(process)
            await process.communicate()


async def _ready(running: Service) -> None:
    told = asyncio.ensure_future(running.told("READY=1"))
    ended = asyncio.ensure_future(running.process.wait())
    await asyncio.wait({told, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        told.cancel()
        _, errors = await running.process.communicate()
        raise AssertionError(f"it ended with {running.process.returncode}: {errors.decode()}")
    ended.cancel()
    await told


def _kill(process: Process) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            with suppress(psutil.NoSuchProcess):
                each.kill()


class _Listening:
    """A socket for notifications, as systemd has one."""

    def __init__(self, address: Path, notified: asyncio.Queue[str]) -> None:
        self._notified = notified
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(address))

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def _receive(self) -> None:
        self._notified.put_nowait(self._socket.recv(4096).decode())

    def __exit__(self, *exc: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
