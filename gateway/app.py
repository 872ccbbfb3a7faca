"""The gateway: all parts of one process, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from agent.agent import unmasked
from agent.hook import Hooks, NoHooks
from agent.interrupt import cancel_and_wait
from agent.log import Undelivered, UndeliveredPart
from agent.media import Attachment, MediaStore
from agent.model import Model, Request
from agent.models.masking import MaskingModel
from agent.toolset import Toolset
from channels.address import Sender
from channels.channel import Channel, NotStored
from channels.message import InboundMessage, Receipt
from gateway.bus import Bus, BusClosed, HistoryChanged, LocalBus, TitleChanged, TurnEnded, TurnParked
from gateway.inbound.access import AccessPolicy, ChannelAccess
from gateway.inbound.access_changes import AccessChanges
from gateway.inbound.access_commands import AccessCommands
from gateway.inbound.api_keys import ApiKeys
from gateway.inbound.attachments import WAIT, AttachmentFetcher, FileText, ReadFile
from gateway.inbound.command_handler import CommandHandler
from gateway.inbound.commands import Commands
from gateway.inbound.context_commands import ContextCommands
from gateway.inbound.conversation_commands import ConversationCommands
from gateway.inbound.data_commands import DataCommands
from gateway.inbound.delivery_commands import DeliveryCommands
from gateway.inbound.how_command import HowCommand
from gateway.inbound.identities import Identities
from gateway.inbound.logins import Logins
from gateway.inbound.memory_commands import MemoryCommands
from gateway.inbound.prompt_commands import PromptCommands
from gateway.inbound.receiver import Receiver
from gateway.inbound.refusals import Refusals
from gateway.inbound.reload_command import ReloadCommand
from gateway.inbound.revocations import Revocations
from gateway.inbound.role_changes import RoleChanges
from gateway.inbound.schedule_commands import ScheduleCommands
from gateway.inbound.scheduled_messages import ScheduledMessages
from gateway.inbound.skill_commands import SkillCommands
from gateway.inbound.task_commands import TaskCommands
from gateway.inbound.trace_command import TraceCommand
from gateway.lifecycle.connectors import Connectors, StoredConnectors
from gateway.lifecycle.listeners import Listeners
from gateway.lifecycle.menus import Menus
from gateway.lifecycle.reloading import Reload, Reloading, no_reload
from gateway.lifecycle.supervision import Service, supervised
from gateway.lifecycle.worker_lease import LeaseLost, WorkerLease
from gateway.observations import Observation, Observations, unwatched
from gateway.outbound.channel_replies import ChannelReplies, ReplyOptions
from gateway.outbound.delivery import DEFAULT_LIMITS, Delivery, RetryLimits, always
from gateway.outbound.moved_chats import MovedChats
from gateway.outbound.notices import Notices
from gateway.outbound.reply_builder import ReplyBuilder
from gateway.store import Store, records
from gateway.store.background import Limits
from gateway.store.errors import StoreError
from gateway.turns.agent_files import AgentFiles
from gateway.turns.agents import Agents, CurrentAgents, next_choice
from gateway.turns.background import BackgroundWork
from gateway.turns.background_calls import nothing_to_save
from gateway.turns.budgets import Budgets, SpendingLimits
from gateway.turns.context_use import ContextUse
from gateway.turns.deadlines import keep_deadlines
from gateway.turns.deletion import AffectedTurns, DataDeletion, RemoveFiles, keep_files, keep_folder
from gateway.turns.dispatcher import Dispatcher
from gateway.turns.environment import TurnEnvironment
from gateway.turns.history_cache import HistoryCache
from gateway.turns.mcp import CurrentMcp, Mcp, NoMcp
from gateway.turns.memory import Memories
from gateway.turns.revocation_stops import obey_stop_requests
from gateway.turns.roles import Roles
from gateway.turns.run_waits import RunWaits
from gateway.turns.running import RunningTurns
from gateway.turns.runs import RunReports
from gateway.turns.schedules import ScheduledTasks
from gateway.turns.titles import Titles
from gateway.turns.topics import Topics
from gateway.turns.typing import show_typing
from gateway.turns.undelivered import StoredReplies
from gateway.turns.workspaces import Workspaces
from gateway.web.conversation_view import ConversationView

log = logging.getLogger(__name__)


PATIENCE = 5.0
"""Seconds that a message waits before other workers than the one that has accepted it begin a turn unasked."""

DRAINED_DELIVERY = 10.0
"""Seconds for the last replies of a worker that is drained."""


async def no_file_text(attachment: Attachment) -> FileText:
    """For a gateway that does not read people's files."""
    return FileText()


