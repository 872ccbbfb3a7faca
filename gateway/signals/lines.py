"""The lines of the log that say what goes on: one for each refusal, approval, and beginning and end of a turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from agent.events import Logged
from agent.log import ApprovalDecided, ApprovalRequested, CallEnded
from gateway.bus.events import TurnEnded, TurnParked, TurnProgress, TurnStarted
from gateway.observations import MessageReceived
from gateway.sessions import session_key
from gateway.signals.signal import Signal

log = logging.getLogger(__name__)


class Lines:
    """Writes them (a `Watch`). They have ids and no words of people; `mask` removes known secrets from reasons."""

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._handlers: dict[type, Callable[[Any], None]] = {
            MessageReceived: self._received,
            TurnStarted: self._started,
            TurnParked: self._parked,
            TurnEnded: self._ended,
            TurnProgress: self._progress,
        }

    def __call__(self, signal: Signal) -> None:
        handle = self._handlers.get(type(signal))
        if handle is not None:
            handle(signal)

    def _received(self, received: MessageReceived) -> None:
        if received.state == "refused":
            message = received.message
            who, why = f"{message.address.channel}:{message.sender.id}", self._mask(received.reason)
            log.info("session %s: message %d of %s refused: %s", session_key(message.address), received.id, who, why)

    def _started(self, started: TurnStarted) -> None:
        log.info("session %s: turn %s runs", started.session, started.turn)
        if started.decided is not None:
            self._decided(started.session, started.turn, started.decided)

    def _parked(self, parked: TurnParked) -> None:
        log.info("session %s: turn %s waits for people", parked.session, parked.turn)

    def _ended(self, ended: TurnEnded) -> None:
        why = f": {self._mask(ended.reason)}" if ended.reason else ""
        log.info("session %s: turn %s %s%s", ended.session, ended.turn, ended.outcome, why)

    def _progress(self, progress: TurnProgress) -> None:
        if not isinstance(progress.event, Logged):
            return
        session, turn = progress.session, progress.turn
        match progress.event.entry:
            case ApprovalRequested(id=id, subject=subject):
                log.info("session %s: turn %s needs approval of %s %s", session, turn, subject, id)
            case ApprovalDecided() as decided:
                self._decided(session, turn, decided)
            case CallEnded(call_id=id, outcome="denied"):
                log.info("session %s: turn %s: call %s denied", session, turn, id)
            case _:
                pass

    def _decided(self, session: str, turn: str, decided: ApprovalDecided) -> None:
        by = f" by {decided.by}" if decided.by else ""
        log.info("session %s: turn %s: approval %s: %s%s", session, turn, decided.id, decided.decision, by)
