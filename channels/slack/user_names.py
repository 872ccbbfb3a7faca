"""Names of users and channels, and whether users belong to the workspace: requested from Slack and cached."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from channels.address import Sender
from channels.slack.api import Api, error_code, explanation, is_rate_limit, is_refusal, retry_seconds
from channels.slack.parse import user_sender

log = logging.getLogger(__name__)

MAX_CACHED = 5000
CACHE_SECONDS = 3600.0

RETRY_REFUSED_SECONDS = 60.0
"""Seconds until a lookup is tried again that Slack refused because of the app's permissions."""

LOOKUP_TIMEOUT = 1.0
"""Seconds that an event may wait for the names that it mentions: Slack requires an answer within three."""

AUTHOR_TIMEOUT = 2.5
"""Seconds that an event may wait for its author. Without that it is not acknowledged, and Slack sends it again."""

MAX_ATTEMPTS = 4
MAX_WAIT = 10.0
"""Seconds before another attempt."""


class AuthorUnknown(Exception):
    """Slack has not said yet who wrote. Whether the author may write cannot be decided."""


class UserNames:
    """Close it with `aclose()`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._team = ""
        self._cache: OrderedDict[str, tuple[float, Sender | None]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[None]] = {}

    async def aclose(self) -> None:
        for lookup in self._lookups.values():
            lookup.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    def identify(self, team: str, app: Sender) -> None:
        """The app and its workspace are known: users can be told from outsiders."""
        if team != self._team:
            self._cache.clear()
        self._team = team
        self._store(app.id, app, float("inf"))

    async def get(self, ids: Iterable[str]) -> dict[str, Sender]:
        """Those that are cached, or that Slack returns within `LOOKUP_TIMEOUT`."""
        wanted = list(ids)
        missing = [self._lookup(id) for id in wanted if not self._is_fresh(id)]
        if missing:
            await asyncio.wait(missing, timeout=LOOKUP_TIMEOUT)
        found = ((id, self._cache[id][1]) for id in wanted if id in self._cache)
        return {id: sender for id, sender in found if sender is not None}

    async def author(self, id: str) -> None:
        """Returns once Slack has said who that is, or that it does not tell the app. Raises `AuthorUnknown`."""
        if not self._is_fresh(id):
            await asyncio.wait([self._lookup(id)], timeout=AUTHOR_TIMEOUT)
        if id not in self._cache:
            raise AuthorUnknown(f"Slack has not said yet who {id} is")

    def _is_fresh(self, id: str) -> bool:
        return id in self._cache and self._cache[id][0] >= time.monotonic()

    def _lookup(self, id: str) -> asyncio.Task[None]:
        """One for all that wait. It goes on after they have stopped waiting: the event comes again."""
        if id not in self._lookups:
            lookup = self._lookups[id] = asyncio.create_task(self._look_up(id))
            lookup.add_done_callback(lambda _: self._lookups.pop(id, None))
        return self._lookups[id]

    async def _look_up(self, id: str) -> None:
        """Gives up after `MAX_ATTEMPTS`; the next event begins again."""
        wait = 0.0
        for attempt in range(MAX_ATTEMPTS):
            await asyncio.sleep(wait)
            wait = min(MAX_WAIT, 0.25 * 2**attempt)
            try:
                self._store(id, await self._request(id), time.monotonic() + CACHE_SECONDS)
                return
            except SlackApiError as error:
                log.info("the name of %s is not available: %s", id, error_code(error))
                if is_refusal(error):
                    self._refused(id, error)
                    return
                if is_rate_limit(error):
                    wait = min(MAX_WAIT, retry_seconds(error))
            except (SlackClientError, aiohttp.ClientError, OSError, LookupError, TypeError) as error:
                log.info("the name of %s is not available: %r", id, error)

    def _refused(self, id: str, error: SlackApiError) -> None:
        seconds = CACHE_SECONDS
        if is_refusal(error, "missing_scope"):
            log.warning("Slack does not say who people are, so nobody counts as a member: %s", explanation(error))
            seconds = RETRY_REFUSED_SECONDS
        self._store(id, None, time.monotonic() + seconds)

    async def _request(self, id: str) -> Sender:
        if id[0] in "UW":
            return user_sender((await self._api.call("users.info", user=id))["user"], self._team)
        channel = (await self._api.call("conversations.info", channel=id))["channel"]
        return Sender(id, channel.get("name") or id)

    def _store(self, id: str, sender: Sender | None, until: float) -> None:
        self._cache[id] = (until, sender)
        self._cache.move_to_end(id)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
