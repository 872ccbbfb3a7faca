"""The data directory as the commands create it, and file errors in words for a person."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.load import Configuration

LOCK = "gateway.lock"


class HomeBusy(Exception):
    """Another gateway uses the data directory."""


@contextmanager
def held(configuration: Configuration) -> Iterator[None]:
    """The data directory is this process's alone, until it ends at the latest; a database in a file has a lock of its
    own. Raises `HomeBusy` or `OSError`."""
    if configuration.settings.store.file is not None:
        yield
        return
    home = configuration.home
    make_home(home)
    file = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(file, 20, 0).decode("ascii", "replace").strip()
            holder = f"process {pid}" if pid.isdecimal() else "another process"
            raise HomeBusy(
                f"{home} is in use by {holder}: stop that gateway, or give this one an INTERJECT_HOME of its own"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def make_home(home: Path) -> None:
    """Creates the directory if it is missing, for its owner only: it holds conversations and keys."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)


def describe_error(error: Exception, home: Path) -> str:
    """`<file>: <what is wrong>. <what to do>`; the error's own message where it is not about a file."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or home}: {_reason(error)}. Make room; nothing else is needed"
    if not isinstance(error.filename, str | Path):
        return str(error)
    file = Path(error.filename)
    is_ours = file.is_relative_to(home) or home.is_relative_to(file)
    advice = "Set INTERJECT_HOME to a writable directory" if is_ours else "Check this path in the settings"
    return f"{file}: {_reason(error)}. {advice}"


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EEXIST:
            return "a file, not a directory"
        case errno.ENOTDIR:
            return "part of this path is a file, not a directory"
        case errno.EROFS:
            return "the file system is read-only"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full"
        case _:
            return error.strerror or str(error)
