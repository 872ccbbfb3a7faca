"""Runs a module like `python -m`, profiling its main thread between SIGUSR1 and SIGUSR2; see `profile`."""

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
        partial = output.with_suffix(".part")
        profiler.dump_stats(partial)
        os.replace(partial, output)

    signal.signal(signal.SIGUSR1, lambda *_: profiler.enable())
    signal.signal(signal.SIGUSR2, finish)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
