"""What the gateway tells systemd, by datagrams of the protocol sd_notify.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html. Does nothing where no socket is named, so it can
be used wherever the gateway runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Systemd:
    """The service manager that started this process, by the environment variables that it has set."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = _watchdog_seconds(environ)

    async def run(self) -> None:
        """Says that the gateway is ready, then that its event loop is alive, twice as often as systemd asks for; when
        cancelled, that it stops."""
        self._tell("READY=1")
        try:
            while self._watchdog is not None:
                await asyncio.sleep(self._watchdog / 2)
                self._tell("WATCHDOG=1")
            await asyncio.Event().wait()
        finally:
            self._tell("STOPPING=1")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While entered, the service is shown as reloading."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            yield
        finally:
            self._tell("READY=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace, which the kernel marks by a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying:
                notifying.setblocking(False)
                notifying.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            # systemd then acts as if nothing had happened; the gateway itself works.
            log.warning("systemd cannot be notified of %s: %s", lines[0], error.strerror)


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """How often systemd wants to hear; None: not at all, or from another process."""
    microseconds, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
