"""Discord's REST API with discord.py: single attempts within the rate limits, errors translated."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import discord
from discord.gateway import DiscordClientWebSocketResponse
from discord.http import HTTPClient, Route, json_or_text
from discord.utils import MISSING

from channels.channel import (
    ChannelRejected,
    OutcomeUnknown,
    Refused,
    RetryLater,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.discord.parse import Json

log = logging.getLogger(__name__)

NO_MENTIONS = {"parse": [], "replied_user": False}
"""https://discord.com/developers/docs/resources/message#allowed-mentions-object"""

_MAX_BUDGETS = 1000
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10, sock_read=60)


class Rest(HTTPClient):
    """One account's calls. Never waits for a rate limit: raises `discord.RateLimited` before the request instead.

    The library's own client sleeps through rate limits and server errors, for half a minute and longer, and takes its
    URL from a class attribute that all accounts of a process share.
    """

    def __init__(self, token: str, api_url: str) -> None:
        super().__init__(MISSING)
        self.token: str = token
        self._url = api_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._budgets: dict[str, _Budget] = {}
        self._bucket_names: dict[str, str] = {}
        self._global_limit_until = 0.0
        self._ahead = 0.0
        """Seconds by which Discord's clock is ahead of ours, up to one second more."""

    def now(self) -> float:
        """Seconds since 1970 on Discord's clock, late by a second at most."""
        return time.time() + self._ahead

    async def request(
        self,
        route: Route,
        *,
        files: Sequence[discord.File] | None = None,
        form: Iterable[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        """The answer's JSON. Raises `discord.DiscordException`, `aiohttp.ClientError`, `OSError` or `TimeoutError`."""
        self._use_budget(route)
        if form is not None:
            options["data"] = aiohttp.FormData(quote_fields=False)
            for part in form:
                options["data"].add_field(**part)
        url = self._url + route.url.removeprefix(Route.BASE)
        headers = {"User-Agent": self.user_agent, "Authorization": f"Bot {self.token}"}
        async with self.session.request(route.method, url, headers=headers, timeout=_TIMEOUT, **options) as response:
            body = await json_or_text(response)
            self._update_budget(route, response.headers)
            self._update_clock(response.headers)
            if response.status < 300:
                return body
            raise self._error(route, response, body)

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        return await self.session.ws_connect(
            url,
            max_msg_size=0,
            autoclose=False,
            # A lost gateway does not answer the closing handshake.
            timeout=aiohttp.ClientWSTimeout(ws_close=3.0),
            headers={"User-Agent": self.user_agent},
            compress=compress,
        )

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                ws_response_class=DiscordClientWebSocketResponse, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _use_budget(self, route: Route) -> None:
        now = time.monotonic()
        if self._global_limit_until > now:
            raise discord.RateLimited(self._global_limit_until - now)
        budget = self._budgets.get(self._key(route))
        if budget is None or budget.until <= now:
            return
        if budget.left <= 0:
            raise discord.RateLimited(budget.until - now)
        # Counted before the request: others may be made meanwhile.
        budget.left -= 1

    def _update_budget(self, route: Route, headers: Mapping[str, str]) -> None:
        """https://discord.com/developers/docs/topics/rate-limits#header-format-rate-limit-header-examples"""
        if "X-RateLimit-Remaining" not in headers or "X-RateLimit-Reset-After" not in headers:
            return
        self._bucket_names[route.key] = headers.get("X-RateLimit-Bucket", route.key)
        until = time.monotonic() + float(headers["X-RateLimit-Reset-After"])
        left = int(headers["X-RateLimit-Remaining"])
        known = self._budgets.get(self._key(route))
        if known is not None and known.until > time.monotonic():
            left = min(left, known.left)
        if len(self._budgets) >= _MAX_BUDGETS:
            self._budgets = {key: budget for key, budget in self._budgets.items() if budget.until > time.monotonic()}
        self._budgets[self._key(route)] = _Budget(left, until)

    def _update_clock(self, headers: Mapping[str, str]) -> None:
        with suppress(KeyError, ValueError):
            self._ahead = parsedate_to_datetime(headers["Date"]).timestamp() - time.time()

    def _key(self, route: Route) -> str:
        return f"{self._bucket_names.get(route.key, route.key)}:{route.major_parameters}"

    def _error(self, route: Route, response: aiohttp.ClientResponse, body: Json | str) -> discord.DiscordException:
        if response.status == 429:
            retry_after = body.get("retry_after") if isinstance(body, dict) else None
            after = float(retry_after or response.headers.get("Retry-After") or 1.0)
            until = time.monotonic() + after
            if (isinstance(body, dict) and body.get("global")) or not isinstance(body, dict):
                self._global_limit_until = until
            else:
                self._budgets[self._key(route)] = _Budget(0, until)
            return discord.RateLimited(after)
        if response.status == 403:
            return discord.Forbidden(response, body)
        if response.status == 404:
            return discord.NotFound(response, body)
        if response.status >= 500:
            return discord.DiscordServerError(response, body)
        return discord.HTTPException(response, body)


@dataclass(slots=True)
class _Budget:
    """Calls left until `until` (monotonic clock)."""

    left: int
    until: float


@contextmanager
def discord_errors(*, sending: bool = False) -> Iterator[None]:
    """Translates the library's errors. `sending`: a second attempt would show the message twice."""
    try:
        yield
    except discord.RateLimited as error:
        raise RetryLater(error.retry_after) from error
    except discord.Forbidden as error:
        raise Undeliverable(f"the bot lacks the permission in this channel: {error.text}") from error
    except discord.DiscordServerError as error:
        if sending:
            raise OutcomeUnknown(f"Discord did not confirm the message: {error}") from error
        raise ServerFailed(f"Discord failed: {error}") from error
    except discord.HTTPException as error:
        if error.status == 401:
            # Replies stay queued until a person corrects the token; `listen` reports it.
            raise Unreachable("Discord rejects the token") from error
        if error.code in _CHAT_ERRORS:
            raise Undeliverable(f"Discord rejects it: {error.text or error}") from error
        raise Refused(f"Discord rejects it: {error.text or error}") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(f"Discord is not reachable: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        if sending:
            raise OutcomeUnknown(f"Discord did not confirm the message: {error!r}") from error
        raise ServerFailed(f"Discord did not answer: {error!r}") from error


_CHAT_ERRORS = frozenset({10003, 40004, 40060, 50001, 50007, 50008, 50013, 50083, 160005})
"""The channel is unknown, deleted, archived or locked, or takes no messages of the bot:
https://discord.com/developers/docs/topics/opcodes-and-status-codes#json"""


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    """Logs an error of the library instead of raising it."""
    try:
        yield
    except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
        log.debug("%s failed: %s", what, error)


def token_rejected(name: str) -> ChannelRejected:
    return ChannelRejected(
        f"Discord rejects the token of channel {name!r}. Get the bot's token from the Discord Developer Portal "
        f"(your application, Bot, Reset Token) and set channels.{name}.token"
    )
