"""Runs another module as `python -m` would, profiling its main thread from SIGUSR1 to SIGUSR2; see `profile`."""

from __future__ import annotations

import cProfile
import os
import runpy
import signal
import sys
from pathlib import Path


def main(output: Path, module: str, *arguments: str) -> None:
    """Writes the profile to `output`, which does not exist until it is complete."""
    profiler = cProfile.Profile()

    def finish(*_: object) -> None:
        profiler.disable()
        unfinished = output.with_suffix(".part")
        profiler.dump_stats(unfinished)
        os.replace(unfinished, output)

    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    signal.signal(signal.SIGUSR2, finish)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
