"""Standard streams that are closed, full or read by nobody any more: services are started so."""

from __future__ import annotations

import os
import sys
from typing import TextIO

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""By file descriptor."""


def open_standard_streams() -> None:
    """Opens /dev/null in the place of those that are closed. Else the next file or socket gets the number of one, and
    what is printed or logged is written into it."""
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number: this one, as those below it are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def why_unwritable(stream: TextIO) -> OSError | None:
    """Why what was written to the standard stream does not leave it; None if it does."""
    try:
        stream.flush()
    except OSError as error:
        return error
    return None


def discard(stream: TextIO) -> None:
    """What was written and will be written to the standard stream goes to /dev/null. Else Python tries to write it
    again when it exits, and fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
    stream.flush()
