"""The file tools: reading, writing, editing and listing what is in the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Annotated

import filetype  # type: ignore[import-untyped]  # the package has no types
from pydantic import Field

from agent.tool import ToolContext, ToolError, tool
from agent.tools.workspace import existing_file, file_errors, inside

LARGEST = 10_000_000
"""Bytes of a file that is read or edited as text."""

CHARACTERS = 60_000
"""Characters of one `read_file` answer."""

ENTRIES = 500
VISITED = 100_000
"""Entries `list_files` shows, and looks at."""

SKIPPED = frozenset({".git", ".venv", "__pycache__", "node_modules"})

WorkspacePath = Annotated[str, Field(description="A path relative to the workspace.")]


@tool(effect="read")
async def read_file(
    context: ToolContext,
    path: WorkspacePath,
    offset: Annotated[int, Field(ge=1, description="The first line to read, from 1.")] = 1,
    limit: Annotated[int, Field(ge=1, le=5000, description="How many lines to read.")] = 2000,
    start: Annotated[int, Field(ge=0, description="Characters of the first line to leave out, if it is long.")] = 0,
) -> str:
    """Reads a text file of the workspace, as it is, without line numbers. For a long one it says how to read on."""
    return await asyncio.to_thread(_read_lines, context.workspace, path, offset, limit, start)


@tool(effect="write")
async def write_file(context: ToolContext, path: WorkspacePath, content: str) -> str:
    """Writes a text file in the workspace, in place of what was there; missing folders are made."""
    return await asyncio.to_thread(_write, context.workspace, path, content)


@tool(effect="write")
async def edit_file(
    context: ToolContext,
    path: WorkspacePath,
    old: Annotated[str, Field(min_length=1, description="The exact text to replace, with its spaces and line ends.")],
    new: str,
    all: Annotated[bool, Field(description="Replace every place where it stands, not the only one.")] = False,
) -> str:
    """Replaces a piece of text in a file of the workspace. Without `all` it must stand there exactly once."""
    return await asyncio.to_thread(_edit, context.workspace, path, old, new, all)


@tool(effect="read")
async def list_files(
    context: ToolContext,
    path: Annotated[str, Field(description="A folder, relative to the workspace.")] = ".",
    pattern: Annotated[str, Field(description="Which ones: `*.py` here, `**/*.py` in folders below too.")] = "**/*",
) -> str:
    """Lists files (with their size in bytes) and folders (ending in /) of the workspace.

    Left out: what is inside .git, .venv, __pycache__ and node_modules, unless `path` leads into one.
    """
    return await asyncio.to_thread(_list, context.workspace, path, pattern)


def _read_lines(workspace: Path, path: str, offset: int, limit: int, start: int) -> str:
    data = _text_bytes(existing_file(workspace, path), path)
    if not data:
        return f"[{path} is empty]"
    lines = data.decode(errors="replace").replace("\r\n", "\n").split("\n")
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
    if len(text) > CHARACTERS:
        cut = start + CHARACTERS
        text = (
            f"{text[:CHARACTERS]}\n[line {offset:,} has {length:,} characters and was cut here; its rest: start={cut}]"
        )
    if end < len(lines):
        text += f"\n[lines {offset:,} to {end:,} of {len(lines):,}; read on with offset={end + 1}]"
    return text


def _fitting(lines: Sequence[str]) -> Sequence[str]:
    """As many of the lines as one answer holds, but at least one."""
    room = CHARACTERS
    for count, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return lines[: max(count, 1)]
    return lines


def _text_bytes(file: Path, path: str) -> bytes:
    with file_errors(path):
        size = file.stat().st_size
        if size > LARGEST:
            raise ToolError(
                f"{path} has {size:,} bytes, more than the {LARGEST:,} read at once; look at parts of it with shell"
            )
        data = file.read_bytes()
    if _is_binary(data):
        kind = filetype.guess_mime(data[:8192]) or "unknown type"
        raise ToolError(f"{path} is not text but binary ({kind}, {len(data):,} bytes)")
    return data


def _is_binary(data: bytes) -> bool:
    if b"\0" in data[:8192]:
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        # Text in some older encoding is still worth reading; only what is known to be something else is refused.
        return filetype.guess(data[:8192]) is not None
    return False


def _write(workspace: Path, path: str, content: str) -> str:
    file = inside(workspace, path)
    data = _encoded(content)
    with file_errors(path):
        if file.is_dir():
            raise ToolError(f"{path} is a folder")
        existed = file.exists()
        if existed and not file.is_file():
            raise ToolError(f"{path} is not a regular file")
        file.parent.mkdir(parents=True, exist_ok=True)
        _replace(file, data)
    return f"{'Replaced' if existed else 'Made'} {path} ({len(data):,} bytes)"


def _edit(workspace: Path, path: str, old: str, new: str, everywhere: bool) -> str:
    file = existing_file(workspace, path)
    try:
        text = _text_bytes(file, path).decode()
    except UnicodeDecodeError as error:
        raise ToolError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start:,}") from error
    if "\r\n" in text and old not in text:
        # Reading shows plain line ends; the file keeps its own.
        old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
    if old == new:
        raise ToolError("The old and the new text are the same; nothing was changed")
    count = text.count(old)
    if count == 0:
        raise ToolError(f"The old text does not stand in {path}. {_hint(text, old)}")
    if count > 1 and not everywhere:
        lines = ", ".join(f"{line:,}" for line in islice(_lines_of(text, old), 10))
        raise ToolError(
            f"The old text stands {count:,} times in {path} (lines {lines}); give more of what is around the one "
            "you mean, or all=true"
        )
    with file_errors(path):
        _replace(file, _encoded(text.replace(old, new)))
    return f"Edited {path} ({count:,} {'place' if count == 1 else 'places'})"


def _hint(text: str, old: str) -> str:
    if "".join(old.split()) in "".join(text.split()):
        return "It does when spaces and line ends are left out of account: read the file and copy them exactly."
    first = old.strip().split("\n", 1)[0].strip()
    if first and first in text:
        line = next(_lines_of(text, first))
        return f"Its first line does, in line {line:,}; what follows is different there: read the file again."
    return "Read the file again and copy the text exactly."


def _lines_of(text: str, part: str) -> Iterator[int]:
    place, line, counted = text.find(part), 1, 0
    while place >= 0:
        line += text.count("\n", counted, place)
        counted = place
        yield line
        place = text.find(part, place + len(part))


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"The text cannot be written as UTF-8: {error.reason} at character {error.start:,}") from error


def _replace(file: Path, data: bytes) -> None:
    """Writes all of the file or nothing of it, keeping the permissions of the one before."""
    temporary = file.with_name(f".{token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        if file.exists():
            temporary.chmod(file.stat().st_mode & 0o7777)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _list(workspace: Path, path: str, pattern: str) -> str:
    folder = inside(workspace, path)
    with file_errors(path):
        if not folder.is_dir():
            raise ToolError(f"{path} is a file, not a folder" if folder.exists() else f"There is no folder {path}")
    wanted = PurePosixPath(pattern).parts
    if not wanted or ".." in wanted or PurePosixPath(pattern).is_absolute():
        raise ToolError(f"{pattern!r} is not a pattern below a folder; name the folder in path")
    visited = list(islice(_walk(folder), VISITED + 1))
    found = sorted(entry for entry in visited[:VISITED] if _matches(PurePosixPath(entry[0]).parts, wanted))
    lines = [name if size is None else f"{name}  {size:,}" for name, size in found[:ENTRIES]]
    if len(found) > ENTRIES:
        lines.append(f"[{len(found) - ENTRIES:,} more are not shown; narrow it down with path or pattern]")
    if len(visited) > VISITED:
        lines.append(f"[only the first {VISITED:,} entries were looked at; narrow it down with path]")
    return "\n".join(lines) or f"[nothing in {path} fits {pattern}]"


def _walk(root: Path) -> Iterator[tuple[str, int | None]]:
    """Names relative to `root`, the near ones first; folders with a / and no size. Links are named, not followed."""
    folders = deque([root])
    while folders:
        try:
            entries = sorted(os.scandir(folders.popleft()), key=lambda entry: entry.name)
        except OSError:
            continue  # A folder that cannot be read, or went away meanwhile, has nothing to show.
        for entry in entries:
            place = Path(entry.path)
            name = os.fsencode(place.relative_to(root).as_posix()).decode(errors="replace")
            if entry.is_dir(follow_symlinks=False):
                yield f"{name}/", None
                if entry.name not in SKIPPED:
                    folders.append(place)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield name, entry.stat(follow_symlinks=False).st_size


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether all the parts fit the pattern: `**` stands for any number of them, anything else for one."""
    places = _past_stars({0}, pattern)
    for part in parts:
        stay = {place for place in places if place < len(pattern) and pattern[place] == "**"}
        move = {place + 1 for place in places - stay if place < len(pattern) and fnmatchcase(part, pattern[place])}
        places = _past_stars(stay | move, pattern)
    return len(pattern) in places


def _past_stars(places: set[int], pattern: Sequence[str]) -> set[int]:
    """The places in the pattern, and those behind the `**` that start there, as these may stand for nothing."""
    reached = set(places)
    for place, part in enumerate(pattern):
        if place in reached and part == "**":
            reached.add(place + 1)
    return reached
