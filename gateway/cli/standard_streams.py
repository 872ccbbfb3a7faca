"""Standard streams that are closed, full or read by nobody any more: services are started so."""

from __future__ import annotations

import errno
import io
import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""By file descriptor."""


def open_standard_streams() -> None:
    """Opens /dev/null in the place of those that are closed. Else the next file or socket gets the number of one, and
    what is printed or logged is written into it. Characters that the encoding of a terminal lacks are written as
    escape sequences: titles and names have any."""
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number: this one, as those below it are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)
    for written in (sys.stdout, sys.stderr):
        if isinstance(written, io.TextIOWrapper):
            written.reconfigure(errors="backslashreplace")


def is_of_stream(error: OSError) -> bool:
    """Whether it says that a standard stream cannot be written: it is full, or nobody reads it. Commands handle the
    errors of files and connections themselves."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)


def discard_unwritable() -> None:
    """What is still to be written to a stream that cannot be written goes to /dev/null, and so does what follows. Else
    Python tries to write it again when it exits, and fails."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
            stream.flush()
