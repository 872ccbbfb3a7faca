"""The terminal, for the contract: the channel itself in front of a screen that keeps what is printed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from channels.message import MessageStatus, Receipt
from channels.reply import Reply
from channels.terminal.attaching import attached
from channels.terminal.channel import TerminalChannel
from channels.terminal.message_tracker import MessageTracker
from channels.terminal.parse import TypedMessage
from channels.terminal.printer import Files, Folders, Printer
from channels.terminal.render import Style
from channels.terminal.screen import new_message
from gateway.assembly.build import Built
from gateway.media import FolderBlobs, Media
from tests.channels.contract.home import (
    INTERRUPTED,
    Feature,
    File,
    Picture,
    Plain,
    PlainPlace,
    Seen,
    Signal,
    Upload,
    Words,
)

T = TypeVar("T")

_STYLED = Style(width=100, color=True)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_CODE_LINE = re.compile(r"  \x1b\[36m(.*)\x1b\[0m")
_GIVEN = re.compile(r"(picture|file): (.+)")


class Screen:
    """Implements `channels.terminal.screen.Screen`: what is said is typed without waiting for answers."""

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self.failures = 0
        self.said: asyncio.Queue[TypedMessage] = asyncio.Queue()
        self.unconfirmed = 0
        self.printed: list[tuple[bool, str]] = []
        self._tracker = MessageTracker()
        folders = Folders(folder / "pictures", folder / "files")
        self._printer = Printer(self._print, lambda: _STYLED, folders, secondary=self._print_secondary)
        self._changed = changed

    def type(self, typed: TypedMessage) -> None:
        self.unconfirmed += 1
        self._tracker.sent(typed)
        self.said.put_nowait(typed)

    @property
    def growing(self) -> list[str]:
        reply = self._tracker.current_reply
        return [] if reply is None else self._printer.growing(reply)

    @property
    def status(self) -> str:
        reply = self._tracker.current_reply
        return "" if reply is None else reply.status

    def number_of(self, option: str) -> str | None:
        """The number under which it was printed."""
        lines = [line for _, text in self.printed for line in _STYLE.sub("", text).splitlines()]
        return next((line.split(")")[0].strip() for line in reversed(lines) if line.endswith(f") {option}")), None)

    @property
    def running(self) -> bool:
        return self._tracker.running

    def start_new_conversation(self) -> None:
        self.type(new_message("/new", quiet=True))

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def read(self) -> TypedMessage:
        return await self.said.get()

    async def accepted(self, typed: TypedMessage, accepted: Receipt | None) -> None:
        assert accepted is not None
        self._tracker.accepted(typed, accepted.id)
        self.unconfirmed -= 1
        self._changed()

    async def failed(self, typed: TypedMessage, why: str) -> None:
        self._tracker.failed(typed)
        self.failures += 1
        self.unconfirmed -= 1
        await self.print_notice(f"Not sent: {why}")

    async def show(self, reply: Reply, files: Files) -> None:
        await self._printer.show(reply, files)
        self._tracker.reply_changed(reply)
        self._changed()

    async def show_status(self, status: MessageStatus) -> None:
        self._tracker.status_changed(status.id, status.state)
        self._changed()

    async def print_notice(self, text: str) -> None:
        await self._printer.print_notice(text)

    def show_trouble(self, text: str) -> None:
        raise AssertionError(text)

    async def _print(self, text: str) -> None:
        self.printed.append((False, text))
        self._changed()

    async def _print_secondary(self, text: str) -> None:
        self.printed.append((True, text))
        self._changed()


class TerminalPlace(PlainPlace):
    """The one conversation of a terminal; each gateway has a new screen."""

    def __init__(self, folder: Path) -> None:
        """`folder` has the person's files."""
        self._folder = folder
        self._bell = Signal()
        self._screen: Screen | None = None

    def sit_down(self, folder: Path) -> Screen:
        self._screen = Screen(folder, self._bell.ring)
        return self._screen

    @property
    def _now(self) -> Screen:
        assert self._screen is not None
        return self._screen

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        typed = new_message(text)
        self._now.type(typed)
        return typed.id

    async def send(self, *files: Upload, text: str = "") -> str:
        paths = []
        for file in files:
            path = self._folder / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
            paths.append(str(path))
        typed = new_message(text, files=attached(paths))
        self._now.type(typed)
        return typed.id

    async def press_stop(self) -> None:
        """Ctrl-C."""
        self._now.type(new_message("/stop", quiet=True))

    async def press(self, option: str) -> None:
        """Types its number."""
        number = await self.until(lambda: self._now.number_of(option))
        self._now.type(new_message(number))

    async def heard(self) -> None:
        await self.until(lambda: self._now.unconfirmed == 0)

    def screen(self) -> Sequence[Seen]:
        printed = [seen for secondary, text in self._now.printed for seen in _seen(text, secondary)]
        growing = [Words(_STYLE.sub("", line), line, tuple(_code(line))) for line in self._now.growing]
        return [*printed, *growing]

    def status(self) -> str:
        return self._now.status

    async def until(self, holds: Callable[[], T]) -> T:
        return await self._bell.until(holds, self.screen)

    async def settled(self) -> None:
        await self.until(lambda: not self._now.running)
        assert self._now.growing == []


class TerminalHome(Plain):
    name = "terminal"
    has: frozenset[Feature] = frozenset({"files", "album"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.main = TerminalPlace(folder / "own files")

    def settings(self) -> str:
        return "[web]\nenabled = false\n"

    def furnish(self, built: Built) -> None:
        media = Media(FolderBlobs(self._folder / "home" / "media"), built.gateway.store)
        built.gateway.add(TerminalChannel(self.main.sit_down(self._folder / "saved"), media))

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m"


def _seen(printed: str, secondary: bool) -> Iterator[Seen]:
    """What one print shows: a text, or a file that was saved and is named in the last line."""
    text = _STYLE.sub("", printed).strip("\n")
    *caption, last = text.split("\n")
    if secondary:
        if text.strip() == "(interrupted)":
            yield Words(INTERRUPTED, printed)
    elif given := _GIVEN.fullmatch(last):
        path = Path(given[2])
        if given[1] == "picture":
            yield Picture(path.read_bytes(), "\n".join(caption))
        else:
            yield File(_original_name(path), path.read_bytes(), "\n".join(caption))
    elif text:
        yield Words(text, printed, tuple(_code(printed)))


def _code(printed: str) -> Iterator[str]:
    found = [match[1] for line in printed.split("\n") if (match := _CODE_LINE.fullmatch(line))]
    if found:
        yield "\n".join(found)


def _original_name(path: Path) -> str:
    """Without the eight characters that keep files of one name apart."""
    return f"{path.stem[:-9]}{path.suffix}"
