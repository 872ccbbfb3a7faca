"""Keeps what people wrote last in each group: bots cannot ask Telegram for it."""

from __future__ import annotations

from collections import OrderedDict

from channels.address import Address
from channels.message import InboundMessage, ThreadRoot

MAX_PLACES = 300
"""Groups and topics with messages kept, those with the newest ones."""


class Talk:
    """In memory, `size` messages of each group or topic."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: OrderedDict[Address, OrderedDict[int, ThreadRoot]] = OrderedDict()

    def keep(self, message: InboundMessage) -> None:
        """Keeps a message in a group, or its new text if it was edited."""
        if not self._size or message.address.kind == "direct" or not _id(message.message_id):
            return
        id = _id(message.message_id)
        place = self._places.get(message.address, OrderedDict())
        if message.kind != "new" and not (message.kind == "edited" and id in place):
            return
        place[id] = ThreadRoot(message.sender.name, message.text, message.files, message.sender)
        if len(place) > self._size:
            place.popitem(last=False)
        self._places[message.address] = place
        self._places.move_to_end(message.address)
        if len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    def between(self, address: Address, after: str | None, before: str) -> tuple[ThreadRoot, ...]:
        """What was written after and before these messages. Ids rise: https://core.telegram.org/bots/api#message."""
        first, last = _id(after), _id(before)
        place = self._places.get(address, OrderedDict())
        return tuple(place[id] for id in sorted(place) if first < id < last)


def _id(message: str | None) -> int:
    return int(message) if message and message.isdecimal() else 0
