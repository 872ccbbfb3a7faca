"""Turns that change their worker: counted, and logged together, since many do at the same moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from gateway.observations import Observations
from gateway.store.records import Turn

log = logging.getLogger(__name__)

TOGETHER = 1.0
"""Seconds: what happens within them is one line of the log."""

NAMED = 10
"""Ids in one line of the log."""


class WorkerChanges:
    def __init__(self, observations: Observations) -> None:
        self._observations = observations
        self._taken: dict[str, list[str]] = {}
        self._handed_over: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def begun(self, turn: Turn) -> None:
        """Tells it if the turn was of a worker that is gone."""
        if turn.former_worker is None:
            return
        self._observations.adopted(turn.id)
        self._taken.setdefault(turn.former_worker, []).append(turn.id)
        self._log_soon()

    def handed_over(self, turn: Turn) -> None:
        self._observations.handed_over(turn.id)
        self._handed_over.append(turn.id)
        self._log_soon()

    def close(self) -> None:
        """Logs what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._log()

    def _log_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TOGETHER, self._log)

    def _log(self) -> None:
        self._timer = None
        for worker, turns in self._taken.items():
            of = f"of worker {worker}" if worker else "of a worker that is gone"
            log.info("took over %s %s: %s", _count(turns), of, _named(turns))
        if self._handed_over:
            log.info("handed over %s to the other workers: %s", _count(self._handed_over), _named(self._handed_over))
        self._taken, self._handed_over = {}, []


def _count(turns: Sequence[str]) -> str:
    return "1 turn" if len(turns) == 1 else f"{len(turns)} turns"


def _named(turns: Sequence[str]) -> str:
    return ", ".join(turns[:NAMED]) + (", …" if len(turns) > NAMED else "")