async def workspace_of(
    store: Store, agents: Agents, workspaces: Workspaces | None, command: records.Command
) -> Path | None:
    """The folder of the agent that whoever gives the command has there; None without workspaces of their own."""
    if workspaces is None:
        return None
    choice = await next_choice(store, agents, command.session, command.address, command.sender)
    return await workspaces.folder(command.session, command.sender, agent=choice.agent)


async def tools_of(store: Store, agents: Agents, access: AccessPolicy, command: records.Command) -> Toolset:
    """The tools that whoever gives the command has there."""
    choice = await next_choice(store, agents, command.session, command.address, command.sender)
    return access.roles.toolset(command.sender.level, agents.of(choice.agent, command.address).tools)


def no_price(request: Request, model: str) -> float:
    """For models without known prices."""
    return 0.0


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """`max_running_turns` run at once, `max_running_turns_total` on all workers together (None: any number), and have
    `shutdown_grace` seconds to end when the gateway stops. People are told when `waiting_notice_at` messages are
    queued; one person's messages beyond `messages_per_minute` are refused. `debounce` are the seconds without another
    message after which an idle conversation is answered, by channel. After `file_wait` seconds a message is read
    without the files that are not here yet. Replies do not stream on the channels `unstreamed`; `reply_options` are by
    channel, `delivery` says how long it is tried to show them. A conversation may choose one of `models`. On the
    channels `topics`, what a place says of itself is added to the instructions of turns there.
    """

    max_running_turns: int = 500
    max_running_turns_total: int | None = None
    shutdown_grace: float = 0.0
    waiting_notice_at: int = 20
    messages_per_minute: int | None = None
    debounce: Mapping[str, float] = field(default_factory=dict)
    file_wait: float = WAIT
    unstreamed: Container[str] = ()
    reply_options: Mapping[str, ReplyOptions] = field(default_factory=dict)
    background: Limits = field(default_factory=Limits)
    spending: SpendingLimits = field(default_factory=SpendingLimits)
    delivery: RetryLimits = DEFAULT_LIMITS
    models: Sequence[str] = ()
    topics: Container[str] = ()


@dataclass(frozen=True, slots=True)
class Configured:
    """What a configuration makes of a gateway; a reload replaces all of it in one moment. For its parts see `Gateway`;
    `access` and `roles` are those of an `AccessPolicy`."""

    access: Mapping[str, ChannelAccess]
    roles: Roles
    agents: Agents
    options: GatewayOptions
    hooks: Hooks
    small: Model | None
    estimate: Callable[[Request, str], float]
    read_file: ReadFile
    workspaces: Workspaces
    files: AgentFiles
    mcp: Mcp


