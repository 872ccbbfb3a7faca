"""`interject workers`: the processes that use the database, and the end of one of them."""

from __future__ import annotations

import sys
from typing import Any

from config.load import Configuration
from gateway.cli.output import age, fail, json_line, table, write_lines
from gateway.outbound.wording import plain
from gateway.store import offline
from gateway.store.errors import StoreError
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
    or more than one."""
    try:
        matching = [
            worker for worker in offline.all_workers(configuration.settings.store.url) if worker.id.startswith(name)
        ]
        if len(matching) != 1:
            problem = "no worker has" if not matching else f"{len(matching)} workers have"
            sys.stderr.write(f"interject: {problem} an id that begins with {name}; `interject workers` lists them\n")
            return 1
        offline.drain_worker(configuration.settings.store.url, matching[0].id)
    except StoreError as error:
        return fail(configuration, error)
    turns = matching[0].running
    write_lines([f"{matching[0].id} takes nothing new from now on, and ends after {turns} running turns."])
    return 0


def _json(worker: Worker) -> dict[str, Any]:
    return {
        "worker": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "since": worker.started_at,
        "lease": round(worker.left, 1),
        "running": worker.running,
        "room": worker.room,
        "draining": worker.draining,
        "connectors": list(worker.connectors),
    }


def _table(found: tuple[Worker, ...]) -> list[str]:
    header = ("since", "turns", "lease", "state", "host", "pid", "version", "worker", "listens on")
    return table(header, [_cells(worker) for worker in found], right=(0, 1, 2, 5))


def _cells(worker: Worker) -> tuple[str, ...]:
    state = "dead" if worker.left <= 0 else "draining" if worker.draining else "works"
    return (
        age(worker.started_at),
        f"{worker.running}/{worker.room}",
        f"{max(worker.left, 0):.0f} s",
        state,
        plain(worker.host, 40),
        str(worker.pid),
        worker.version,
        worker.id,
        ", ".join(worker.connectors) or "-",
    )
