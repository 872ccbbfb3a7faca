"""The bus: brings messages in, wakes and stops sessions, and tells events to subscribers.

A subscriber gets the events of one session or of all, by kind. It can be run beside the channels, for example as
`await gateway.run(partial(report_turns, gateway.bus))`:

    from gateway.bus import Bus, Lagged, TurnEnded, TurnStarted

    async def report_turns(bus: Bus) -> None:
        async with bus.subscribe(None, TurnStarted, TurnEnded) as events:
            async for event in events:
                match event:
                    case TurnStarted(session=session):
                        print(f"{session}: started")
                    case TurnEnded(session=session, outcome=outcome, reason=reason):
                        print(f"{session}: {outcome} {reason}".rstrip())
                    case Lagged(count=count):
                        print(f"{count} events missed")
"""

from gateway.bus.bus import Bus, BusClosed, MessageReceiver, Subscription, TurnDispatcher
from gateway.bus.events import (
    BusEvent,
    HistoryChanged,
    Lagged,
    MessageAccepted,
    MessagesChanged,
    NoticeSent,
    NotificationArrived,
    TitleChanged,
    TurnEnded,
    TurnParked,
    TurnProgress,
    TurnStarted,
)
from gateway.bus.local import LocalBus

__all__ = [
    "Bus",
    "BusClosed",
    "BusEvent",
    "HistoryChanged",
    "Lagged",
    "LocalBus",
    "MessageAccepted",
    "MessageReceiver",
    "MessagesChanged",
    "NoticeSent",
    "NotificationArrived",
    "Subscription",
    "TitleChanged",
    "TurnDispatcher",
    "TurnEnded",
    "TurnParked",
    "TurnProgress",
    "TurnStarted",
]