class Gateway:
    """Use as `async with Gateway(...) as gateway: await gateway.run()`."""

    def __init__(
        self,
        store: Store,
        media: MediaStore,
        access: AccessPolicy,
        agents: Agents,
        options: GatewayOptions | None = None,
        *,
        bus: Bus | None = None,
        hooks: Hooks | None = None,
        small: Model | None = None,
        estimate: Callable[[Request, str], float] = no_price,
        mask: Callable[[str], str] = unmasked,
        read_file: ReadFile = no_file_text,
        workspaces: Workspaces | None = None,
        files: AgentFiles | None = None,
        reload: Reload = no_reload,
        tool_problems: Callable[[], Mapping[str, str]] = dict,
        mcp: Mcp | None = None,
        watch: Callable[[Observation], None] = unwatched,
        remove_files: RemoveFiles = keep_files,
        connectors: Connectors | None = None,
        lease: WorkerLease | None = None,
    ) -> None:
        """`agents` are those that turns have, `files` their skills and context files. `small` is the model that names
        conversations, `estimate` gives what a request may cost, in dollars, that is for a model if it names none,
        `read_file` the text of people's files; `mask` removes known secrets from a text. Without `workspaces` every
        turn works in its agent's own. `reload` loads the configuration anew; `tool_problems` are those of the
        operator's own tools, by part. `mcp` are the MCP servers. `watch` is told of observations, and never raises.
        `connectors` says on which channels this gateway listens, if there are others beside it; it is alive for those
        as long as its `lease` lasts, None: there are no others."""
        options = options or GatewayOptions()
        agents, mcp = CurrentAgents(agents), CurrentMcp(mcp or NoMcp())
        files = files or AgentFiles()
        self._workspaces = workspaces
        self.store = store
        self.bus = bus or LocalBus()
        self.media = media
        self._lease = lease
        self._may_send = always if lease is None else lease.is_current
        self._draining = asyncio.Event()
        self.is_receiving = False
        self.keys = ApiKeys(store)
        access.programs = self.keys
        self.reload = Reloading(reload)
        self.channels: dict[str, Channel] = {}
        self.access = access
        self.agents = agents
        self.models = options.models
        self.mcp = mcp
        self.files = files
        self.mask = mask
        self.tool_problems = tool_problems

        self._observations = Observations(hooks, mask, watch)
        self._listeners = Listeners(self.channels, self._observations, connectors or StoredConnectors(store))
        self._reconfigured = asyncio.Event()
        self._own_channels: list[Channel] = []
        self._new_channels: set[str] = set()
        self._replies = ChannelReplies(options.reply_options, mask)
        histories = self._histories = HistoryCache(
            store, lambda session, erased: self.bus.publish(HistoryChanged(session, erased))
        )
        self._moved_chats = MovedChats(store, histories.forget, self.bus.released)
        self._receive = self._moved_chats.receiving(self.bus.deliver)
        self.delivery = Delivery(
            self.channels,
            store,
            chats=self._moved_chats,
            undelivered=self._not_delivered,
            part_undelivered=self._part_not_delivered,
            whole=options.unstreamed,
            limits=options.delivery,
            observations=self._observations,
            may_send=self._may_send,
            is_next=None if lease is None else store.is_next,
        )
        notices = Notices(store, self.delivery, self.bus.publish)

        self.stored_replies = StoredReplies(store, self.channels, self.delivery, notices, self._replies, histories)
        save_files = nothing_to_save if workspaces is None else workspaces.save_after_call
        self.background = BackgroundWork(store, self.bus, options.background, save_files=save_files)
        self._titles = Titles(
            store,
            small and MaskingModel(small, mask),
            self.channels,
            lambda session: self.bus.publish(TitleChanged(session)),
        )
        self._budgets = budgets = Budgets(store, options.spending, estimate, shared=store if store.is_shared else None)
        self._topics = Topics(self.channels, options.topics)
        self.schedules = ScheduledTasks(store)
        self.memories = Memories(store)
        self._scheduled_messages = ScheduledMessages(store, self.channels, self.deliver, self.schedules.changed)
        self.dispatcher = Dispatcher(
            store,
            self.bus,
            self.delivery,
            histories,
            self._replies,
            TurnEnvironment(
                agents,
                workspaces,
                budgets,
                self.background,
                self._titles,
                lambda: access.roles,
                files,
                self._topics,
                self.schedules,
                self.memories,
                mcp.prepare,
            ),
            max_running=options.max_running_turns,
            max_running_total=options.max_running_turns_total,
            observations=self._observations,
            grace=options.shutdown_grace,
        )
        self.dispatcher.hands_over = lease is not None
        affected = AffectedTurns(store, self.bus, self.dispatcher, self.background)
        self.deletion = DataDeletion(
            store,
            remove_files,
            keep_folder if workspaces is None else workspaces.remove,
            forget_person=mcp.forget_person,
            stop=affected.stop,
            forget=histories.erase,
        )
        self.run_waits = RunWaits(store, self.bus)
        self.runs = RunReports(store, self.bus, agents, self.run_waits)
        self.running = RunningTurns(store, self.bus, self.dispatcher)
        context = self.context = ContextUse(store, self.running, histories, agents)
        self.conversation_view = ConversationView(store, self.dispatcher, self._replies)

        revocations = self._revocations = Revocations(self.bus, self.delivery, self.background)
        self.access_changes = AccessChanges(store, notices, revocations)
        self.logins = Logins(store, access, self.channels, notices)
        self._conversation_commands = ConversationCommands(store, access, options.models, agents)
        self.tasks = TaskCommands(
            store,
            self.bus,
            self.dispatcher,
            histories,
            self.background,
            access,
            self.problems,
            context,
            agents,
            workspaces,
            tool_problems,
            mcp,
        )
        self.commands = Commands(
            self.tasks,
            self._conversation_commands,
            AccessCommands(store, access, self.access_changes),
            DataCommands(store, media, notices, access, self.deletion.delete),
            DeliveryCommands(access, self.stored_replies),
            ScheduleCommands(self.schedules, access),
            MemoryCommands(self.memories, access),
            ContextCommands(store, histories, agents, access, budgets),
            HowCommand(store, agents),
            TraceCommand(store, access),
            SkillCommands(files, access, partial(workspace_of, store, agents, workspaces)),
            PromptCommands(mcp, access, partial(tools_of, store, agents, access)),
            ReloadCommand(access, self.reload),
            self.logins,
            mcp.answer,
        )
        self._menus = Menus(self.commands.list, self.channels)
        mcp.attach(notices, self._menus.changed)
        self._role_changes = RoleChanges(store, access, revocations, self.channels)
        self._identities = Identities(store, access)
        self._attachments = AttachmentFetcher(
            store, self.channels, media, read_file, access.is_foreign, self._moved_chats, wait=options.file_wait
        )
        self.receiver = Receiver(
            store,
            self.bus,
            access,
            self._identities,
            hooks or NoHooks(),
            self.dispatcher,
            CommandHandler(store, self.bus, access, self.commands, self.delivery, notices),
            self._attachments,
            Refusals(store, access, notices),
            self.delivery,
            notices,
            waiting_notice_at=options.waiting_notice_at,
            messages_per_minute=options.messages_per_minute,
            is_shared=store.is_shared,
            debounce=options.debounce,
            observations=self._observations,
        )
        self.bus.attach(self.receiver, self.dispatcher)
        self._stack = AsyncExitStack()

    def add(self, channel: Channel, *, closes: bool = True) -> None:
        """Adds a channel, before `run()`; the gateway closes it at its end, unless that is somebody else's task."""
        self.channels[channel.name] = channel
        if closes:
            self._own_channels.append(channel)

    def use(self, new: Configured, channels: Mapping[str, Channel]) -> None:
        """From this moment on, all that begins has the new configuration, and these are the channels. Turns that run
        keep what they began with; those of people who have fewer rights now are stopped soon."""
        options = new.options
        self.access.use(new.access, new.roles)
        self.agents.use(new.agents)
        self.mcp.use(new.mcp)
        self.files.use(new.files)
        if self._workspaces is not None:
            self._workspaces.use(new.workspaces)
        self._observations.hooks = self.receiver.hooks = new.hooks
        self._titles.use(new.small and MaskingModel(new.small, self.mask))
        self._budgets.use(options.spending, new.estimate)
        self._attachments.read_file = new.read_file
        self._replies.options = options.reply_options
        self.delivery.whole = options.unstreamed
        self.dispatcher.limit(options.max_running_turns, options.max_running_turns_total)
        self.background.use(options.background)
        self.receiver.waiting_notice_at = options.waiting_notice_at
        self.receiver.rate.per_minute = options.messages_per_minute
        self.receiver.debounce = options.debounce
        self.models = self._conversation_commands.models = options.models
        self._topics.wanted = options.topics
        self._use_channels(channels)
        self._menus.changed()
        self._reconfigured.set()

    def _use_channels(self, channels: Mapping[str, Channel]) -> None:
        removed, added = self.channels.keys() - channels.keys(), channels.keys() - self.channels.keys()
        self.channels.clear()
        self.channels.update(channels)
        self._identities.watch_groups(channels.values())
        for name in removed:
            self.delivery.pause(name)
        for name in added:
            self.delivery.resume(name)
        self._new_channels |= added
        self._listeners.follow()

    def at_work(self) -> frozenset[asyncio.Future[None]]:
        """What runs now and may use parts of the present configuration until it ends."""
        parts = (self.dispatcher, self.background, self._titles, self.receiver, self.mcp)
        return frozenset().union(*(part.at_work for part in parts))

    def at_work_on(self, channel: Channel) -> frozenset[asyncio.Future[None]]:
        """What runs now and needs this channel's connection."""
        return self.delivery.at_work_on(channel) | self._listeners.at_work_on(channel)

    def problems(self) -> dict[str, str]:
        """The known problems by channel, and that of the skills."""
        own = {channel.name: channel.problem for channel in self.channels.values() if channel.problem}
        skills = {"skills": self.files.problem} if self.files.problem else {}
        return own | self._listeners.problems | skills

    def channel_states(self) -> dict[str, str]:
        """By channel, "" if it listens and works, else what is wrong."""
        problems = self._listeners.problems
        return {
            name: problems.get(name, channel.problem) if self._listeners.is_listening(channel) else "does not listen"
            for name, channel in self.channels.items()
        }

    def channel_connections(self) -> dict[str, int]:
        """By channel to which not every worker listens, with how many connections this one does."""
        return self._listeners.connections()

    async def __aenter__(self) -> Gateway:
        for channel in self._own_channels:
            self._stack.push_async_callback(channel.aclose)
        parts = (
            self.run_waits,
            self.delivery,
            self._titles,
            self._budgets,
            self.dispatcher,
            self.background,
            self.receiver,
        )
        await self._stack.enter_async_context(self.bus)
        self._stack.push_async_callback(self._leave)
        for part in parts:
            await self._stack.enter_async_context(part)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _leave(self) -> None:
        """Others go on at once with what this process has not finished."""
        try:
            await self.store.leave()
        except StoreError as error:
            log.warning("other workers go on only when the lease of this one has run out: %s", error)
        else:
            self.bus.released()

    async def run(self, *services: Service) -> None:
        """Resumes what other processes have left and listens on every channel, until cancelled, or until it is drained.
        Raises `LeaseLost`, in a group, when others take this process for dead."""
        await self.keys.load()
        await self._identities.load(self.channels.values())
        await self._moved_chats.load()
        await self._resume(await self.store.pending())
        self.is_receiving = True
        if self._lease is not None:
            self._lease.attach(self)
        try:
            await self._listen_until_drained(services)
        except* LeaseLost:
            self.dispatcher.grace = 0.0
            raise
        finally:
            self.is_receiving = False

    async def _listen_until_drained(self, services: Sequence[Service]) -> None:
        async with asyncio.TaskGroup() as group:
            watching = None if self._lease is None else group.create_task(self._lease.watch())
            listening = group.create_task(self._listen_to_all(services))
            await self._draining.wait()
            log.info("draining: nothing new begins here, and the process ends after its running turns")
            await cancel_and_wait(listening)
            await self.dispatcher.drained()
            await self.delivery.settle(DRAINED_DELIVERY)
            if watching is not None:
                watching.cancel()

    async def _listen_to_all(self, services: Sequence[Service]) -> None:
        async with asyncio.TaskGroup() as group:
            await self._menus.load()
            group.create_task(self._listeners.run(self._receive, lambda: self._menus.commands))
            group.create_task(supervised(self._menus.follow))
            group.create_task(show_typing(self.bus, self.dispatcher, self.channels, self._moved_chats, self._may_send))
            group.create_task(supervised(partial(keep_deadlines, self.store, self.bus)))
            group.create_task(supervised(partial(obey_stop_requests, self.store, self.dispatcher, self.background)))
            group.create_task(supervised(self._follow_configuration))
            group.create_task(supervised(self._role_changes.watch))
            group.create_task(supervised(self.deletion.watch))
            group.create_task(supervised(self._scheduled_messages.run))
            if self.store.is_shared:
                group.create_task(supervised(partial(self._histories.follow, self.bus)))
                group.create_task(supervised(self._follow_room))
            for service in services:
                group.create_task(supervised(service))

    def running_turns(self) -> tuple[int, int]:
        """How many turns run here, and how many may."""
        return self.dispatcher.running_turns()

    def is_lease_valid(self) -> bool | None:
        """Whether others still take this worker for alive; None where there are no others."""
        return None if self._lease is None else self._lease.is_current()

    async def look(self) -> None:
        """Goes on with what other workers have left, stops what the store says, and follows sign-ins. Raises
        `StoreError`."""
        self._listeners.look()
        await self._moved_chats.refresh()
        await self._resume(await self.store.pending(PATIENCE))
        for session, reason in await self.store.own_stops():
            self.dispatcher.stop(session, before=sys.maxsize, reason=reason)
        for session in await self.store.own_unread():
            self.dispatcher.hear(session)
        self.dispatcher.look_for_room()
        await self.mcp.look()

    def drain(self) -> None:
        """Begins nothing new; `run` returns after the turns that run here."""
        self._draining.set()

    async def workspace(self, session: str, sender: Sender, agent: str) -> Path | None:
        """The folder of the agent that this person has in the conversation; None without workspaces of their own."""
        return None if self._workspaces is None else await self._workspaces.folder(session, sender, agent=agent)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        """Takes a message that comes from no channel; see `channels.message.Deliver`. Raises `NotStored`, also while
        the gateway starts or stops."""
        if not self.is_receiving:
            raise NotStored("The gateway is starting or stopping.")
        return await self._receive(message)

    async def revoke_key(self, key: str, by: str, by_name: str) -> bool:
        """Revokes a key of the control API, and stops what it has running; False if there is no such valid key. `by` is
        an actor of the audit log. Raises `StoreError`."""
        revoked = await self.store.revoke_api_key(key, by, by_name)
        self.keys.forget()
        for each in revoked or ():
            await self._revocations.apply(each)
        return revoked is not None

    async def _follow_configuration(self) -> None:
        """Finds out whom the names in the settings mean, and follows reloads. If following one fails, the next attempt
        begins with it."""
        await self._identities.look_up(tuple(self.channels.values()))
        while True:
            await self._reconfigured.wait()
            self._reconfigured.clear()
            new, self._new_channels = self._new_channels, set()
            try:
                await self._follow_reload(new)
            except BaseException:
                self._new_channels |= new
                self._reconfigured.set()
                raise

    async def _follow_reload(self, new_channels: Collection[str]) -> None:
        """Whom the names mean now, what is to be shown on new channels, and whose rights are less."""
        await self._identities.load(tuple(self.channels.values()))
        if new_channels:
            await self.stored_replies.show(await self.store.own_undelivered(), new_channels)
        await self._identities.look_up(tuple(self.channels.values()))
        await self._role_changes.check()

    async def _follow_room(self) -> None:
        """Turns that end or park at other workers leave room for those that wait here."""
        async with self.bus.subscribe(None, TurnEnded, TurnParked) as settled:
            with suppress(BusClosed):
                while True:
                    await settled.changed()
                    self.dispatcher.look_for_room()

    async def _resume(self, pending: records.Pending) -> None:
        """Replies first, so that they come before new ones; then commands, so that a stop takes effect before the turn
        that it stops."""
        await self.stored_replies.show(pending.undelivered)
        await self.background.resume(pending.background, pending.awaiting)
        self.receiver.resume(pending)
        for turn_id in pending.side_questions:
            await self._answer_again(turn_id)
        for session in pending.sessions:
            self.dispatcher.wake(session, "queue", by=pending.people.get(session, ""))

    async def _answer_again(self, turn_id: str) -> None:
        """A failure here affects only this side question."""
        try:
            self.dispatcher.begin_side_question(await self.store.resume_side_question(turn_id))
        except Exception:
            log.exception("side question %s cannot be read and stays unanswered", turn_id)

    def _part_not_delivered(self, reply: str, part: UndeliveredPart) -> None:
        self.dispatcher.not_delivered(reply, part)

    async def _not_delivered(self, reply: ReplyBuilder, undelivered: Undelivered) -> None:
        await self.stored_replies.not_delivered(reply, undelivered)
