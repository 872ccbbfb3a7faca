"""The gateway as a service of systemd: what it says, and the unit that ships."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings
from gateway.cli.event_loop import SHUTDOWN_TIMEOUT
from tests.install.service import ROOT, Service, service

UNIT = ROOT / "deploy" / "systemd" / "interject.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


async def test_systemd_is_told_of_start_life_reload_and_stop(tmp_path: Path) -> None:
    async with service(tmp_path, WATCHDOG_USEC="200000") as running:
        for _ in range(2):
            assert await running.told("WATCHDOG=1") == "WATCHDOG=1"
        running.inner.send_signal(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", await running.told("RELOADING"))
        assert await running.told("READY") == "READY=1"
        code = await running.end(signal.SIGTERM)
        assert await running.told("STOPPING") == "STOPPING=1"
    assert code == 0


async def test_a_blocked_event_loop_does_not_feed_the_watchdog(tmp_path: Path) -> None:
    """The hook of an operator blocks it: systemd then kills the service and starts it again."""
    (tmp_path / "blocking.py").write_text(
        "import time\n\nclass Block:\n    async def on_message(self, *_):\n        time.sleep(600)\n"
    )
    (tmp_path / "interject.toml").write_text(
        '[web]\nport = 0\n[[hooks]]\nname = "block"\ntype = "python"\npath = "blocking.py:Block"\n'
        'points = ["on_message"]\n'
    )
    async with service(tmp_path, WATCHDOG_USEC="200000") as running:
        await running.told("WATCHDOG=1")
        async with running.api() as api:
            sending = asyncio.ensure_future(
                api.post("/api/v1/conversations/web:local:a/messages", json={"client_id": "message-1", "text": "hi"})
            )
            # Those that were told before it was blocked, and no more.
            while await _told_within(running, seconds=1):
                pass
            sending.cancel()


async def _told_within(running: Service, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return await running.notifications.get()
    except TimeoutError:
        return None


async def test_a_watchdog_for_another_process_is_not_fed(tmp_path: Path) -> None:
    async with service(tmp_path, WATCHDOG_USEC="20000", WATCHDOG_PID="1") as running:
        running.inner.send_signal(signal.SIGTERM)
        assert await running.notifications.get() == "STOPPING=1"


async def test_without_systemd_nothing_is_told_and_a_socket_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        running.socket.unlink()
        assert (await running.answer("hello"))["state"] == "completed"
        assert await running.end(signal.SIGTERM) == 0


@needs_systemd
def test_the_unit_is_valid(tmp_path: Path) -> None:
    installed = tmp_path / "interject.service"
    installed.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", str(installed)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "interject" in line]) == (0, [])


@needs_systemd
def test_the_unit_is_hardened() -> None:
    """systemd's own measure: 0 is closed, 10 is open; a plain unit has 9.6."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=35", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-300:]


def test_the_unit_gives_running_turns_the_time_that_they_have() -> None:
    [stop] = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", UNIT.read_text())
    assert int(stop) > Settings().agent.shutdown_grace + SHUTDOWN_TIMEOUT
