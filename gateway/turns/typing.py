"""Typing as a function of state: one ticker asks which turns run without anything of them being visible."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from channels.address import Address
from channels.channel import Channel
from gateway.sessions import is_child
from gateway.turns.dispatcher import ActiveTurn, Dispatcher

log = logging.getLogger(__name__)

TICK = 0.5
REPEAT = 4.0
"""Telegram shows typing for 5 s at most, Discord for 10 s."""

PATIENCE = 5.0

MOST_PER_TICK = 8
"""Typing counts against a platform's limits (Telegram's are 30 a second for a bot), where answers go first."""


async def show_typing(dispatcher: Dispatcher, channels: Mapping[str, Channel]) -> None:
    """Runs until cancelled; costs nothing while nothing runs."""
    shown: dict[str, float] = {}
    while True:
        if not dispatcher.running():
            dispatcher.stirred.clear()
            await dispatcher.stirred.wait()
        await asyncio.sleep(TICK)
        now = time.monotonic()
        due = [live for live in dispatcher.running() if _is_due(live, shown, now)][:MOST_PER_TICK]
        shown = {live.session: shown[live.session] for live in dispatcher.running() if live.session in shown}
        shown.update({live.session: now for live in due})
        async with asyncio.TaskGroup() as group:
            for live in due:
                if live.record is not None and live.record.address.channel in channels:
                    address = live.record.address
                    group.create_task(_type(channels[address.channel], address))


def _is_due(live: ActiveTurn, shown: Mapping[str, float], now: float) -> bool:
    if live.draft is None or is_child(live.session):
        return False
    waits = not live.draft.visible and now - live.since >= TICK
    return waits and now - shown.get(live.session, 0.0) >= REPEAT


async def _type(channel: Channel, address: Address) -> None:
    """Typing is a courtesy: when it fails, nobody needs to know but the log."""
    try:
        async with asyncio.timeout(PATIENCE):
            await channel.typing(address)
    except Exception:
        log.debug("%s: typing could not be shown", channel.name, exc_info=True)
