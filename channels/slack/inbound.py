"""Takes what Slack sends, by socket or by HTTP, and has it committed before Slack is told that it arrived."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.response import BoltResponse

from channels.message import Deliver, InboundMessage
from channels.slack.api import Api
from channels.slack.event_order import Order
from channels.slack.parse import MALFORMED, Bot, Json, parse, people, place_of, time_of
from channels.slack.user_names import Names

log = logging.getLogger(__name__)

Heard = Callable[[InboundMessage], None]
"""Told of each message that was committed."""

NOT_KEPT = "messages cannot be kept, and Slack sends them again"


class NotListening(Exception):
    """Nobody could keep a message now; Slack sends it again."""


class Inbound:
    """Bolt checks signatures and speaks Slack's protocols; what it lets through comes here before it answers.

    `skipped` counts what could not be read. `trouble` is told in words, and that it is over by none.
    """

    def __init__(
        self, api: Api, names: Names, signing_secret: str, heard: Heard, trouble: Callable[[str], None]
    ) -> None:
        self.skipped = 0
        self.order = Order()
        # Asked before Bolt's own authorization, whose failing would confirm to Slack what nobody has read.
        self.bolt = AsyncApp(
            name="interject",
            client=api.client,
            signing_secret=signing_secret,
            request_verification_enabled=bool(signing_secret),
            before_authorize=self._answer,
        )
        self._names = names
        self._heard = heard
        self._tell = trouble
        self._bot: Bot | None = None
        self._deliver: Deliver | None = None

    def begin(self, bot: Bot, deliver: Deliver) -> None:
        self._bot, self._deliver = bot, deliver

    def end(self) -> None:
        self._deliver = None

    async def _answer(self, body: Json, next: Callable[[], Awaitable[object]]) -> object:
        """A middleware of Bolt's: if it raises, Slack is not told that anything arrived."""
        if body.get("type") == "url_verification":
            return await next()
        await self._hear(body)
        return BoltResponse(status=200, body="")

    async def _hear(self, body: Json) -> None:
        if self._bot is None or self._deliver is None:
            raise NotListening("the gateway does not listen just now")
        async with self.order.line(place_of(body), time_of(body, time.time())) as ticket:
            message = await self._read(body, self._bot)
            if message is None:
                return
            await ticket.turn()
            await self._keep(message, self._deliver)

    async def _read(self, body: Json, bot: Bot) -> InboundMessage | None:
        now = datetime.now(UTC)
        try:
            # Most events are none of ours, and need no names.
            if parse(body, bot, {}, now) is None:
                return None
            return parse(body, bot, await self._names.get(people(body)), now)
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event cannot be read and is skipped", bot.channel)
            return None

    async def _keep(self, message: InboundMessage, deliver: Deliver) -> None:
        try:
            await deliver(message)
        except Exception as error:
            self._tell(NOT_KEPT)
            log.error("a message could not be kept and is not confirmed to Slack: %r", error)
            raise
        self._tell("")
        self._heard(message)
