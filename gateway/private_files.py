"""Files and folders for the gateway's user only, whatever the umask and however they came to be."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


def private_folder(path: Path) -> None:
    """Creates the folder if it is missing, and closes it to other users. Raises `OSError` if it cannot be created."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _restrict(path, 0o700)


def private_file(path: Path) -> None:
    """Creates the file if it is missing, and closes it to other users. Raises `OSError` if it cannot be created."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _restrict(path, 0o600)


def _restrict(path: Path, allowed: int) -> None:
    try:
        mode = path.stat().st_mode & 0o777
        if mode & ~allowed:
            path.chmod(mode & allowed)
    except OSError as error:
        # Somebody else's, such as a mounted folder: it works, but not privately.
        log.warning("%s may be readable by other users of this machine: %s", path, error.strerror or error)
