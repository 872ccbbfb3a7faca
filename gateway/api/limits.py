"""Limits of requests: how many each caller may send, and how large they may be."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass

UPLOAD_LIMIT = 100_000_000
"""Bytes of a request's body."""

REQUESTS_PER_MINUTE = 600
MAX_CALLERS = 10_000
"""Callers that are remembered; one that is forgotten starts anew."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RequestRate:
    """A bucket of tokens for each caller: it holds those of a minute, and is filled evenly."""

    def __init__(self, per_minute: int = REQUESTS_PER_MINUTE, max_callers: int = MAX_CALLERS) -> None:
        self._size = per_minute
        self._per_second = per_minute / 60
        self._max_callers = max_callers
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str, now: float | None = None) -> int:
        """0 if the caller may send a request now, else the seconds until it may. `now` is in monotonic seconds."""
        now = time.monotonic() if now is None else now
        bucket = self._buckets.setdefault(caller, _Bucket(self._size, now))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > self._max_callers:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._size, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.tokens < 1:
            return math.ceil((1 - bucket.tokens) / self._per_second)
        bucket.tokens -= 1
        return 0
