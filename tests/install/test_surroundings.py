"""Where services run: without streams, a home directory, a user name, a writable system, room, or a parent."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.install.service import PROGRAM, ROOT, service

USER = ("unshare", "--user", "--map-user=4242", "--map-group=4242")
"""A user who has no name and no home directory, and who owns the files of the test."""


def works(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
needs_users = pytest.mark.skipif(not works(*USER, "true"), reason="needs unshare and user namespaces")
needs_bwrap = pytest.mark.skipif(
    not works("bwrap", "--ro-bind", "/", "/", "true"), reason="needs bubblewrap and user namespaces"
)


@pytest.mark.parametrize(
    "redirections",
    [
        "<&- >&- 2>&-",
        "2>&-",
        pytest.param(">/dev/full", marks=needs_full),
        pytest.param(">/dev/full 2>/dev/full", marks=needs_full),
    ],
)
async def test_it_runs_with_closed_and_full_standard_streams(tmp_path: Path, redirections: str) -> None:
    async with service(tmp_path, redirections=redirections) as running:
        run = await running.answer("hello")
        code = await running.end(signal.SIGTERM)
    assert (run["state"], code) == ("completed", 0)
    assert (running.home / "interject.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize(
    ("arguments", "redirections", "says"),
    [
        pytest.param(
            *("version", ">/dev/full", "interject: standard output cannot be written: No space left on device"),
            marks=needs_full,
        ),
        ("--help", ">&-", ""),
        ("version", "| true", ""),
    ],
)
def test_a_command_that_cannot_print_ends_without_a_traceback(arguments: str, redirections: str, says: str) -> None:
    line = f'"$@" {arguments} {redirections}'
    done = subprocess.run(["sh", "-c", line, "sh", *PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == says


@needs_users
async def test_a_user_without_a_name_and_a_home_directory_may_run_it(tmp_path: Path) -> None:
    async with service(tmp_path, wrapper=USER) as running:
        run = await running.answer("draw a chart")
        code = await running.end(signal.SIGTERM)
    assert (run["state"], code) == ("completed", 0)
    assert ".png" in str(run["items"])


@needs_users
def test_without_any_home_directory_one_line_says_what_to_set(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    for command in ("run", "init"):
        done = subprocess.run(
            [*USER, *PROGRAM, command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert "no home directory: set INTERJECT_HOME" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []


def read_only(folder: Path) -> tuple[str, ...]:
    """Everything but what is bound further on; the folder may be beneath /dev."""
    return ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--ro-bind", str(folder), str(folder))


@needs_bwrap
async def test_a_read_only_system_with_one_writable_folder_is_enough(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    wrapper = (*read_only(tmp_path), "--bind", home, home)
    async with service(tmp_path, wrapper=wrapper, HOME="/") as running:
        await running.answer("hello", {"big.bin": bytes(3_000_000)})
        run = await running.answer("draw a chart")
        code = await running.end(signal.SIGTERM)
    assert (run["state"], code) == ("completed", 0)
    assert ".png" in str(run["items"])
    assert list((running.home / "cache" / "matplotlib").glob("fontlist-*.json")) != []
    assert list((running.home / "tmp").iterdir()) == []


@needs_bwrap
def test_a_data_directory_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "INTERJECT_HOME": str(tmp_path / "home")}
    command = [*read_only(tmp_path), *PROGRAM, "run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    home = tmp_path / "home"
    assert (
        done.stderr == f"interject: {home}: the file system is read-only. Set INTERJECT_HOME to a writable directory\n"
    )


@pytest.mark.skipif(not works("unshare", "-Urm", "true"), reason="needs unshare and user namespaces")
@pytest.mark.parametrize("size", ["4k", "16k", "64k", "200k"])
def test_a_full_disk_at_start_is_named_in_one_line(tmp_path: Path, size: str) -> None:
    script = f'mount -t tmpfs -o size={size} none "$0" && exec "$@" run'
    command = ["unshare", "-Urm", "sh", "-c", script, str(tmp_path), *PROGRAM]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/"}
    environment |= {"INTERJECT_HOME": str(tmp_path), "INTERJECT_WEB__PORT": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"interject: {tmp_path}")
    assert "the disk is full. Make room" in line


CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.skipif(not works(*CONTAINER, "true"), reason="needs unshare and user namespaces")
async def test_as_process_1_it_collects_processes_that_have_lost_their_parent(tmp_path: Path) -> None:
    async with service(tmp_path, wrapper=CONTAINER) as running:
        first = running.inner
        [gateway] = first.children()
        enter = ("nsenter", "--user", "--preserve-credentials", "--pid", "--target", str(first.pid), "--")
        await (await asyncio.create_subprocess_exec(*enter, "sh", "-c", "sleep 0.2 & sleep 0.1 & exit 0")).wait()
        # The orphans end by themselves; then nobody but process 1 can collect them.
        orphans = [child for child in first.children() if child != gateway]
        _, uncollected = await asyncio.to_thread(psutil.wait_procs, orphans, 30)
        assert uncollected == []
        assert first.children() == [gateway]
        first.send_signal(signal.SIGHUP)
        await running.told("RELOADING=1")
        run = await running.answer("hello")
        code = await running.end(signal.SIGTERM)
    assert (run["state"], code) == ("completed", 0)
