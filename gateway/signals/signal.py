"""What the gateway's parts tell, as one union, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.hooks.chain import HookAnswered
from agent.models.measuring import ModelCalled
from gateway.bus.events import BusEvent, NotificationArrived
from gateway.observations import Observation
from gateway.store.writer import Committed

log = logging.getLogger(__name__)

Signal = BusEvent | NotificationArrived | Observation | ModelCalled | HookAnswered | Committed

Watch = Callable[[Signal], None]


class Signals:
    """Tells everybody who watches, in the order given. Never waits and never raises: a watcher that fails is logged,
    once for each kind of signal."""

    def __init__(self, *watching: Watch) -> None:
        self._watching = watching
        self._failed: set[tuple[Watch, type]] = set()

    def __call__(self, signal: Signal) -> None:
        for watch in self._watching:
            try:
                watch(signal)
            except Exception:
                key = (watch, type(signal))
                if key not in self._failed:
                    self._failed.add(key)
                    log.exception("a signal (%s) could not be counted; this is logged once", type(signal).__name__)
