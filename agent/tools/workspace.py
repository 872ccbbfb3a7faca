"""Paths of the workspace: resolves the paths that a model gives and refuses those outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.tool import ToolError


def inside(workspace: Path, path: str) -> Path:
    """The absolute path, symbolic links resolved. Raises `ToolError` if it is not in the workspace."""
    root = workspace.resolve()
    try:
        real = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links is a RuntimeError before Python 3.13, a null character in the name a ValueError.
        raise ToolError(f"{path!r} is not a valid path: {error}") from error
    if not real.is_relative_to(root):
        raise ToolError(f"{path} is outside the workspace; only files in the workspace are accessible")
    return real


def existing_file(workspace: Path, path: str) -> Path:
    """The absolute path of a regular file. Raises `ToolError` for anything else: reading a pipe would never end."""
    real = inside(workspace, path)
    with file_errors(path):
        if real.is_file():
            return real
        if real.is_dir():
            raise ToolError(f"{path} is a folder, not a file")
        raise ToolError(f"{path} is not a regular file" if real.exists() else f"There is no file {path}")


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Translates errors of the operating system for the model."""
    try:
        yield
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror or error}") from error
