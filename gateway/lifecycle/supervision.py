"""Supervision: what breaks, of the channels and of what runs beside them, costs itself only, and is started again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from channels.channel import Channel, ChannelRejected, CommandHelp
from channels.message import Deliver

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SETTLED = 30.0
"""Seconds a channel must have listened for its earlier troubles to count as over."""

Service = Callable[[], Awaitable[None]]
"""Something that runs beside the channels until cancelled: a web server, an import in the background."""


async def listen(
    channel: Channel, deliver: Deliver, commands: tuple[CommandHelp, ...], trouble: dict[str, str]
) -> None:
    """Listens on one channel, again and again, until cancelled or it is done. `trouble` says by its name, for people,
    why it does not at the moment."""
    pause = FIRST_PAUSE
    while True:
        since = time.monotonic()
        try:
            await channel.listen(deliver, commands)
            return
        except ChannelRejected as error:
            trouble[channel.name] = str(error)
            log.error("%s: %s", channel.name, error)
            pause = LONGEST_PAUSE
        except Exception:
            trouble[channel.name] = "it broke and is started again; the log has the details"
            log.exception("%s: the channel broke", channel.name)
        if time.monotonic() - since > SETTLED:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))
        trouble.pop(channel.name, None)
        pause = min(LONGEST_PAUSE, 2 * pause)


async def supervised(service: Service) -> None:
    """Runs a service until it is done; one that breaks is started again."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await service()
        except Exception:
            log.exception("a service broke and is started again")
        await asyncio.sleep(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)
