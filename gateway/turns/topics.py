"""Topics: what a group or channel says of itself on its platform, as a part of the instructions of turns there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace

from agent import gate
from agent.context.context_files import of_people, shortened
from channels.address import Address
from channels.channel import Channel, ChannelError, ChatMoved, DescribedPlaces
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

MAX_BYTES = 4_000
"""Of a topic, in the instructions."""

MAX_PLACES = 1_000
"""Places with a topic in memory, those used last."""

KEPT = 300.0
"""Seconds until a topic is read again."""

RETRY = 60.0
"""Seconds until a topic is read again that the platform did not give."""

TIMEOUT = 2.0
"""Seconds that a turn may wait for its platform."""

SOURCE = "the topic, description or pinned message of this chat"
AUTHORS = "People of the chat"


@dataclass(slots=True)
class _Topic:
    """`until` is in monotonic seconds."""

    text: str = ""
    until: float = 0.0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Topics:
    def __init__(
        self,
        channels: Mapping[str, Channel],
        wanted: Container[str] = (),
        *,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`wanted` are the names of the channels whose topics are read; `clock` is in seconds."""
        self._channels = channels
        self.wanted = wanted
        self._timeout = timeout
        self._clock = clock
        self._topics: OrderedDict[tuple[str, str], _Topic] = OrderedDict()

    async def of(self, address: Address) -> str:
        """The part of the instructions, "" if there is none; the last known if the platform does not give it in
        time. Direct chats have none."""
        channel = self._channels.get(address.channel)
        if address.channel not in self.wanted or address.kind == "direct" or not isinstance(channel, DescribedPlaces):
            return ""
        topic = self._kept(address)
        async with topic.reading:
            if topic.until <= self._clock():
                await self._read(topic, channel, address)
        return topic.text

    def _kept(self, address: Address) -> _Topic:
        """A chat has one topic for all its threads."""
        place = (address.channel, address.chat)
        topic = self._topics.setdefault(place, _Topic())
        self._topics.move_to_end(place)
        if len(self._topics) > MAX_PLACES:
            self._topics.popitem(last=False)
        return topic

    async def _read(self, topic: _Topic, channel: DescribedPlaces, address: Address) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                topic.text = _instructions(await _topic(channel, address))
        except (ChannelError, *MALFORMED) as error:
            log.warning("%s: the topic of chat %s is not available: %r", address.channel, address.chat, error)
            topic.until = self._clock() + RETRY
        else:
            topic.until = self._clock() + KEPT


async def _topic(channel: DescribedPlaces, address: Address) -> str:
    try:
        return await channel.topic(address)
    except ChatMoved as moved:
        return await channel.topic(replace(address, chat=moved.chat))


def _instructions(topic: str) -> str:
    text = gate.text(topic).strip()
    return of_people(SOURCE, AUTHORS, shortened(text, MAX_BYTES, len(text.encode()), "it")) if text else ""
