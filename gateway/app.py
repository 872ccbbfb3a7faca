"""The house: everything that runs, put together and taken apart in the right order."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from agent.agent import Agent, unmasked
from agent.hook import Hooks, NoHooks, Where
from agent.log import Entry
from agent.media import Attachment, MediaStore
from agent.model import Model, Request
from agent.models.masking import MaskingModel
from agent.turn_context import TurnContext
from channels.address import Address
from channels.channel import Channel
from gateway.inbound.access import AccessPolicy
from gateway.inbound.attachments import Fetching, ReadFile
from gateway.inbound.commands import Commands
from gateway.inbound.receiver import Receiver
from gateway.lifecycle.supervision import Service, listen, supervised
from gateway.outbound.channel_replies import ChannelReplies, ReplyOptions
from gateway.outbound.delivery import Delivery
from gateway.outbound.notices import Notices
from gateway.sessions import is_child
from gateway.store import Store, records
from gateway.store.background import Limits
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import Budgets, SpendingLimits
from gateway.turns.deadlines import keep_deadlines
from gateway.turns.dispatcher import Dispatcher, marks
from gateway.turns.history_cache import HistoryCache
from gateway.turns.runs import Runs
from gateway.turns.titles import Titles
from gateway.turns.typing import show_typing
from gateway.web.conversation_view import ConversationView

log = logging.getLogger(__name__)


async def says_nothing(attachment: Attachment) -> str:
    """For a house in which files are handed on unread."""
    return ""


def free(request: Request, channel: str) -> float:
    """For where no prices are known."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator has set for a house.

    `most_running` turns run at once, and get `grace` seconds to end when the house is left; people are told when `many`
    messages wait. On the channels named in `whole` replies do not grow; `shows` says by channel what else is shown.
    `models` are those that a conversation may choose from.
    """

    most_running: int = 500
    grace: float = 0.0
    many: int = 20
    whole: Container[str] = ()
    shows: Mapping[str, ReplyOptions] = field(default_factory=dict)
    work: Limits = field(default_factory=Limits)
    spending: SpendingLimits = field(default_factory=SpendingLimits)
    models: Sequence[str] = ()


class Gateway:
    """Use as `async with Gateway(...) as gateway: await gateway.run()`."""

    def __init__(
        self,
        store: Store,
        media: MediaStore,
        access: AccessPolicy,
        agent: Callable[[Address], Agent],
        rules: Rules | None = None,
        *,
        hooks: Hooks | None = None,
        small: Model | None = None,
        estimate: Callable[[Request, str], float] = free,
        mask: Callable[[str], str] = unmasked,
        read_file: ReadFile = says_nothing,
    ) -> None:
        """`mind` is the agent for a place. `small` names conversations, `estimate` tells what a request may cost on a
        channel, in dollars, `read_file` what people's files say; `mask` takes known secrets out of a text."""
        rules = rules or Rules()
        hooks = hooks or NoHooks()
        self.store = store
        self.channels: dict[str, Channel] = {}
        self._trouble: dict[str, str] = {}
        self._agent = agent
        self._drafts = drafts = ChannelReplies(rules.shows, mask)
        self.delivery = Delivery(self.channels, store, whole=rules.whole)
        self.histories = HistoryCache(store)
        self.runs = Runs(store, agent, self._go_on)
        self.dispatcher = Dispatcher(
            store,
            self.delivery,
            self.histories,
            drafts,
            self._prepare,
            self._over,
            self.runs.stir,
            most_running=rules.most_running,
            grace=rules.grace,
        )
        self.background = BackgroundWork(store, self.dispatcher.wake, self._stop, rules.work)
        self._budgets = Budgets(store, rules.spending, estimate)
        self._titles = Titles(store, small and MaskingModel(small, mask))
        notices = Notices(store, self.delivery)
        self.commands = Commands(
            store,
            self.dispatcher,
            self.histories,
            notices,
            self.background,
            self._troubles,
            access.is_admin,
            rules.models,
        )
        fetching = Fetching(store, self.channels, media, read_file)
        self.receiver = Receiver(
            store,
            access,
            hooks,
            self.dispatcher,
            self.commands,
            self.delivery,
            notices,
            fetching,
            self.runs.stir,
            many=rules.many,
        )
        self.conversation_view = ConversationView(store, self.dispatcher, drafts)
        self._stack = AsyncExitStack()

    async def _prepare(self, record: records.Turn) -> tuple[Agent, TurnContext]:
        """What the turn thinks with, and what is particular to it."""
        where = Where(record.session, record.address.channel, record.id, record.principal.name, record.principal.id)
        budget = self._budgets.of(record)
        alone = record.kind == "aside" or is_child(record.session)
        turn_context = TurnContext(where, record.allowed, record.model, budget=budget, alone=alone)
        return await self.background.prepare(record, self._agent(record.address), turn_context)

    async def _over(self, record: records.Turn, entries: tuple[Entry, ...]) -> None:
        """A turn's end is written."""
        self.runs.stir()
        self._titles.ended(record, entries)
        await self.background.ended(record)

    def _stop(self, session: str, reason: str) -> None:
        self.dispatcher.stop(session, before=sys.maxsize, reason=reason)

    def _go_on(self, session: str) -> None:
        """The session's parked turn has got what it waited for."""
        self.dispatcher.wake(session, "queue")

    def add(self, channel: Channel) -> None:
        """Adds a channel, before `run()`."""
        self.channels[channel.name] = channel

    def _troubles(self) -> dict[str, str]:
        """What is wrong with which channel, as far as it is known."""
        told = {channel.name: channel.trouble for channel in self.channels.values() if channel.trouble}
        return told | self._trouble

    async def __aenter__(self) -> Gateway:
        for channel in self.channels.values():
            self._stack.push_async_callback(channel.aclose)
        for part in (self.delivery, self._titles, self.dispatcher, self.background, self.receiver):
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, *services: Service) -> None:
        """Goes on with what an earlier process left and listens on every channel, until cancelled."""
        await self._take_up(await self.store.pending())
        async with asyncio.TaskGroup() as group:
            for channel in self.channels.values():
                group.create_task(listen(channel, self.receiver.deliver, self.commands.list(), self._trouble))
            group.create_task(show_typing(self.dispatcher, self.channels))
            group.create_task(supervised(partial(keep_deadlines, self.store, self.dispatcher)))
            for service in services:
                group.create_task(supervised(service))

    async def _take_up(self, pending: records.Pending) -> None:
        """Replies first, so that they stand before those to come; nothing that a stop covers may begin before it."""
        for turn_id in pending.undelivered:
            await self._show_again(turn_id)
        await self.background.resume()
        self.receiver.resume(pending)
        for turn_id in pending.side_questions:
            await self._answer_again(turn_id)
        for session in pending.sessions:
            self.dispatcher.wake(session)

    async def _answer_again(self, turn_id: str) -> None:
        """The edge at which a question on the side that cannot be read costs itself only."""
        try:
            self.dispatcher.begin_side_question(await self.store.resume_side_question(turn_id))
        except Exception:
            log.exception("question on the side %s cannot be read and stays unanswered", turn_id)

    async def _show_again(self, turn_id: str) -> None:
        """The edge at which a reply that cannot be read costs itself only."""
        try:
            turn = await self.store.turn(turn_id)
            pieces = await self.store.pieces(turn_id)
        except Exception:
            log.exception("reply %s cannot be read and stays undelivered", turn_id)
            return
        if is_child(turn.session):
            return
        self.delivery.show(self._drafts.of(turn), pieces=pieces)
        for mark in marks(turn, turn.entries, "read" if turn.parked else "answered"):
            self.delivery.mark(mark)
