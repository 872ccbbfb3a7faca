"""The machine: the disk, the data directory's permissions, open files, the port, the sandbox, fonts."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from config.load import Configuration
from config.settings import shared_channels
from gateway.assembly.shell_policy import runs_code, shell_policy, who_may_run_commands
from gateway.cli.doctor.finding import Finding, Level
from gateway.cli.output import size
from gateway.web.http_server import PortTaken, bind

LITTLE_SPACE = 1_000_000_000
NO_SPACE = 100_000_000
"""Bytes on the disk of the data directory."""

FEW_FILES = 1024
"""Open files; each connection, database file and child process needs some."""

LETTERS = {
    "Chinese and Japanese": "日",
    "Korean": "한",
    "Arabic": "ع",
    "Hebrew": "א",
    "Devanagari": "अ",
    "emoji": "😀",
}


def check_machine(configuration: Configuration, *, is_running: bool) -> Iterator[Finding]:
    yield _disk(configuration.home)
    yield from _permissions(configuration.home)
    yield _open_files()
    if not is_running and configuration.settings.web.enabled:
        yield _port(configuration)
    yield _sandbox(configuration)
    if "draw_chart" in configuration.settings.tools.enabled:
        yield _fonts()


def _disk(home: Path) -> Finding:
    folder = next(each for each in (home, *home.absolute().parents) if each.exists())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "warning", f"{folder} cannot be measured: {error.strerror}")
    what = f"{size(free)} free at {folder}"
    if free >= LITTLE_SPACE:
        return Finding("disk", "ok", what)
    why = "without space no message can be stored, and none is taken"
    do = "make room, or set [retention] so that old conversations and files are deleted"
    return Finding("disk", "problem" if free < NO_SPACE else "warning", what, why, do)


def _permissions(home: Path) -> Iterator[Finding]:
    part = "data directory"
    if not home.exists():
        yield Finding(part, "ok", f"{home} does not exist yet; the first start makes it")
        return
    found = home.stat()
    if found.st_uid != os.geteuid():
        why = "the gateway must run as its owner, or it cannot read and write there"
        what = f"{home} belongs to the user {found.st_uid}, and this command runs as {os.geteuid()}"
        yield Finding(part, "warning", what, why, f"run this as its owner, or chown -R the directory {home}")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        why = "conversations, files and keys are kept there"
        yield Finding(part, "problem", f"{home} cannot be written", why, f"chmod -R u+rwX {home}, as its owner")
        return
    readable = [path for path in (home, *sorted(home.iterdir())) if _is_readable_by_others(path)]
    if readable:
        named = ", ".join(str(path) for path in readable[:3])
        why = "other users of this machine can read conversations and keys"
        yield Finding(part, "problem", f"open to others: {named}", why, f"chmod -R go= {home}")
    else:
        yield Finding(part, "ok", f"{home} is private")


def _is_readable_by_others(path: Path) -> bool:
    try:
        return not path.is_symlink() and bool(path.stat().st_mode & 0o044)
    except OSError:
        return False


def _open_files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"up to {soft:,}" if soft != resource.RLIM_INFINITY else "no limit"
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return Finding("open files", "ok", what)
    why = "each browser, connection and running tool needs some; without, messages and tools fail"
    return Finding("open files", "warning", what, why, f"ulimit -n {FEW_FILES} or more, or LimitNOFILE= in the unit")


def _port(configuration: Configuration) -> Finding:
    web = configuration.settings.web
    try:
        bind(web.host, web.port).close()
    except (PortTaken, OSError) as error:
        return Finding("port", "problem", str(error), "the web chat and webhooks need it", "choose another [web] port")
    return Finding("port", "ok", f"{web.host}:{web.port} is free")


def _sandbox(configuration: Configuration) -> Finding:
    settings = configuration.settings
    policy = asyncio.run(shell_policy(configuration))
    what = who_may_run_commands(settings, policy)
    if policy.policy.sandboxed or not runs_code(settings):
        return Finding("shell commands", "ok", what)
    why = "commands can read and change all that this user can"
    if policy.unavailable:
        do = 'repair that, or take shell and run_python out of [tools] enabled, or accept it with sandbox = "none"'
        level: Level = "problem" if shared_channels(settings) else "warning"
        return Finding("shell commands", level, what, why, do)
    return Finding("shell commands", "warning", what, why, 'set sandbox = "auto" in [tools.shell]')


def _fonts() -> Finding:
    """Reads the fonts that charts are drawn with."""
    try:
        from matplotlib import font_manager

        from agent.tools.chart_worker import FONTS
    except ImportError as error:
        why = "the tool draw_chart fails"
        return Finding("charts", "problem", f"cannot be drawn: {error}", why, "pip install 'interject[charts]'")
    installed = set(font_manager.fontManager.get_font_names())
    drawn: set[int] = set()
    for name in FONTS:
        if name in installed:
            drawn.update(font_manager.get_font(font_manager.findfont(name)).get_charmap())
    missing = [script for script, letter in LETTERS.items() if ord(letter) not in drawn]
    if not missing:
        return Finding("charts", "ok", "fonts for all scripts that are looked for")
    what = f"no font for {', '.join(missing)}"
    why = "charts show boxes in place of these letters"
    do = "install fonts, on Debian: apt-get install fonts-noto-core fonts-noto-cjk fonts-symbola"
    return Finding("charts", "warning", what, why, do)
