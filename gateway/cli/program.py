"""How the command line is called here, for texts that say what to type next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NAME = "interject"


def program() -> str:
    """The command's name where the shell finds it, else the path by which it was called."""
    called = sys.argv[0]
    return called if Path(called).name == NAME and shutil.which(NAME) is None else NAME
