"""Receives Slack's events, by Socket Mode or HTTP, and delivers them; Slack is answered once they are committed."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from slack_bolt.app.async_app import AsyncApp
from slack_bolt.response import BoltResponse

from channels.channel import NotStored
from channels.message import Deliver, InboundMessage
from channels.slack.api import Api
from channels.slack.content import Json
from channels.slack.event_order import EventOrder
from channels.slack.missed import MissedMessages
from channels.slack.parse import Bot, Pane, author_id, chat_of, opened_pane, parse, people, time_of
from channels.slack.user_groups import GroupsUnknown, UserGroups
from channels.slack.user_names import AuthorUnknown, UserNames
from channels.visible import MALFORMED

log = logging.getLogger(__name__)

PaneOpened = Callable[[Pane], Awaitable[None]]
"""Called when somebody opens the app to write to it. It may take a second."""

Delivered = Callable[[InboundMessage], None]
"""Called with each message that was committed."""

NOT_STORED = "messages cannot be stored; Slack sends them again"


class NotListening(Exception):
    """No message can be stored now; Slack sends it again."""


class Inbound:
    """Bolt verifies signatures and speaks Slack's protocols; each request comes here before Bolt answers it.

    `skipped` counts events that could not be read. `problem` is called with the current problem, "" for none.
    """

    def __init__(
        self,
        api: Api,
        names: UserNames,
        groups: UserGroups,
        missed: MissedMessages,
        signing_secret: str,
        delivered: Delivered,
        pane_opened: PaneOpened,
        problem: Callable[[str], None],
    ) -> None:
        self.skipped = 0
        self.order = EventOrder()
        # Runs before Bolt's own authorization, whose failure would acknowledge an event that nobody has read.
        self.bolt = AsyncApp(
            name="interject",
            client=api.client,
            signing_secret=signing_secret,
            request_verification_enabled=bool(signing_secret),
            before_authorize=self._middleware,
        )
        self._names = names
        self._groups = groups
        self._missed = missed
        self._delivered = delivered
        self._pane_opened = pane_opened
        self._problems = problem
        self._bot: Bot | None = None
        self._deliver: Deliver | None = None

    def begin(self, bot: Bot, deliver: Deliver) -> None:
        self._bot, self._deliver = bot, deliver

    def end(self) -> None:
        self._deliver = None

    async def catch_up(self) -> None:
        """Reads what was written while the gateway was down; what cannot be read or stored now is left out."""
        for body in await self._missed.events():
            try:
                await self._receive(body)
            except (NotListening, AuthorUnknown, GroupsUnknown, NotStored) as error:
                log.warning("a missed message is left out: %s", error)

    async def _middleware(self, body: Json, next: Callable[[], Awaitable[object]]) -> object:
        """If it raises, Slack gets no acknowledgement, and sends the event again."""
        if body.get("type") == "url_verification":
            return await next()
        await self._receive(body)
        return BoltResponse(status=200, body="")

    async def _receive(self, body: Json) -> None:
        if self._bot is None or self._deliver is None:
            raise NotListening("the gateway is not listening now")
        if (pane := opened_pane(body)) is not None:
            await self._pane_opened(pane)
            return
        async with self.order.queue(chat_of(body), time_of(body, time.time())) as ticket:
            message = await self._read(body, self._bot)
            if message is None:
                return
            await ticket.turn()
            await self._store(message, self._deliver)

    async def _read(self, body: Json, bot: Bot) -> InboundMessage | None:
        now = datetime.now(UTC)
        try:
            # Most events are not for the bot, and need no names.
            if parse(body, bot, {}, now) is None:
                return None
            if (author := author_id(body)) is not None:
                await self._names.author(author)
                await self._groups.ready()
            return parse(body, bot, self._groups.added_to(await self._names.get(people(body))), now)
        except MALFORMED:
            self.skipped += 1
            log.exception("%s: an event cannot be read and is skipped", bot.channel)
            return None

    async def _store(self, message: InboundMessage, deliver: Deliver) -> None:
        try:
            receipt = await deliver(message)
        except Exception as error:
            self._problems(NOT_STORED)
            log.error("a message could not be stored and is not acknowledged to Slack: %r", error)
            raise
        self._problems("")
        if message.message_id is not None and message.event_id.endswith(f":{message.message_id}"):
            thread = message.address.thread if receipt is not None else None
            self._missed.read(message.address.chat, None, message.message_id)
            if thread is not None:
                self._missed.read(message.address.chat, thread, message.message_id)
        self._delivered(message)
