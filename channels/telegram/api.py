"""The Bot API through python-telegram-bot: raw calls, and its errors translated into the gateway's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from telegram import Bot
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError

from channels.address import Address
from channels.channel import (
    ChannelRejected,
    ChatMoved,
    OutcomeUnknown,
    Refused,
    RetryLater,
    ServerFailed,
    Undeliverable,
    Unreachable,
)
from channels.telegram.parse import Json
from channels.telegram.requests import NOT_SENT

log = logging.getLogger(__name__)

# The library warns about each `RetryAfter` unless one opts in to its future type of `retry_after`.
os.environ.setdefault("PTB_TIMEDELTA", "true")

GENERAL_TOPIC = "1"


async def call(api: Bot, method: str, **parameters: object) -> Any:
    """One request, its raw result. Raises `TelegramError`.

    The library's own methods build objects from each answer, a fifth of a call's time, and fail on a whole batch of
    updates if one cannot be read. Names are sent in lower case: the Bot API ignores case
    (https://core.telegram.org/bots/api#making-requests), and the library warns about names that it has methods for.
    """
    return await api.do_api_request(method.lower(), parameters)


def chat_parameters(address: Address, *, typing: bool = False) -> Json:
    """Messages to a forum's General topic must leave its id out, typing indicators must not."""
    parameters: Json = {"chat_id": address.chat}
    if address.thread is not None and (typing or address.thread != GENERAL_TOPIC):
        parameters["message_thread_id"] = address.thread
    return parameters


@contextmanager
def telegram_errors(*, sending: bool = False) -> Iterator[None]:
    """Translates the library's errors. `sending`: a second attempt would show the message twice."""
    try:
        yield
    except RetryAfter as error:
        raise RetryLater(retry_seconds(error)) from error
    except Forbidden as error:
        raise Undeliverable(f"the bot may not write to this chat: {error.message}") from error
    except ChatMigrated as error:
        raise ChatMoved(str(error.new_chat_id)) from error
    except InvalidToken as error:
        # Replies stay queued until a person corrects the token; `listen` reports it.
        raise Unreachable(f"Telegram rejects the token: {error.message}") from error
    except BadRequest as error:
        if error_contains(error, "message thread not found", "TOPIC_DELETED"):
            raise Undeliverable(f"the topic is deleted: {error.message}") from error
        if error_contains(error, *_CHAT_ERRORS):
            raise Undeliverable(f"the bot may not write to this chat: {error.message}") from error
        raise Refused(f"Telegram rejects it: {error.message}") from error
    except TelegramError as error:
        if isinstance(error.__cause__, NOT_SENT):
            raise Unreachable(f"Telegram is not reachable: {error.message}") from error
        if sending:
            raise OutcomeUnknown(f"Telegram did not confirm the message: {error.message}") from error
        raise ServerFailed(f"Telegram failed: {error.message}") from error


_CHAT_ERRORS = (
    *("chat not found", "PEER_ID_INVALID", "CHAT_WRITE_FORBIDDEN", "CHAT_RESTRICTED", "CHANNEL_PRIVATE"),
    *("TOPIC_CLOSED", "have no rights to send a message", "not enough rights to send text messages to the chat"),
    *("CHAT_SEND_PLAIN_FORBIDDEN", "need administrator rights in the channel chat", "user not found"),
)
"""Errors that say that the chat takes no text at all, as the Bot API's server words them."""


NOT_IN_CHAT = ("user not found", "member not found", "PARTICIPANT_ID_INVALID", "USER_NOT_PARTICIPANT", "chat not found")
"""What is said of a person who is not in the chat, or of a chat that the bot is not in."""


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    """Logs an error of the library instead of raising it."""
    try:
        yield
    except TelegramError as error:
        log.debug("%s failed: %s", what, error)


def error_contains(error: TelegramError, *parts: str) -> bool:
    return any(part.lower() in error.message.lower() for part in parts)


def retry_seconds(error: RetryAfter) -> float:
    after = error.retry_after
    return after.total_seconds() if isinstance(after, timedelta) else float(after)


def token_rejected(name: str) -> ChannelRejected:
    return ChannelRejected(
        f"Telegram rejects the token of channel {name!r}. Get the bot's token from @BotFather and set "
        f"channels.{name}.token"
    )
