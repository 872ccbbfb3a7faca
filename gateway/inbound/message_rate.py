"""Counts each person's messages: beyond a number per minute they are not taken."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from channels.message import InboundMessage

WINDOW = timedelta(minutes=1)
MAX_PEOPLE = 10_000
"""People who are remembered; one who is forgotten starts anew."""


@dataclass(slots=True)
class _Person:
    """When the newest messages were sent, at most as many as are allowed; `told` is when a refused one was last
    answered. An album's messages count as one."""

    sent: deque[datetime]
    album: str | None = None
    told: datetime | None = field(default=None)


class MessageRate:
    """By the time at which messages were sent: what was written over hours while the gateway was down is taken."""

    def __init__(self, per_minute: int | None) -> None:
        """None: no limit."""
        self.per_minute = per_minute
        self._people: OrderedDict[tuple[str, str], _Person] = OrderedDict()

    def take(self, message: InboundMessage) -> bool:
        """Counts the message, if it is within the limit; returns whether it is."""
        if self.per_minute is None:
            return True
        person = self._person(message)
        if message.album is not None and message.album == person.album:
            return True
        if len(person.sent) == self.per_minute and _is_near(message.sent_at, person.sent[0]):
            return False
        person.sent.append(message.sent_at)
        person.album = message.album
        return True

    def give_back(self, message: InboundMessage) -> None:
        """The counted message was not new, or not for the agent."""
        person = self._people.get(_key(message))
        if person is not None and message.sent_at in person.sent:
            person.sent.remove(message.sent_at)

    def tell(self, message: InboundMessage) -> bool:
        """Whether the sender is to be told that the message was not taken: once a minute."""
        person = self._person(message)
        if person.told is not None and _is_near(message.sent_at, person.told):
            return False
        person.told = message.sent_at
        return True

    def _person(self, message: InboundMessage) -> _Person:
        person = self._people.setdefault(_key(message), _Person(deque(maxlen=self.per_minute)))
        if person.sent.maxlen != self.per_minute:
            person.sent = deque(person.sent, self.per_minute)
        self._people.move_to_end(_key(message))
        if len(self._people) > MAX_PEOPLE:
            self._people.popitem(last=False)
        return person


def _key(message: InboundMessage) -> tuple[str, str]:
    return message.address.channel, message.sender.id


def _is_near(one: datetime, other: datetime) -> bool:
    return abs(one - other) < WINDOW
