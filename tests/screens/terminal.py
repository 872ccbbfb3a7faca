"""The chat in a terminal: the real command in a real terminal, whose colours become a page."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from tests.screens.alone import ANSWER, CHOSEN, ENDED, FIRST, SECOND, go_on, prepare
from tests.screens.look import page
from tests.servers.models import ModelServer

COLUMNS, LINES = 84, 46
COMMAND = "interject chat"
HOME = "/home/ann/interject"


class Tmux:
    """A terminal multiplexer of its own, whose screen can be read."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux"

    async def call(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        return out.decode()

    async def screen(self, *options: str) -> str:
        return await self.call("capture-pane", "-p", *options)

    async def until(self, holds: Callable[[str], object]) -> None:
        while not holds(await self.screen()):  # noqa: ASYNC110 - a terminal's screen rings no bell
            await asyncio.sleep(0.05)

    async def type(self, text: str) -> None:
        await self.call("send-keys", "-l", text)
        await self.call("send-keys", "Enter")


async def terminal_page(folder: Path) -> str:
    async with asyncio.timeout(180), ModelServer() as models:
        file = prepare(folder, models)
        tmux = Tmux(folder)
        command = [sys.executable, "-m", "interject", "chat", "--config", str(file)]
        environment = {"INTERJECT_HOME": str(folder / "home"), "TERM": "tmux-256color", "COLORTERM": "truecolor"}
        settings = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        size = ["-x", str(COLUMNS), "-y", str(LINES)]
        try:
            await tmux.call("new-session", "-d", *size, *settings, "-c", os.getcwd(), shlex.join(command))
            await tmux.until(lambda screen: "Enter: send" in screen)
            await tmux.type(FIRST)
            await tmux.until(lambda screen: "weigh south" in screen)
            await tmux.type(SECOND)
            await tmux.until(lambda screen: SECOND in screen)
            go_on(folder)
            await tmux.until(lambda screen: CHOSEN in screen)
            await tmux.type(ANSWER)
            await tmux.until(lambda screen: ENDED in screen)
            await tmux.until(lambda screen: "Enter: send" in screen)
            # Where it ran is of no interest, and another folder each time.
            shown = (await tmux.screen("-e")).replace(str(folder / "home"), HOME)
        finally:
            await tmux.call("kill-server")
    return page("terminal", f"<header><i></i><i></i><i></i>{COMMAND}</header><main>{_colored(shown.strip())}</main>")


_STYLE = re.compile(r"\x1b\[([0-9;]*)m")
_NAMES = {1: "bold", 2: "dim", 3: "italic", 4: "under", 7: "reverse", 9: "struck"}
_PALETTE = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def _colored(text: str) -> str:
    """The text with its escape codes as spans."""
    return "".join(_spans(text))


def _spans(text: str) -> Iterator[str]:
    classes: set[str] = set()
    parts = _STYLE.split(text)
    for number, part in enumerate(parts):
        if number % 2:
            classes = _styled(classes, [int(code or 0) for code in part.split(";")])
        elif part:
            yield f'<span class="{" ".join(sorted(classes))}">{escape(part)}</span>'


def _styled(classes: set[str], codes: list[int]) -> set[str]:
    styled = set(classes)
    for code in codes:
        if code == 0:
            styled.clear()
        elif code in _NAMES:
            styled.add(_NAMES[code])
        elif code in (22, 23, 24, 27, 29):
            styled -= {"bold", "dim"} if code == 22 else {_NAMES[code - 20]}
        elif code == 39 or 30 <= code <= 37 or 90 <= code <= 97:
            styled -= set(_PALETTE)
            styled |= {_PALETTE[code % 10]} if code != 39 else set()
    return styled
