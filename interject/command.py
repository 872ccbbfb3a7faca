"""The command `interject`. Outside the package `gateway`, so that a folder of that name cannot hide it."""

from __future__ import annotations

import signal
import sys

from interject.collisions import NameCollision, require_own_packages


def main() -> int:
    """Runs one command and returns the exit code; 1 on a name collision."""
    if sys.argv[1:2] == ["run"] and hasattr(signal, "SIGHUP"):
        # It means "reload", also while the gateway is not imported yet. Not SIG_IGN: other programs would inherit that.
        signal.signal(signal.SIGHUP, _nothing)
    try:
        require_own_packages()
    except NameCollision as error:
        sys.stderr.write(f"interject: {error}\n")
        return 1
    from gateway.cli.main import main as run_command

    return run_command()


def _nothing(*_: object) -> None:
    """There is nothing to reload yet."""
