"""Discord's REST API with discord.py: single attempts within the announced budgets, errors in the gateway's words."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import discord
from discord.gateway import DiscordClientWebSocketResponse
from discord.http import HTTPClient, Route, json_or_text
from discord.utils import MISSING

from channels.channel import OutcomeUnknown, RetryLater, Undeliverable, Unreachable
from channels.discord.parse import Json

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
_MOST_BUDGETS = 1000
_TIMES = aiohttp.ClientTimeout(total=None, connect=10, sock_connect=10, sock_read=60)


class Rest(HTTPClient):
    """One account's calls. Nothing waits in here: what must wait raises `discord.RateLimited`, before it is asked.

    The library's own client sleeps through limits and server errors, for half a minute and longer, before it says
    anything, and takes its address from a class attribute that all accounts of a process share.
    """

    def __init__(self, token: str, api_url: str) -> None:
        super().__init__(MISSING)
        self.token: str = token
        self._url = api_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._budgets: dict[str, _Budget] = {}
        self._names: dict[str, str] = {}
        self._all_wait_until = 0.0

    async def request(
        self,
        route: Route,
        *,
        files: Sequence[discord.File] | None = None,
        form: Iterable[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        """The answer's JSON. Raises `discord.DiscordException`, `aiohttp.ClientError`, `OSError` or `TimeoutError`."""
        self._spend(route)
        if form is not None:
            options["data"] = aiohttp.FormData(quote_fields=False)
            for part in form:
                options["data"].add_field(**part)
        url = self._url + route.url.removeprefix(Route.BASE)
        headers = {"User-Agent": self.user_agent, "Authorization": f"Bot {self.token}"}
        async with self.session.request(route.method, url, headers=headers, timeout=_TIMES, **options) as response:
            body = await json_or_text(response)
            self._note(route, response.headers)
            if response.status < 300:
                return body
            raise self._refusal(route, response, body)

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        return await self.session.ws_connect(
            url,
            max_msg_size=0,
            autoclose=False,
            # A gateway that is gone does not answer the goodbye.
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

    def _spend(self, route: Route) -> None:
        now = time.monotonic()
        if self._all_wait_until > now:
            raise discord.RateLimited(self._all_wait_until - now)
        budget = self._budgets.get(self._key(route))
        if budget is None or budget.until <= now:
            return
        if budget.left <= 0:
            raise discord.RateLimited(budget.until - now)
        # Counted before it is asked: others may ask meanwhile.
        budget.left -= 1

    def _note(self, route: Route, headers: Mapping[str, str]) -> None:
        """https://discord.com/developers/docs/topics/rate-limits#header-format-rate-limit-header-examples"""
        if "X-RateLimit-Remaining" not in headers or "X-RateLimit-Reset-After" not in headers:
            return
        self._names[route.key] = headers.get("X-RateLimit-Bucket", route.key)
        until = time.monotonic() + float(headers["X-RateLimit-Reset-After"])
        left = int(headers["X-RateLimit-Remaining"])
        known = self._budgets.get(self._key(route))
        if known is not None and known.until > time.monotonic():
            left = min(left, known.left)
        if len(self._budgets) >= _MOST_BUDGETS:
            self._budgets = {key: budget for key, budget in self._budgets.items() if budget.until > time.monotonic()}
        self._budgets[self._key(route)] = _Budget(left, until)

    def _key(self, route: Route) -> str:
        return f"{self._names.get(route.key, route.key)}:{route.major_parameters}"

    def _refusal(self, route: Route, response: aiohttp.ClientResponse, body: Json | str) -> discord.DiscordException:
        if response.status == 429:
            told = body.get("retry_after") if isinstance(body, dict) else None
            after = float(told or response.headers.get("Retry-After") or 1.0)
            until = time.monotonic() + after
            if (isinstance(body, dict) and body.get("global")) or not isinstance(body, dict):
                self._all_wait_until = until
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
    """Calls left until a time of the monotonic clock."""

    left: int
    until: float


@contextmanager
def discord_errors(*, sending: bool = False) -> Iterator[None]:
    """Says the library's errors in the gateway's words. `sending`: it matters whether it was done."""
    try:
        yield
    except discord.RateLimited as error:
        raise RetryLater(error.retry_after) from error
    except discord.Forbidden as error:
        raise Undeliverable(f"Discord does not let the bot do that there: {error.text}") from error
    except discord.DiscordServerError as error:
        if sending:
            raise OutcomeUnknown(f"Discord did not say whether it got the message: {error}") from error
        raise Unreachable(f"Discord does not work just now: {error}") from error
    except discord.HTTPException as error:
        if error.status == 401:
            # Until a person has corrected the token, which `listen` asks for, nothing is given up.
            raise Unreachable("Discord does not accept the token") from error
        raise Undeliverable(f"Discord refuses it: {error.text or error}") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(f"Discord cannot be reached: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        if sending:
            raise OutcomeUnknown(f"Discord did not say whether it got the message: {error!r}") from error
        raise Unreachable(f"Discord cannot be reached: {error!r}") from error


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
        log.debug("%s failed: %s", what, error)


class Backoff:
    """Pauses that grow to `LONGEST_PAUSE`, jittered so that many gateways do not come back at once."""

    def __init__(self) -> None:
        self._pause = 0.25

    async def pause(self) -> None:
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
