"""Prints replies: writes the parts that `render` returns, saves files and prints their paths."""

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
from channels.terminal.render import FilePart, Part, PrintState, Spacing, Style, TextPart, advance, growing

_MAX_REMEMBERED = 200

Write = Callable[[str], Awaitable[None]]


class Files(Protocol):
    """The source of the bytes of a reply's files."""

    async def read(self, attachment: Attachment) -> bytes:
        """Raises `MediaError`."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a reply's files are saved: one directory for pictures, one for others, both created when needed."""

    pictures: Path
    files: Path

    def path(self, attachment: Attachment) -> Path:
        """The same file for the same bytes, and no other file's path."""
        name = Path(attachment.name.replace("/", "_").replace("\\", "_"))
        folder = self.pictures if attachment.is_picture else self.files
        return folder / f"{name.stem.lstrip('.') or 'file'}-{attachment.hash[:8]}{name.suffix}"


class Printer:
    """`out` writes the answer, `secondary` reports on the work; without it, `out` writes both."""

    def __init__(
        self,
        out: Write,
        style: Callable[[], Style],
        folders: Folders,
        *,
        secondary: Write | None = None,
        pictures: PictureProtocol | None = None,
    ) -> None:
        self._out = out
        self._secondary = secondary
        self._style = style
        self._folders = folders
        self._pictures = pictures
        self._shown: OrderedDict[str, PrintState | None] = OrderedDict()
        self._ends: dict[Write, str] = {}

    async def show(self, reply: Reply, files: Files) -> None:
        """Prints the new parts of the reply. A finished reply is not printed again."""
        shown = self._shown.get(reply.id, PrintState())
        if shown is None:
            return
        now, parts = advance(shown, reply, self._style())
        # Recorded before printing: a cancelled print cannot be undone.
        self._record(reply, now)
        for part in parts:
            await self._print(part, files)

    def skip(self, reply: Reply) -> None:
        """Takes what the reply shows now as printed: of this reply, only what comes after it is printed."""
        shown = self._shown.get(reply.id, PrintState())
        if shown is not None:
            now, _ = advance(shown, reply, self._style())
            self._record(reply, now)

    def growing(self, reply: Reply) -> list[str]:
        """The lines of the reply that are not printed yet, because they may still change."""
        shown = self._shown.get(reply.id) or PrintState()
        return growing(shown, reply, self._style())

    async def print_notice(self, text: str, spacing: Spacing = "paragraph") -> None:
        """Prints a line that belongs to no reply."""
        await self._write(TextPart(text, spacing, secondary=True))

    def _record(self, reply: Reply, now: PrintState) -> None:
        self._shown[reply.id] = None if reply.done else now
        self._shown.move_to_end(reply.id)
        while len(self._shown) > _MAX_REMEMBERED:
            self._shown.popitem(last=False)

    async def _print(self, part: Part, files: Files) -> None:
        match part:
            case TextPart():
                await self._write(part)
            case FilePart():
                await self._print_file(part, files)
            case _:
                assert_never(part)

    async def _print_file(self, part: FilePart, files: Files) -> None:
        """A failure is printed and affects only this file."""
        attachment = part.attachment
        try:
            data = await files.read(attachment)
            path = self._folders.path(attachment)
            await asyncio.to_thread(_save, data, path)
            picture = await self._inline(attachment, data)
        except (MediaError, OSError) as error:
            await self._write(TextPart(f"{attachment.name} could not be saved: {error}", "paragraph"))
            return
        named = self._styled(f"{'picture' if attachment.is_picture else 'file'}: {path}")
        await self._write(TextPart("\n".join(line for line in (picture + part.caption, named) if line), "paragraph"))

    async def _inline(self, attachment: Attachment, data: bytes) -> str:
        width = self._style().width
        if self._pictures is None or width is None or not attachment.is_picture:
            return ""
        return await asyncio.to_thread(inline, attachment, data, self._pictures, width)

    def _styled(self, text: str) -> str:
        return styled(text, DIM) if self._style().color else text

    async def _write(self, part: TextPart) -> None:
        write = self._secondary if part.secondary and self._secondary is not None else self._out
        end = self._ends.get(write, "\n\n")
        text = _line_breaks(part.spacing, end) + part.text
        whole_lines = part.secondary or self._style().width is not None
        if text and whole_lines and not text.endswith("\n"):
            text += "\n"
        if text:
            self._ends[write] = (end + unstyled(text))[-2:]
            await write(text)


def _line_breaks(spacing: Spacing, end: str) -> str:
    """The line breaks needed after a text with that end."""
    match spacing:
        case "none":
            return ""
        case "line":
            return "" if end.endswith("\n") else "\n"
        case "paragraph":
            return "" if end == "\n\n" else "\n" if end.endswith("\n") else "\n\n"
        case _:
            assert_never(spacing)


def _save(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != len(data):
        path.write_bytes(data)
