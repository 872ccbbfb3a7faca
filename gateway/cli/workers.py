"""`interject workers`: the processes that use the database, and the end of one of them."""

from __future__ import annotations

import sys
from typing import Any

from config.load import Configuration
from gateway.cli.output import age, fail, json_line, table, write_lines
from gateway.outbound.wording import plain
from gateway.store import offline
from gateway.store.errors import StoreError
from gateway.store.process import state_of
from gateway.store.workers import Worker


def show_workers(configuration: Configuration, *, as_json: bool) -> int:
    """Returns the exit code: 1 when the database cannot be read."""
    try:
        found = offline.all_workers(configuration.settings.store.url)
    except StoreError as error:
        return fail(configuration, error)
    if as_json:
        write_lines(json_line(_json(worker)) for worker in found)
    else:
        write_lines(_table(found) if found else (), "No worker runs.")
    return 0


def drain(configuration: Configuration, name: str) -> int:
    """The worker whose id begins with `name` ends after its running turns. Returns the exit code: 1 when there is none,
    or more than one, or when it is dead, or no other process can use its database."""
    if not name:
        return _refuse("which worker? Give the first characters of its id; `interject workers` lists them")
    url = configuration.settings.store.url
    try:
        found = offline.all_workers(url)
        matching = [worker for worker in found if worker.id.startswith(name)]
        if len(matching) != 1:
            problem = "no worker has" if not matching else f"{len(matching)} workers have"
            return _refuse(f"{problem} an id that begins with {name}; `interject workers` lists them")
        worker = matching[0]
        if state_of(worker) == "dead":
            return _refuse(f"{worker.id} is dead: the others go on with what it has left")
        if worker.left is None:
            return _refuse(
                f"{worker.id} is the only process that can use this database; SIGTERM to {worker.pid} ends it"
            )
        if not offline.drain_worker(url, worker):
            return _refuse(f"{worker.id} has ended already")
    except StoreError as error:
        return fail(configuration, error)
    turns = "" if not worker.running else f" after {worker.running} running turn{'s' if worker.running > 1 else ''}"
    lines = [f"{worker.id} takes nothing new from now on, and ends{turns}."]
    if not any(state_of(each) == "works" for each in found if each.id != worker.id):
        lines.append("No other worker goes on with its work: start one.")
    write_lines(lines)
    return 0


def _refuse(problem: str) -> int:
    sys.stderr.write(f"interject: {problem}\n")
    return 1


def _json(worker: Worker) -> dict[str, Any]:
    return {
        "worker": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "since": worker.started_at,
        "lease": None if worker.left is None else round(worker.left, 1),
        "running": worker.running,
        "room": worker.room,
        "state": state_of(worker),
        "draining": worker.draining,
        "connectors": list(worker.connectors),
    }


def _table(found: tuple[Worker, ...]) -> list[str]:
    header = ("since", "turns", "lease", "state", "host", "pid", "version", "worker", "listens on")
    return table(header, [_cells(worker) for worker in found], right=(0, 1, 2, 5))


def _cells(worker: Worker) -> tuple[str, ...]:
    return (
        age(worker.started_at),
        "-" if worker.left is None else f"{worker.running}/{worker.room}",
        "-" if worker.left is None else f"{max(worker.left, 0):.0f} s",
        state_of(worker),
        plain(worker.host, 40),
        str(worker.pid),
        worker.version,
        worker.id,
        ", ".join(worker.connectors) or "-",
    )
