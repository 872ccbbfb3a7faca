"""Measures the gateway against two floors, and the turn loop by itself; when they are named, also several workers and
a large database.

`python -m benchmarks [gateway|loop|workers|large] [--quick] [--only NAME] [--json FILE] [--rows N]`
"""

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.contenders import FLOORS, GATEWAY, KINDS, Failed, Kind
from benchmarks.install import install
from benchmarks.large import LARGE, LARGE_DATABASE, SMALL
from benchmarks.loop import LOOP
from benchmarks.scenarios import NOT_QUICK, QUICK, SCENARIOS, Bench, Scenario, Sizes
from benchmarks.table import FLOOR, Row, as_json, as_markdown
from benchmarks.workers import WORKERS


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios with a table of their own, and the headings of its columns."""

    scenarios: Mapping[str, Scenario]
    measured: str
    floors: Sequence[str]
    by_default: bool = True

    def table(self, rows: Sequence[Row]) -> str:
        return as_markdown(rows, self.measured, self.floors)


GROUPS: Mapping[str, Group] = {
    "gateway": Group({**SCENARIOS, "install": install}, "gateway", FLOORS),
    "loop": Group(LOOP, "loop", (FLOOR,)),
    "workers": Group(WORKERS, "2 workers", ("1 worker", "3 workers"), by_default=False),
    "large": Group(LARGE_DATABASE, LARGE, (SMALL,), by_default=False),
}


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interject-benchmark-") as home:
        kinds: Sequence[Kind] = options.contender or KINDS
        sizes = QUICK if options.quick else Sizes()
        if options.rows:
            sizes = replace(sizes, entries=options.rows)
        bench = Bench(Path(home), _log, sizes, kinds, shlex.split(options.gateway) if options.gateway else GATEWAY)
        before, begun = os.getloadavg()[0], time.monotonic()
        tables: dict[str, list[Row]] = {}
        failures: list[str] = []
        for name in _groups(options):
            tables[name] = asyncio.run(_measure(bench, _selected(GROUPS[name], options), failures))
    machine = (
        f"Python {platform.python_version()}, {os.cpu_count()} processors, {time.monotonic() - begun:.0f} s; "
        f"machine load {before:.1f} before, {os.getloadavg()[0]:.1f} after."
    )
    for name, rows in tables.items():
        if rows:
            sys.stdout.write(f"\n{GROUPS[name].table(rows)}\n")
    sys.stdout.write(f"\n{machine}\n")
    if options.json:
        measures = [{"group": name} | row for name, rows in tables.items() for row in as_json(rows)]
        report = {"machine": machine, "measures": measures, "failures": failures}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for failure in failures:
        _log(failure)
    return 1 if failures else 0


def _groups(options: argparse.Namespace) -> list[str]:
    """Without a name, those that are run by default, or that have the scenarios asked for."""
    if options.group:
        return [options.group]
    wanted = set(options.only or ())
    return [name for name, group in GROUPS.items() if (wanted & set(group.scenarios) if wanted else group.by_default)]


def _selected(group: Group, options: argparse.Namespace) -> Mapping[str, Scenario]:
    if options.only:
        return {name: scenario for name, scenario in group.scenarios.items() if name in options.only}
    skipped = NOT_QUICK if options.quick else ()
    return {name: scenario for name, scenario in group.scenarios.items() if name not in skipped}


async def _measure(bench: Bench, scenarios: Mapping[str, Scenario], failures: list[str]) -> list[Row]:
    """The rows of the scenarios that succeeded; errors of the others are added to the failures."""
    rows: list[Row] = []
    for name, scenario in scenarios.items():
        _log(f"{name}: {(scenario.__doc__ or '').splitlines()[0]}")
        try:
            rows += await scenario(bench)
        except Failed as error:
            failures.append(f"{name} failed: {error}")
            _log(failures[-1])
    return rows


def _log(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("group", nargs="?", choices=list(GROUPS), help="only this group")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, a minute or two for each group")
    parser.add_argument(
        "--only",
        action="append",
        choices=[name for group in GROUPS.values() for name in group.scenarios],
        help="only this scenario; repeatable",
    )
    parser.add_argument("--contender", action="append", choices=KINDS, help="only this one; repeatable")
    parser.add_argument(
        "--rows", type=int, metavar="N", help=f"log entries of the large database, {Sizes().entries:,} by default"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all measurements to this file")
    parser.add_argument(
        "--gateway", metavar="COMMAND", help='the gateway to start instead of this tree, e.g. "interject"'
    )
    options = parser.parse_args()
    if options.group and not set(options.only or GROUPS[options.group].scenarios) & set(
        GROUPS[options.group].scenarios
    ):
        parser.error(f"scenarios of {options.group}: {', '.join(GROUPS[options.group].scenarios)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
