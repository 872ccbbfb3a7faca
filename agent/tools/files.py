"""The file tools: read, write, edit and list the files of the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated

import filetype  # type: ignore[import-untyped]  # the package has no types
from pydantic import Field

from agent.files.text_detection import Decoded, detect
from agent.tool import ToolContext, ToolError, tool
from agent.tools.text_edit import edit
from agent.tools.workspace import (
    existing_file,
    file_errors,
    inside,
    make_workspace,
    meant,
    opened_folder,
    read_bytes,
    replace_file,
)

MAX_BYTES = 10_000_000
"""Of a file that is read or edited as text."""

MAX_CHARACTERS = 60_000
"""Of one `read_file` result."""

MAX_ENTRIES = 500
MAX_SCANNED = 100_000
"""Entries that `list_files` shows, and that it scans."""

SKIPPED_FOLDERS = frozenset({".git", ".venv", "__pycache__", "node_modules"})

UTF_8 = Decoded("", "utf-8")
"""The encoding of new files."""

WorkspacePath = Annotated[str, Field(description="A path relative to the workspace.")]


@tool(effect="read")
async def read_file(
    context: ToolContext,
    path: WorkspacePath,
    offset: Annotated[int, Field(ge=1, description="The first line to read, from 1.")] = 1,
    limit: Annotated[int, Field(ge=1, le=5000, description="How many lines to read.")] = 2000,
    start: Annotated[int, Field(ge=0, description="Characters of the first line to skip, if it is long.")] = 0,
) -> str:
    """Reads a text file of the workspace, without line numbers. For a long file the result says how to read on."""
    return await asyncio.to_thread(_read_lines, context.workspace, path, offset, limit, start)


@tool(effect="write")
async def write_file(context: ToolContext, path: WorkspacePath, content: str) -> str:
    """Writes a text file in the workspace, replacing an existing one; missing folders are created."""
    return await asyncio.to_thread(_write, context.workspace, path, content)


@tool(effect="write")
async def edit_file(
    context: ToolContext,
    path: WorkspacePath,
    old: Annotated[str, Field(min_length=1, description="The exact text to replace, with its spaces.")],
    new: str,
    all: Annotated[bool, Field(description="Replace every occurrence.")] = False,
) -> str:
    """Replaces a text in a file of the workspace. Without `all` it must occur there exactly once."""
    return await asyncio.to_thread(_edit, context.workspace, path, old, new, all)


@tool(effect="read")
async def list_files(
    context: ToolContext,
    path: Annotated[str, Field(description="A folder, relative to the workspace.")] = ".",
    pattern: Annotated[str, Field(description="`*.py` for this folder, `**/*.py` for subfolders too.")] = "**/*",
) -> str:
    """Lists files (with their size in bytes) and folders (ending in /) of the workspace.

    The contents of .git, .venv, __pycache__ and node_modules are skipped, unless `path` is inside one.
    """
    return await asyncio.to_thread(_list, context.workspace, path, pattern)


def _read_lines(workspace: Path, path: str, offset: int, limit: int, start: int) -> str:
    text = _text(workspace, path).text
    if not text:
        return f"[{path} is empty]"
    lines = text.replace("\r\n", "\n").split("\n")
    if not lines[-1]:
        lines.pop()
    if offset > len(lines):
        raise ToolError(f"{path} has {len(lines):,} lines; there is no line {offset:,}")
    length = len(lines[offset - 1])
    if start > length:
        raise ToolError(f"Line {offset:,} of {path} has {length:,} characters; it has none from {start:,} on")
    shown = _fitting([lines[offset - 1][start:], *lines[offset : offset - 1 + limit]])
    end = offset - 1 + len(shown)
    text = "\n".join(shown)
    if len(text) > MAX_CHARACTERS:
        note = f"line {offset:,} has {length:,} characters and was cut here; its rest: start={start + MAX_CHARACTERS}"
        text = f"{text[:MAX_CHARACTERS]}\n[{note}]"
    if end < len(lines):
        text += f"\n[lines {offset:,} to {end:,} of {len(lines):,}; read on with offset={end + 1}]"
    return text


def _fitting(lines: Sequence[str]) -> Sequence[str]:
    """As many of the lines as fit into one result, but at least one."""
    room = MAX_CHARACTERS
    for count, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return lines[: max(count, 1)]
    return lines


def _text(workspace: Path, path: str) -> Decoded:
    """The text of a file with its encoding. Raises `ToolError`."""
    file = existing_file(workspace, path)
    with file_errors(path):
        data = read_bytes(workspace, file, MAX_BYTES)
    if isinstance(data, int):
        raise ToolError(f"{path} has {data:,} bytes, more than the limit of {MAX_BYTES:,}; read parts of it with shell")
    found = detect(data, is_named_text=file.suffix.lower() in (".log", ".txt", ".csv", ".tsv"))
    if found is not None:
        return found
    kind = filetype.guess_mime(data[:8192])
    if kind is not None or b"\0" in data:
        raise ToolError(f"{path} is not text but binary ({kind or 'unknown type'}, {len(data):,} bytes)")
    # Text in an unknown encoding is still useful.
    return Decoded(data.decode(errors="replace"), "utf-8")


def _write(workspace: Path, path: str, content: str) -> str:
    file = meant(workspace, path)
    data = _encoded(UTF_8, content)
    with file_errors(path):
        if file.is_dir():
            raise ToolError(f"{path} is a folder")
        existed = file.exists()
        if existed and not file.is_file():
            raise ToolError(f"{path} is not a regular file")
        replace_file(workspace, file, data)
    return f"{'Replaced' if existed else 'Created'} {path} ({len(data):,} bytes)"


def _edit(workspace: Path, path: str, old: str, new: str, everywhere: bool) -> str:
    file, found = existing_file(workspace, path), _text(workspace, path)
    with file_errors(path):
        if _encoded(found, found.text) != read_bytes(workspace, file, MAX_BYTES):
            raise ToolError(f"{path} is not in an encoding in which it can be edited; write_file can replace it")
    if old == new:
        raise ToolError("The old and the new text are the same; nothing was changed")
    edited = edit(found.text, old, new)
    if edited is None:
        raise ToolError(f"The old text does not occur in {path}. {_hint(found.text, old)}")
    count = len(edited.lines)
    if count > 1 and not everywhere:
        lines = ", ".join(f"{line:,}" for line in edited.lines[:10])
        raise ToolError(
            f"The old text occurs {count:,} times in {path} (lines {lines}); include more of the text around the one "
            "you mean, or set all=true"
        )
    with file_errors(path):
        replace_file(workspace, file, _encoded(found, edited.text))
    notes = [edited.note, "" if found.codec == "utf-8" else f"its encoding is {found.codec}, as before"]
    more = "".join(f"; {note}" for note in notes if note)
    return f"Edited {path} ({count:,} {'place' if count == 1 else 'places'}{more})"


def _hint(text: str, old: str) -> str:
    if "".join(old.split()) in "".join(text.split()):
        return "It does if spaces and line ends are ignored: read the file and copy them exactly."
    first = old.strip().split("\n", 1)[0].strip()
    if first and first in text:
        line = next(_lines_of(text, first))
        return f"Its first line does, in line {line:,}, but the lines after it differ: read the file again."
    return "Read the file again and copy the text exactly."


def _lines_of(text: str, part: str) -> Iterator[int]:
    index, line, counted = text.find(part), 1, 0
    while index >= 0:
        line += text.count("\n", counted, index)
        counted = index
        yield line
        index = text.find(part, index + len(part))


def _encoded(found: Decoded, text: str) -> bytes:
    try:
        return found.encode(text)
    except UnicodeEncodeError as error:
        raise ToolError(
            f"The text cannot be written in {found.codec}: {error.reason} at character {error.start:,}"
        ) from error


def _list(workspace: Path, path: str, pattern: str) -> str:
    folder = inside(workspace, path)
    with file_errors(path):
        make_workspace(workspace)
        if not folder.is_dir():
            raise ToolError(f"{path} is a file, not a folder" if folder.exists() else f"There is no folder {path}")
    wanted = PurePosixPath(pattern).parts
    if not wanted or ".." in wanted or PurePosixPath(pattern).is_absolute():
        raise ToolError(f"{pattern!r} is not a pattern below a folder; name the folder in path")
    scanned = list(islice(_walk(workspace, folder), MAX_SCANNED + 1))
    found = sorted(entry for entry in scanned[:MAX_SCANNED] if _matches(PurePosixPath(entry[0]).parts, wanted))
    lines = [name if size is None else f"{name}  {size:,}" for name, size in found[:MAX_ENTRIES]]
    if len(found) > MAX_ENTRIES:
        lines.append(f"[{len(found) - MAX_ENTRIES:,} more are not shown; narrow it down with path or pattern]")
    if len(scanned) > MAX_SCANNED:
        lines.append(f"[only the first {MAX_SCANNED:,} entries were scanned; narrow it down with path]")
    return "\n".join(lines) or f"[nothing in {path} matches {pattern}]"


def _walk(workspace: Path, root: Path) -> Iterator[tuple[str, int | None]]:
    """Names relative to `root`, breadth first; folders with a / and no size. Links are listed, not followed."""
    folders = deque([root])
    while folders:
        folder = folders.popleft()
        try:
            entries = _entries(workspace, folder)
        except OSError:
            continue  # A folder that cannot be read, or was deleted meanwhile.
        for entry, size in entries:
            path = folder / entry
            name = os.fsencode(path.relative_to(root).as_posix()).decode(errors="replace")
            if size is None:
                yield f"{name}/", None
                if entry not in SKIPPED_FOLDERS:
                    folders.append(path)
            else:
                yield name, size


def _entries(workspace: Path, folder: Path) -> list[tuple[str, int | None]]:
    """The names in a folder, sorted, with the size of each that is not a folder."""
    found: list[tuple[str, int | None]] = []
    with opened_folder(workspace, folder) as descriptor, os.scandir(descriptor) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                is_folder = entry.is_dir(follow_symlinks=False)
                found.append((entry.name, None if is_folder else entry.stat(follow_symlinks=False).st_size))
    return sorted(found, key=lambda entry: entry[0])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether all the parts match the pattern: `**` matches any number of them, anything else exactly one."""
    positions = _past_stars({0}, pattern)
    for part in parts:
        stay = {index for index in positions if index < len(pattern) and pattern[index] == "**"}
        move = {index + 1 for index in positions - stay if index < len(pattern) and fnmatchcase(part, pattern[index])}
        positions = _past_stars(stay | move, pattern)
    return len(pattern) in positions


def _past_stars(positions: set[int], pattern: Sequence[str]) -> set[int]:
    """The positions in the pattern, and those after a `**` at one of them, as it may match nothing."""
    reached = set(positions)
    for index, part in enumerate(pattern):
        if index in reached and part == "**":
            reached.add(index + 1)
    return reached
