"""Files of the workspace: paths that a model gives are resolved, and those outside are refused.

A command that runs meanwhile can put a symbolic link where a folder was a moment ago. So files are opened folder by
folder from the workspace on, and links on that way are not followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from agent.tool import ToolContext, ToolError
from agent.tools.text_edit import plain

MAX_READ = 10_000_000
"""Bytes of a file that `read_workspace_file` reads if it is not told otherwise."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_workspace_file(context: ToolContext, path: str, max_bytes: int = MAX_READ) -> bytes:
    """The bytes of a file in the workspace. Blocking.

    Raises `ToolError`, which the model reads, for a path outside, for what is not a file, and for a larger file.
    """
    real = existing_file(context.workspace, path)
    with file_errors(path):
        data = read_bytes(context.workspace, real, max_bytes)
    if isinstance(data, int):
        raise ToolError(f"{path} has {data:,} bytes; the limit is {max_bytes:,}")
    return data


def write_workspace_file(context: ToolContext, path: str, data: bytes) -> None:
    """Writes a file in the workspace, whole or not at all; missing folders are created. Blocking.

    Raises `ToolError`, which the model reads, for a path outside and for what cannot be written.
    """
    real = inside(context.workspace, path)
    with file_errors(path):
        replace_file(context.workspace, real, data)


def make_workspace(workspace: Path) -> None:
    """Creates the folder if it is missing, for the gateway's user only. Raises `OSError`."""
    if not workspace.is_dir():
        workspace.mkdir(mode=0o700, parents=True, exist_ok=True)


def inside(workspace: Path, path: str) -> Path:
    """The absolute path, symbolic links resolved. Raises `ToolError` if it is not in the workspace."""
    root = workspace.resolve()
    try:
        real = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links is a RuntimeError before Python 3.13, a null character in the name a ValueError.
        raise ToolError(f"{path!r} is not a valid path: {error}") from error
    if os.path.islink(real):
        # Since Python 3.13 such a loop is left as it is.
        raise ToolError(f"{path!r} is not a valid path: a symbolic link that leads to itself")
    if not real.is_relative_to(root):
        raise ToolError(f"{path} is outside the workspace; only files in the workspace are accessible")
    return real


def meant(workspace: Path, path: str) -> Path:
    """The same of a path whose names may be spelled otherwise there: models write plain spaces, quotes and accents."""
    real = inside(workspace, path)
    with file_errors(path):
        is_there = real.exists()
    spelled = None if is_there else _as_spelled(workspace, real)
    return real if spelled is None else inside(workspace, spelled)


def existing_file(workspace: Path, path: str) -> Path:
    """The absolute path of a regular file. Raises `ToolError` for anything else: reading a pipe would never end."""
    real = meant(workspace, path)
    with file_errors(path):
        if real.is_file():
            return real
        if real.is_dir():
            raise ToolError(f"{path} is a folder, not a file")
        raise ToolError(f"{path} is not a regular file" if real.exists() else f"There is no file {path}")


def _as_spelled(workspace: Path, real: Path) -> str | None:
    """The path with each name as the file system has it; None if there is none, or more than one that is meant."""
    root = folder = workspace.resolve()
    for name in real.relative_to(root).parts:
        if not os.path.lexists(folder / name):
            try:
                with opened_folder(workspace, folder) as descriptor:
                    names = [each for each in os.listdir(descriptor) if plain(each) == plain(name)]
            except OSError:
                # What is wrong is told by the use of the path as it was given.
                return None
            if len(names) != 1:
                return None
            name = names[0]
        folder /= name
    return str(folder)


def read_bytes(workspace: Path, real: Path, max_bytes: int) -> bytes | int:
    """The bytes of a file that `existing_file` has found; its size if it has more than `max_bytes`.

    Raises `OSError`.
    """
    with opened_folder(workspace, real.parent) as folder:
        # Non-blocking: it may have become a pipe.
        file = os.open(real.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(file, "rb") as stream:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a regular file")
            return status.st_size if status.st_size > max_bytes else stream.read(max_bytes)


def replace_file(workspace: Path, real: Path, data: bytes) -> None:
    """Writes the file atomically, keeping the permissions of an existing one; missing folders are created.

    Raises `OSError`.
    """
    with opened_folder(workspace, real.parent, create=True) as folder:
        temporary = f".{token_hex(8)}.tmp"
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                os.fchmod(file, _mode(folder, real.name))
            os.rename(temporary, real.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise


def _mode(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode & 0o777
    except FileNotFoundError:
        return 0o644


@contextmanager
def opened_folder(workspace: Path, real: Path, *, create: bool = False) -> Iterator[int]:
    """A file descriptor of a folder in the workspace, by its absolute path without links. Raises `OSError`."""
    root = workspace.resolve()
    if create:
        make_workspace(root)
    folder = os.open(root, FOLDER_FLAGS)
    try:
        for name in real.relative_to(root).parts:
            if create:
                _make_folder(name, folder)
            inner = os.open(name, FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Translates errors of the operating system for the model."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror or error}") from error
