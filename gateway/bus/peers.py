"""The other workers, as far as this one has heard of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

EVERYTHING = ""

Heard = Literal["next", "gap", "known"]
"""`gap`: earlier notifications of the worker have not arrived. `known`: it has arrived before, or it was missed before
and what it says was looked for then."""


@dataclass(slots=True)
class _Peer:
    """`number` is that of its last notification; `watches` are sessions whose progress it wants to know of. Times are
    monotonic."""

    number: int
    heard_at: float
    watches: dict[str, float] = field(default_factory=dict)


class Peers:
    def __init__(self, *, forget_after: float) -> None:
        """Seconds after which a worker that says nothing is gone, and what it does not renew is over."""
        self._forget_after = forget_after
        self._peers: dict[str, _Peer] = {}

    @property
    def known(self) -> bool:
        """Whether there is another worker."""
        return bool(self._peers)

    def heard(self, worker: str, number: int) -> Heard:
        """Notes a notification."""
        now = time.monotonic()
        peer = self._peers.setdefault(worker, _Peer(0, now))
        peer.heard_at = now
        if number <= peer.number:
            return "known"
        is_next = number == peer.number + 1
        peer.number = number
        return "next" if is_next else "gap"

    def note_watch(self, worker: str, session: str) -> bool:
        """The worker watches the session, `EVERYTHING` for all; whether that is new."""
        watches = self._peers[worker].watches
        is_new = session not in watches
        watches[session] = time.monotonic()
        return is_new

    def watch(self, session: str) -> bool:
        """Whether another worker watches the session."""
        return any(session in peer.watches or EVERYTHING in peer.watches for peer in self._peers.values())

    def renew(self) -> None:
        """While nothing could be heard, nobody was silent."""
        now = time.monotonic()
        for peer in self._peers.values():
            peer.heard_at = now
            peer.watches = dict.fromkeys(peer.watches, now)

    def forget(self) -> None:
        """Forgets who was silent for too long, and what was not renewed."""
        oldest = time.monotonic() - self._forget_after
        self._peers = {worker: peer for worker, peer in self._peers.items() if peer.heard_at >= oldest}
        for peer in self._peers.values():
            peer.watches = {session: at for session, at in peer.watches.items() if at >= oldest}
