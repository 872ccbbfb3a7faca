"""Files that were uploaded for a conversation and that no message has yet."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import replace

from agent.media import Attachment

MAX_UPLOADS = 10_000
KEPT = 3600.0
"""Seconds for which a message may name an uploaded file."""


class Uploads:
    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, str], tuple[float, Attachment]] = OrderedDict()

    def add(self, session: str, file: Attachment) -> None:
        self._files[session, file.hash] = (time.monotonic(), file)
        self._files.move_to_end((session, file.hash))
        if len(self._files) > MAX_UPLOADS:
            self._files.popitem(last=False)

    def find(self, session: str, hash: str, name: str) -> Attachment | None:
        at, file = self._files.get((session, hash), (0.0, None))
        return replace(file, name=name) if file is not None and time.monotonic() - at < KEPT else None
