"""Measures the gateway beside the floor: `python -m benchmarks [--quick] [--only NAME] [--json FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import GATEWAY, Failed, Kind
from benchmarks.scenarios import NOT_QUICK, QUICK, SCENARIOS, Bench, Sizes
from benchmarks.table import Row, as_json, as_markdown


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interject-benchmark-") as home:
        kinds: Sequence[Kind] = ("gateway", "floor") if options.contender == "both" else (options.contender,)
        sizes = QUICK if options.quick else Sizes()
        bench = Bench(Path(home), _tell, sizes, kinds, shlex.split(options.gateway) if options.gateway else GATEWAY)
        before, begun = os.getloadavg()[0], time.monotonic()
        rows, failures = asyncio.run(_measure(bench, options.only or _usual(options.quick)))
    words = (
        f"Python {platform.python_version()}, {os.cpu_count()} processors, {time.monotonic() - begun:.0f} s; "
        f"load of the machine before {before:.1f}, after {os.getloadavg()[0]:.1f}."
    )
    sys.stdout.write(f"\n{as_markdown(rows)}\n\n{words}\n")
    if options.json:
        report = {"machine": words, "measures": as_json(rows), "failures": failures}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for failure in failures:
        _tell(failure)
    return 1 if failures else 0


def _usual(quick: bool) -> Sequence[str]:
    return [name for name in SCENARIOS if not (quick and name in NOT_QUICK)]


async def _measure(bench: Bench, names: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows of the scenarios that worked, and what went wrong in the others."""
    rows: list[Row] = []
    failures: list[str] = []
    for name in names:
        _tell(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}")
        try:
            rows += await SCENARIOS[name](bench)
        except Failed as error:
            failures.append(f"{name} failed: {error}")
            _tell(failures[-1])
    return rows, failures


def _tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, about a minute")
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), help="this scenario; may be repeated")
    parser.add_argument("--contender", choices=("both", "gateway", "floor"), default="both")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there, too")
    parser.add_argument("--gateway", metavar="COMMAND", help='what to start instead of this tree\'s, as in "interject"')
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
