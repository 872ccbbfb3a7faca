"""Prints replies: writes what `render` says, saves the files and names them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from agent.media import Attachment, MediaError
from channels.reply import Reply
from channels.terminal.ansi import DIM, styled, unstyled
from channels.terminal.inline_images import Protocol as PictureProtocol
from channels.terminal.inline_images import inline
from channels.terminal.render import Given, Look, Part, Shown, Spacing, Words, advance, growing

_REMEMBERED = 200

Write = Callable[[str], Awaitable[None]]


class Files(Protocol):
    """Where the bytes of a reply's files come from."""

    async def read(self, attachment: Attachment) -> bytes:
        """Raises `MediaError`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reply's files go: pictures into one directory, all others into another, both made when needed."""

    pictures: Path
    files: Path

    def path(self, attachment: Attachment) -> Path:
        """The same file for the same bytes, and no other file's path."""
        name = Path(attachment.name.replace("/", "_").replace("\\", "_"))
        folder = self.pictures if attachment.is_picture else self.files
        return folder / f"{name.stem.lstrip('.') or 'file'}-{attachment.hash[:8]}{name.suffix}"


class Printer:
    """`out` writes the answer, `secondary` what is told about the work on it; without that, `out` writes both."""

    def __init__(
        self,
        out: Write,
        look: Callable[[], Look],
        place: Place,
        *,
        secondary: Write | None = None,
        pictures: PictureProtocol | None = None,
    ) -> None:
        self._out = out
        self._secondary = secondary
        self._look = look
        self._place = place
        self._pictures = pictures
        self._shown: OrderedDict[str, Shown | None] = OrderedDict()
        self._ends: dict[Write, str] = {}

    async def show(self, reply: Reply, files: Files) -> None:
        """Prints what is new of the reply. A reply that was printed to its end is not printed again."""
        shown = self._shown.get(reply.id, Shown())
        if shown is None:
            return
        now, parts = advance(shown, reply, self._look())
        # Noted before it is printed: printing it is not undone when it is cancelled half-way.
        self._note(reply, now)
        for part in parts:
            await self._print(part, files)

    def growing(self, reply: Reply) -> list[str]:
        """The lines of the reply that may still change and so are not printed yet."""
        shown = self._shown.get(reply.id) or Shown()
        return growing(shown, reply, self._look())

    async def tell(self, text: str, spacing: Spacing = "apart") -> None:
        """Prints something that is no reply."""
        await self._write(Words(text, spacing, secondary=True))

    def _note(self, reply: Reply, now: Shown) -> None:
        self._shown[reply.id] = None if reply.done else now
        self._shown.move_to_end(reply.id)
        while len(self._shown) > _REMEMBERED:
            self._shown.popitem(last=False)

    async def _print(self, part: Part, files: Files) -> None:
        match part:
            case Words():
                await self._write(part)
            case Given():
                await self._give(part, files)
            case _:
                assert_never(part)

    async def _give(self, given: Given, files: Files) -> None:
        """A file that cannot be had or saved costs itself only: the person is told, the reply goes on."""
        attachment = given.attachment
        try:
            data = await files.read(attachment)
            path = self._place.path(attachment)
            await asyncio.to_thread(_save, data, path)
            picture = await self._inline(attachment, data)
        except (MediaError, OSError) as error:
            await self._write(Words(f"{attachment.name} could not be saved: {error}", "apart"))
            return
        named = self._styled(f"{'picture' if attachment.is_picture else 'file'}: {path}")
        await self._write(Words("\n".join(line for line in (picture + given.caption, named) if line), "apart"))

    async def _inline(self, attachment: Attachment, data: bytes) -> str:
        width = self._look().width
        if self._pictures is None or width is None or not attachment.is_picture:
            return ""
        return await asyncio.to_thread(inline, attachment, data, self._pictures, width)

    def _styled(self, text: str) -> str:
        return styled(text, DIM) if self._look().color else text

    async def _write(self, words: Words) -> None:
        write = self._secondary if words.secondary and self._secondary is not None else self._out
        end = self._ends.get(write, "\n\n")
        text = _break(words.spacing, end) + words.text
        in_whole_lines = words.secondary or self._look().width is not None
        if text and in_whole_lines and not text.endswith("\n"):
            text += "\n"
        if text:
            self._ends[write] = (end + unstyled(text))[-2:]
            await write(text)


def _break(spacing: Spacing, end: str) -> str:
    """The line breaks needed behind a text that ends so."""
    match spacing:
        case "on":
            return ""
        case "line":
            return "" if end.endswith("\n") else "\n"
        case "apart":
            return "" if end == "\n\n" else "\n" if end.endswith("\n") else "\n\n"
        case _:
            assert_never(spacing)


def _save(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != len(data):
        path.write_bytes(data)
