"""Who is in which group of a chat platform: the platform is asked, and what it says holds for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from channels.address import Address
from channels.channel import Channel, ChannelError, MemberDirectory

log = logging.getLogger(__name__)

CHECK_AGE = 300.0
"""Seconds for which the platform is not asked again."""

KEPT = 900.0
"""Seconds for which its last answer holds while it gives no other. After that nobody counts as a member."""

RETRY = 30.0
"""Seconds until it is asked again after it gave no answer."""

TIMEOUT = 10.0
"""Seconds in which it must answer."""

AT_ONCE = 8
MAX_KNOWN = 10_000


@dataclass(slots=True)
class _Known:
    """`said_at` and `next_check` are on the clock of `Memberships`."""

    is_member: bool
    said_at: float
    next_check: float


class Memberships:
    def __init__(self, channels: Mapping[str, Channel], now: Callable[[], float] = time.monotonic) -> None:
        """`now` is a clock, in seconds."""
        self._channels = channels
        self._now = now
        self._known: OrderedDict[tuple[Address, str], _Known] = OrderedDict()
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def open_to(self, addresses: Iterable[Address], person: str) -> frozenset[Address]:
        """Those of the places that the person, by the id on their channel, can read now: direct chats, and groups that
        they are in. Groups of a platform that does not tell who is in them are left out."""
        asked = list(addresses)
        found = await asyncio.gather(*(self._is_open(address, person) for address in asked))
        return frozenset(address for address, is_open in zip(asked, found, strict=True) if is_open)

    async def _is_open(self, address: Address, person: str) -> bool:
        if address.kind == "direct":
            return True
        channel = self._channels.get(address.channel)
        if not isinstance(channel, MemberDirectory):
            return False
        async with self._asking:
            known = self._known.get((address, person))
            if known is None or self._now() >= known.next_check:
                known = await self._ask(channel, address, person, known)
        return known.is_member

    async def _ask(self, channel: MemberDirectory, address: Address, person: str, before: _Known | None) -> _Known:
        try:
            async with asyncio.timeout(TIMEOUT):
                is_member = await channel.is_member(address, person)
        except (ChannelError, TimeoutError) as error:
            log.info("%s: whether %s is in %s is not known: %s", channel.name, person, address.chat, error)
            now = self._now()
            holds = before is not None and before.is_member and now - before.said_at < KEPT
            known = _Known(holds, before.said_at if before is not None else now, now + RETRY)
        else:
            now = self._now()
            known = _Known(is_member, now, now + CHECK_AGE)
        self._known[address, person] = known
        self._known.move_to_end((address, person))
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known
