"""Follows access that was taken back: stops turns and background work, and tells about refused messages."""

from __future__ import annotations

from channels.message import MessageStatus
from gateway.bus import Bus, MessagesChanged
from gateway.outbound.delivery import Delivery
from gateway.sessions import session_key
from gateway.store.records import Revoked
from gateway.turns.background import BackgroundWork


class Revocations:
    def __init__(self, bus: Bus, delivery: Delivery, background: BackgroundWork) -> None:
        self._bus = bus
        self._delivery = delivery
        self._background = background

    async def apply(self, revoked: Revoked) -> None:
        for stop in revoked.stops:
            self._bus.stop(stop.session, before=stop.before, reason=stop.reason)
            if not stop.is_aside:
                # A parked turn is resumed to be ended.
                self._bus.wake(stop.session, "interrupt")
        for message in revoked.refused:
            session = session_key(message.address)
            self._delivery.show_status(
                MessageStatus(message.address, message.id, message.message_id, "refused", None, revoked.reason)
            )
            self._bus.publish(MessagesChanged(session, message.address, (message.id,), "refused", revoked.reason))
            # Messages after it may be readable now.
            self._bus.wake(session)
        await self._background.follow_stops()
