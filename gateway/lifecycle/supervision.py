"""Supervision: a channel or service that fails is restarted, without effect on the others."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

from channels.channel import Channel, ChannelRejected, CommandHelp
from channels.message import Deliver
from gateway.lifecycle.retry import UNREACHABLE_PAUSE
from gateway.log_context import About, work_is_about
from gateway.observations import Observations
from gateway.store.errors import StoreUnreachable

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
MAX_PAUSE = 60.0
RESET_AFTER = 30.0
"""Seconds of work after which the pause before a restart is short again."""

Service = Callable[[], Awaitable[None]]
"""Runs beside the channels until cancelled, like a web server."""


async def listen(
    channel: Channel,
    deliver: Deliver,
    commands: Callable[[], tuple[CommandHelp, ...]],
    problem: dict[str, str],
    observations: Observations,
) -> None:
    """Listens on one channel and restarts it when it fails, until cancelled or done. `problem` has, by channel, why it
    does not work at the moment, for people; `observations` are told."""
    work_is_about(About(channel=channel.name))
    pause = FIRST_PAUSE
    while True:
        since = time.monotonic()
        try:
            await channel.listen(deliver, commands())
            return
        except ChannelRejected as error:
            problem[channel.name] = str(error)
            log.error("%s: %s", channel.name, error)
            pause = MAX_PAUSE
        except Exception:
            problem[channel.name] = "failed and restarts; the log has the details"
            log.exception("%s: the channel failed and restarts", channel.name)
        if time.monotonic() - since > RESET_AFTER:
            pause = FIRST_PAUSE
        seconds = pause * random.uniform(0.8, 1.2)
        observations.channel_failed(channel.name, problem[channel.name], seconds)
        await asyncio.sleep(seconds)
        problem.pop(channel.name, None)
        pause = min(MAX_PAUSE, 2 * pause)


async def supervised(service: Service) -> None:
    """Runs a service until it is done, and restarts it when it fails. One that cannot reach the database goes on as
    soon as that answers again."""
    pause = FIRST_PAUSE
    is_told = False
    while True:
        since = time.monotonic()
        try:
            return await service()
        except StoreUnreachable as error:
            if not is_told or time.monotonic() - since > RESET_AFTER:
                log.warning("%s waits for the database: %s", _name(service), error)
                is_told = True
            await asyncio.sleep(UNREACHABLE_PAUSE)
            continue
        except Exception:
            log.exception("a service failed and restarts: %s", _name(service))
        if time.monotonic() - since > RESET_AFTER:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(MAX_PAUSE, 2 * pause)


def _name(service: Service) -> str:
    """For the log."""
    function = service.func if isinstance(service, partial) else service
    return f"{function.__module__}.{function.__qualname__}"
