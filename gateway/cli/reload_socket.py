"""The socket in the data directory by which `interject reload` asks the running gateway, and gets its answer.

Who connects has asked; the gateway answers with one JSON object and closes. Only the owner of the data directory can
reach it. Unlike a signal it meets no other process, and unlike the web server it is always there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from os.path import samestat
from pathlib import Path

from gateway.lifecycle.reloading import Reloaded
from gateway.lifecycle.tasks import BackgroundTasks

log = logging.getLogger(__name__)

FILE = "gateway.sock"

MAX_PATH = 100
"""Bytes of a socket's path: https://man7.org/linux/man-pages/man7/unix.7.html has 108, some systems have 104."""

TIMEOUT = 120.0
"""Seconds that a reload may take."""

MAX_ANSWER = 1_000_000
"""Bytes."""


class NoAnswer(Exception):
    """No gateway runs with this data directory, or it does not answer. The message says so."""


@asynccontextmanager
async def answering(home: Path, reload: Callable[[], Awaitable[Reloaded]]) -> AsyncIterator[None]:
    """While entered, `ask_to_reload` is answered. Where the data directory cannot have a socket, only that is
    missing."""
    async with BackgroundTasks("a reload that the command line asked for failed") as tasks:

        def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.start(partial(_answer, writer, reload))

        try:
            listener = _listener(home)
            own = (home / FILE).stat()
            server = await asyncio.start_unix_server(connected, sock=listener)
        except (OSError, AttributeError) as error:
            log.warning("interject reload does not work, SIGHUP does: %s: %s", home / FILE, error)
            yield
            return
        try:
            yield
        finally:
            server.close()
            # Another worker that has begun in this data directory has put its own there.
            with suppress(FileNotFoundError):
                if samestat((home / FILE).stat(), own):
                    (home / FILE).unlink()


async def _answer(writer: asyncio.StreamWriter, reload: Callable[[], Awaitable[Reloaded]]) -> None:
    try:
        reloaded = await reload()
        writer.write(json.dumps({"text": reloaded.text, "refused": reloaded.is_refused}).encode())
        # Whoever asked may be gone.
        with suppress(OSError):
            await writer.drain()
    finally:
        writer.close()


def ask_to_reload(home: Path) -> Reloaded:
    """The answer of the gateway of this data directory. Raises `NoAnswer`."""
    try:
        with _short_path(home) as path, socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(TIMEOUT)
            asking.connect(path)
            answer = json.loads(_read(asking))
        return Reloaded(str(answer["text"]), bool(answer["refused"]))
    except TimeoutError:
        raise NoAnswer(f"the gateway of {home} does not answer") from None
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NoAnswer(f"no gateway runs with the data directory {home}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer(f"the gateway of {home} cannot be asked: {error}") from error


def _read(asking: socket.socket) -> bytes:
    answer = bytearray()
    while len(answer) < MAX_ANSWER and (received := asking.recv(65536)):
        answer += received
    return bytes(answer)


def _listener(home: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Of a process that was killed.
        (home / FILE).unlink(missing_ok=True)
        with _short_path(home) as path:
            listener.bind(path)
        (home / FILE).chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


@contextmanager
def _short_path(home: Path) -> Iterator[str]:
    """The socket's path. A long one is named through the open directory, where the system has that."""
    path = str(home / FILE)
    if len(os.fsencode(path)) <= MAX_PATH:
        yield path
        return
    directory = os.open(home, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{FILE}"
    finally:
        os.close(directory)
