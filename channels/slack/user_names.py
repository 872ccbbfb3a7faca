"""The names of people and channels, asked of Slack once and kept for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Sender
from channels.slack.api import Api, code_of, is_refusal
from channels.slack.parse import known_as

log = logging.getLogger(__name__)

MOST = 5000
KEPT = 3600.0
"""Seconds after which a name may have changed."""

PATIENCE = 1.0
"""Seconds that an event may wait for names: Slack wants to hear within three."""


class Names:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: OrderedDict[str, tuple[float, Sender | None]] = OrderedDict()

    def know(self, sender: Sender) -> None:
        """For ever, as nobody calls themselves."""
        self._keep(sender.id, sender, float("inf"))

    async def get(self, ids: Iterable[str]) -> dict[str, Sender]:
        """Those that are known, or can be learnt at once."""
        wanted = list(ids)
        now = time.monotonic()
        missing = [id for id in wanted if id not in self._known or self._known[id][0] < now]
        if missing:
            try:
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*map(self._learn, missing))
            except TimeoutError:
                log.info("Slack does not say in time who %s are", ", ".join(missing))
        found = ((id, self._known[id][1]) for id in wanted if id in self._known)
        return {id: sender for id, sender in found if sender is not None}

    async def _learn(self, id: str) -> None:
        try:
            sender = await self._ask(id)
        except SlackApiError as error:
            log.info("Slack does not say who %s is: %s", id, code_of(error))
            if not is_refusal(error):
                return
            sender = None
        except (SlackClientError, aiohttp.ClientError, OSError, LookupError, TypeError) as error:
            log.info("Slack does not say who %s is: %r", id, error)
            return
        self._keep(id, sender, time.monotonic() + KEPT)

    async def _ask(self, id: str) -> Sender:
        if id[0] in "UW":
            return known_as((await self._api.call("users.info", user=id))["user"])
        channel = (await self._api.call("conversations.info", channel=id))["channel"]
        return Sender(id, channel.get("name") or id)

    def _keep(self, id: str, sender: Sender | None, until: float) -> None:
        self._known[id] = (until, sender)
        self._known.move_to_end(id)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
