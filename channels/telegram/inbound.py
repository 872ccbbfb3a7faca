"""Polls Telegram for updates and delivers them; confirms them once they are committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from telegram import Bot as Api
from telegram.error import Conflict, InvalidToken, RetryAfter, TelegramError

from channels.backoff import Backoff
from channels.message import Deliver, InboundMessage
from channels.telegram import limits
from channels.telegram.api import call, only_logged, retry_seconds, token_rejected
from channels.telegram.parse import MESSAGES, Bot, Json, needs_username, parse
from channels.telegram.talk import Talk
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

POLL_TIMEOUT = 30
"""Seconds that a getUpdates waits for an update."""

UPDATES = (*MESSAGES, "callback_query")
REACTIONS = "message_reaction"


class Inbound:
    """`poller` makes the long polls, `api` all other calls. `problem` is called with the current problem, "" for none.
    `talk` is given the messages of groups. `allowed_updates` are the kinds of updates that Telegram is asked for.

    `skipped` counts updates that could not be read. Nothing is polled unless `may_poll`.
    """

    def __init__(
        self,
        poller: Api,
        api: Api,
        bot: Bot,
        problem: Callable[[str], None],
        talk: Talk,
        *,
        allowed_updates: Sequence[str] = UPDATES,
    ) -> None:
        self.skipped = 0
        self.may_poll: Callable[[], bool] = lambda: True
        self._poller = poller
        self._api = api
        self._bot = bot
        self._name = bot.channel
        self._problems = problem
        self._talk = talk
        self._allowed_updates = list(allowed_updates)
        self._identified = asyncio.Event()
        self._offset: int | None = None
        self._deliver_to: Deliver | None = None

    def identify(self, bot: Bot) -> None:
        """The bot's username is known: group messages can be read."""
        self._bot = bot
        self._identified.set()

    async def run(self, deliver: Deliver) -> None:
        """Polls until cancelled. Raises `ChannelRejected` when Telegram rejects the token."""
        backoff, conflicts = Backoff(), 0
        while True:
            if not self.may_poll():
                await Backoff().pause()
                continue
            try:
                await self._poll(deliver)
            except InvalidToken as error:
                raise token_rejected(self._name) from error
            except Conflict as error:
                conflicts += 1
                await self._resolve_conflict(error, conflicts)
                await backoff.pause()
            except RetryAfter as error:
                await asyncio.sleep(retry_seconds(error))
            except TelegramError as error:
                self._problems("Telegram is not reachable")
                log.warning("%s: Telegram is not reachable, trying again: %s", self._name, error)
                await backoff.pause()
            except _NotCommitted as error:
                self._problems("messages cannot be stored; Telegram keeps them queued")
                log.error("%s: messages could not be stored and are not confirmed to Telegram: %s", self._name, error)
                await backoff.pause()
            else:
                self._problems("")
                backoff, conflicts = Backoff(), 0

    async def listen(self, deliver: Deliver) -> None:
        """Takes posted updates until cancelled."""
        self._deliver_to = deliver
        try:
            await asyncio.Event().wait()
        finally:
            self._deliver_to = None

    async def take(self, update: Json) -> bool:
        """Delivers an update that Telegram has posted. False: it is to be posted again."""
        deliver = self._deliver_to
        if deliver is None or (needs_username(update) and not self._identified.is_set()):
            return False
        try:
            await self._deliver([update], deliver)
        except _NotCommitted as error:
            self._problems("messages cannot be stored; Telegram sends them again")
            log.error("%s: a message could not be stored and is refused: %s", self._name, error)
            return False
        self._problems("")
        return True

    async def _poll(self, deliver: Deliver) -> None:
        updates = await call(
            self._poller,
            "getUpdates",
            offset=self._offset,
            timeout=POLL_TIMEOUT,
            allowed_updates=self._allowed_updates,
        )
        if not updates:
            return
        ids = [id for id in map(_update_id, updates) if id is not None]
        if not ids:
            raise TelegramError("it sent updates without an id")
        later = [update for update in updates if not self._identified.is_set() and needs_username(update)]
        await self._deliver([update for update in updates if update not in later] if later else updates, deliver)
        if later:
            await self._identified.wait()
            await self._deliver(later, deliver)
        self._offset = max(ids) + 1

    async def _deliver(self, updates: Iterable[Json], deliver: Deliver) -> None:
        """Delivers all updates that can be read, concurrently but started in order. Raises `_NotCommitted`."""
        tasks = [self._deliver_one(update, message, deliver) for update, message in self._read(updates)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for error in filter(None, results):
            raise _NotCommitted(repr(error)) from error

    def _read(self, updates: Iterable[Json]) -> Iterator[tuple[Json, InboundMessage]]:
        for update in updates:
            try:
                message = parse(update, self._bot, datetime.now(UTC))
            except MALFORMED:
                self.skipped += 1
                log.exception("%s: update %s cannot be read and is skipped", self._name, _update_id(update))
                continue
            if message is not None:
                self._talk.keep(message)
                yield update, message

    async def _deliver_one(self, update: Json, message: InboundMessage, deliver: Deliver) -> None:
        receipt = await deliver(message)
        if query := update.get("callback_query"):
            # Ends the button's progress indicator; a press that is too old can no longer be answered.
            refused = {"text": receipt.refused[: limits.PRESS_NOTICE]} if receipt and receipt.refused else {}
            with only_logged("answering a button"):
                await call(self._api, "answerCallbackQuery", callback_query_id=query["id"], **refused)

    async def _resolve_conflict(self, error: Conflict, number: int) -> None:
        """`number`: which one it is since the last poll that was answered."""
        if "webhook" not in error.message.lower():
            if number == 1:
                # The last poll of a worker that has just stopped listening, and does not know it yet.
                log.info("%s: another poll has ended this one: %s", self._name, error)
                return
            problem = "another program polls with the same token; stop it"
            self._problems(problem)
            log.error("%s: %s: %s", self._name, problem, error)
            return
        log.warning("%s: a webhook is set for this bot; it is deleted: %s", self._name, error)
        with only_logged("deleting the webhook"):
            await call(self._api, "deleteWebhook", drop_pending_updates=False)


class _NotCommitted(Exception):
    pass


def _update_id(update: Json) -> int | None:
    id = update.get("update_id") if isinstance(update, dict) else None
    return id if isinstance(id, int) else None
