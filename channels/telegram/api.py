"""The Bot API through python-telegram-bot: raw calls, and its errors in the gateway's words."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
from telegram import Bot
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from channels.address import Address
from channels.channel import OutcomeUnknown, RetryLater, Undeliverable, Unreachable
from channels.telegram.parse import Json

log = logging.getLogger(__name__)

# The library warns whenever a `RetryAfter` is made, unless one opts in to its future type of `retry_after`.
os.environ.setdefault("PTB_TIMEDELTA", "true")

# It logs every address it asks, and Telegram's addresses contain the token.
logging.getLogger("httpx").setLevel(logging.WARNING)

GENERAL_TOPIC = "1"


class FewAtATime(HTTPXRequest):
    """Lets no more calls in than there are connections: beyond that, the HTTP library's cost for each call grows with
    the number of those that wait (measured with 300: twice the CPU)."""

    def __init__(self, *, connection_pool_size: int, **options: Any) -> None:
        super().__init__(connection_pool_size=connection_pool_size, **options)
        self._places = asyncio.Semaphore(connection_pool_size)

    async def do_request(self, *args: Any, **options: Any) -> tuple[int, bytes]:
        async with self._places:
            return await super().do_request(*args, **options)


async def call(api: Bot, method: str, **parameters: object) -> Any:
    """One request, its raw result. Raises `TelegramError`.

    The library's own methods build objects of each answer, a fifth of a call's time, and fail on a whole batch of
    updates for one they cannot read. Names go in lower case, as the Bot API is indifferent to it
    (https://core.telegram.org/bots/api#making-requests) and the library warns of what it has methods for.
    """
    return await api.do_api_request(method.lower(), parameters)


def where_to(address: Address, *, typing: bool = False) -> Json:
    """Messages to a forum's General topic must leave its id out, typing there must not."""
    where: Json = {"chat_id": address.chat}
    if address.thread is not None and (typing or address.thread != GENERAL_TOPIC):
        where["message_thread_id"] = address.thread
    return where


@contextmanager
def telegram_errors(*, sending: bool = False) -> Iterator[None]:
    """Says the library's errors in the gateway's words. `sending`: doing it twice would show it twice."""
    try:
        yield
    except RetryAfter as error:
        raise RetryLater(seconds(error)) from error
    except Forbidden as error:
        raise Undeliverable(f"Telegram does not let the bot write there: {error.message}") from error
    except ChatMigrated as error:
        raise Undeliverable(f"the group has become a supergroup with the id {error.new_chat_id}") from error
    except InvalidToken as error:
        # Until a person has corrected the token, which `listen` asks for, nothing is given up.
        raise Unreachable(f"Telegram does not accept the token: {error.message}") from error
    except BadRequest as error:
        what = "the topic is gone" if says(error, "message thread not found") else "Telegram refuses it"
        raise Undeliverable(f"{what}: {error.message}") from error
    except TelegramError as error:
        if sending and not isinstance(error.__cause__, _NEVER_LEFT):
            raise OutcomeUnknown(f"Telegram did not say whether it got the message: {error.message}") from error
        raise Unreachable(f"Telegram cannot be reached: {error.message}") from error


_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except TelegramError as error:
        log.debug("%s failed: %s", what, error)


def says(error: TelegramError, *words: str) -> bool:
    return any(word.lower() in error.message.lower() for word in words)


def seconds(error: RetryAfter) -> float:
    after = error.retry_after
    return after.total_seconds() if isinstance(after, timedelta) else float(after)
