"""Display names of users and channels, requested from Slack and cached."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Sender
from channels.slack.api import Api, error_code, is_refusal
from channels.slack.parse import user_sender

log = logging.getLogger(__name__)

MAX_CACHED = 5000
CACHE_SECONDS = 3600.0

LOOKUP_TIMEOUT = 1.0
"""Seconds that an event may wait for names: Slack requires an answer within three."""


class UserNames:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._cache: OrderedDict[str, tuple[float, Sender | None]] = OrderedDict()

    def add(self, sender: Sender) -> None:
        """Never expires: for the app itself."""
        self._store(sender.id, sender, float("inf"))

    async def get(self, ids: Iterable[str]) -> dict[str, Sender]:
        """Those that are cached, or that Slack returns within `LOOKUP_TIMEOUT`."""
        wanted = list(ids)
        now = time.monotonic()
        missing = [id for id in wanted if id not in self._cache or self._cache[id][0] < now]
        if missing:
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT):
                    await asyncio.gather(*map(self._look_up, missing))
            except TimeoutError:
                log.info("the names of %s did not come in time", ", ".join(missing))
        found = ((id, self._cache[id][1]) for id in wanted if id in self._cache)
        return {id: sender for id, sender in found if sender is not None}

    async def _look_up(self, id: str) -> None:
        try:
            sender = await self._request(id)
        except SlackApiError as error:
            log.info("the name of %s is not available: %s", id, error_code(error))
            if not is_refusal(error):
                return
            sender = None
        except (SlackClientError, aiohttp.ClientError, OSError, LookupError, TypeError) as error:
            log.info("the name of %s is not available: %r", id, error)
            return
        self._store(id, sender, time.monotonic() + CACHE_SECONDS)

    async def _request(self, id: str) -> Sender:
        if id[0] in "UW":
            return user_sender((await self._api.call("users.info", user=id))["user"])
        channel = (await self._api.call("conversations.info", channel=id))["channel"]
        return Sender(id, channel.get("name") or id)

    def _store(self, id: str, sender: Sender | None, until: float) -> None:
        self._cache[id] = (until, sender)
        self._cache.move_to_end(id)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
