"""The data directory as the commands make it, and what is wrong with it or another file, in words."""

from __future__ import annotations

import errno
from pathlib import Path


def make_home(home: Path) -> None:
    """Makes the directory unless it is there: its owner's alone, for conversations and keys lie in it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)


def in_words(error: Exception, home: Path) -> str:
    """`<file>: <what is wrong>. <what to do>`; the error's own words where it is about no file."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str | Path):
        return str(error)
    file = Path(error.filename)
    is_ours = file.is_relative_to(home) or home.is_relative_to(file)
    advice = "Set INTERJECT_HOME to a directory that you may write to" if is_ours else "Check this path in the settings"
    return f"{file}: {_wrong(error)}. {advice}"


def _wrong(error: OSError) -> str:
    match error.errno:
        case errno.EEXIST:
            return "this is a file where a directory should be"
        case errno.ENOTDIR:
            return "a part of this path is a file where a directory should be"
        case errno.EROFS:
            return "the file system is read-only"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full"
        case _:
            return error.strerror or str(error)
