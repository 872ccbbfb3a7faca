"""Files on this machine that go with a message from the terminal."""

from __future__ import annotations

import mimetypes
import os
import re
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from channels.message import FileRef
from channels.terminal.parse import clean

_ATTACH = re.compile(r"\s*/attach(?:\s+(.*))?", re.DOTALL)


class CannotAttach(Exception):
    """The message says which file, and why."""


def named_files(text: str) -> tuple[FileRef, ...] | None:
    """The files that `/attach FILE …` names; None for any other text. Names are written as in a shell, as terminals do
    it with a file that is dropped into them; one name with spaces may be written as it is. Raises `CannotAttach`."""
    command = _ATTACH.fullmatch(text)
    if command is None:
        return None
    given = (command[1] or "").strip()
    if not given:
        raise CannotAttach("Write /attach and a file's path")
    return attached([given] if os.path.exists(_path(given)) else _words(given))


def begun_path(text: str) -> str | None:
    """What is typed behind `/attach`; None for any other text."""
    command = _ATTACH.fullmatch(text)
    return None if command is None else command[1]


def attached(paths: Iterable[str]) -> tuple[FileRef, ...]:
    """Raises `CannotAttach`."""
    return tuple(_attached(_path(path)) for path in paths)


def read_attached(file: FileRef) -> bytes:
    """Blocking. Raises `CannotAttach`."""
    path = Path(os.fsdecode(unquote_to_bytes(file.ref)))
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotAttach(f"{_shown(path)} cannot be read: {error.strerror}") from error


def _attached(path: Path) -> FileRef:
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise CannotAttach(f"{_shown(path)} is a folder")
        if not stat.S_ISREG(found.st_mode):
            raise CannotAttach(f"{_shown(path)} is no plain file")
        with path.open("rb"):
            pass
    except FileNotFoundError as error:
        raise CannotAttach(f"There is no file {_shown(path)}") from error
    except (OSError, ValueError) as error:
        raise CannotAttach(f"{_shown(path)} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    kind, _ = mimetypes.guess_type(path.name)
    # A path may have bytes that are no text, which a database rejects.
    ref = quote_from_bytes(os.fsencode(path.absolute()))
    return FileRef(ref, clean(path.name), kind or "application/octet-stream", found.st_size)


def _shown(path: Path) -> str:
    return clean(str(path))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        # A quote in a name.
        return [text]


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # "~name" of nobody.
        return Path(text)
