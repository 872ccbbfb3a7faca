"""Typing indicators, from state alone: one ticker asks which turns run and have nothing visible yet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from channels.address import Address
from channels.channel import Channel
from gateway.bus import Bus, TurnStarted
from gateway.outbound.moved_chats import MovedChats
from gateway.sessions import is_child
from gateway.turns.dispatcher import ActiveTurn, Dispatcher

log = logging.getLogger(__name__)

TICK = 0.5
REPEAT = 4.0
"""Telegram shows typing for 5 s at most, Discord for 10 s."""

TIMEOUT = 5.0

MAX_PER_TICK = 8
"""Typing counts against a platform's limits (Telegram's are 30 a second for a bot), and answers go first."""


async def show_typing(
    bus: Bus,
    dispatcher: Dispatcher,
    channels: Mapping[str, Channel],
    chats: MovedChats,
    may_send: Callable[[], bool],
) -> None:
    """Runs until cancelled; idle while no turn runs. While `may_send` is false, nothing is shown."""
    shown: dict[str, float] = {}
    async with bus.subscribe(None, TurnStarted) as started:
        while True:
            if not dispatcher.running():
                await started.changed()
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if not may_send():
                continue
            due = [active for active in dispatcher.running() if _is_due(active, shown, now)][:MAX_PER_TICK]
            shown = {each.session: shown[each.session] for each in dispatcher.running() if each.session in shown}
            shown.update({active.session: now for active in due})
            await _type_in(due, channels, chats)


async def _type_in(turns: list[ActiveTurn], channels: Mapping[str, Channel], chats: MovedChats) -> None:
    async with asyncio.TaskGroup() as group:
        for active in turns:
            if active.record is not None and active.record.address.channel in channels:
                address = chats.current(active.record.address)
                group.create_task(_type(channels[address.channel], address))


def _is_due(active: ActiveTurn, shown: Mapping[str, float], now: float) -> bool:
    if active.reply is None or is_child(active.session):
        return False
    waits = not active.reply.visible and now - active.since >= TICK
    return waits and now - shown.get(active.session, 0.0) >= REPEAT


async def _type(channel: Channel, address: Address) -> None:
    """A failure here is only logged: nothing depends on a typing indicator."""
    try:
        async with asyncio.timeout(TIMEOUT):
            await channel.typing(address)
    except Exception:
        log.debug("%s: typing could not be shown", channel.name, exc_info=True)
