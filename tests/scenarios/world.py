"""The world of one scenario: a whole gateway between held models, held tools and an in-memory channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.hook import NoHooks
from agent.hooks.chain import HookChain, RegisteredHook
from agent.masking import Mask
from agent.model import Model
from agent.models.continuation import ContinuingModel
from agent.models.fallback import CoolDowns, FallbackModel, NamedModel
from agent.models.masking import MaskingModel
from agent.models.retry import RetryingModel
from agent.testing import MemoryMedia
from agent.tool import Tool
from channels.address import Address, Sender
from channels.channel import Ledger
from channels.memory import MemoryChannel, plain_text
from channels.message import InboundMessage
from channels.reply import QuestionSegment, Reply
from gateway.app import GatewayOptions
from gateway.inbound.access import ChannelAccess
from gateway.inbound.file_text import FileReader
from gateway.outbound.channel_replies import ReplyOptions
from gateway.sessions import session_key
from gateway.store import open_store
from gateway.store.background import Limits
from gateway.store.records import Busy
from gateway.turns.budgets import SpendingLimits
from tests.engines import engines
from tests.gateway.play import ELSEWHERE, PLACE, Play, inbound, playing
from tests.scenarios.forms import inbox_lines, log_lines, request_lines, screen_lines, separated
from tests.scenarios.models import Asked, Stage
from tests.scenarios.steps import PEOPLE, SMALL
from tests.scenarios.tools import Run

T = TypeVar("T")

GROUP = replace(PLACE, chat="team", kind="group")

SENDERS = {name: Sender(str(number), name.capitalize()) for number, name in enumerate(PEOPLE, 7)}


class Wrong(Exception):
    """The scenario does not come out; the message says what was seen instead."""


@dataclass
class Given:
    """How the gateway is set up at its next start."""

    tools: list[Tool] = field(default_factory=list)
    models: tuple[str, ...] = ("model",)
    retries: bool = False
    place: Address = PLACE
    busy: Busy = "steer"
    admins: frozenset[str] = frozenset()
    max_steps: int = 50
    most_running: int = 4
    many: int = 20
    hooks: list[RegisteredHook] = field(default_factory=list)
    secrets: tuple[str, ...] = ()
    approval_timeout: float = 3600.0
    window: int = 0
    call_cost: float = 0.0
    spending: SpendingLimits = field(default_factory=SpendingLimits)
    shows: ReplyOptions = field(default_factory=ReplyOptions)
    choice: tuple[str, ...] = ()
    background: Limits = field(default_factory=Limits)
    unstreamed: frozenset[str] = frozenset()


class Signal:
    """Rung at every change in memory, so that nobody has to look twice for nothing."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, found: Callable[[], T | None]) -> T:
        while not (value := found()):
            await self._changed.wait()
        return value


class Paper(MemoryChannel):
    """Rings at every change of what stands on it, and has the files that people send."""

    def __init__(self, signal: Signal, replies: dict[str, Reply], files: dict[str, bytes]) -> None:
        super().__init__(replies=replies)
        self.files = files
        self._signal = signal

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        await super().show(reply, ledger)
        self._signal.notify()


@dataclass(frozen=True)
class Look:
    """What is to be seen, and how to see it."""

    what: str
    expected: tuple[str, ...]
    see: Callable[[], Any]


class World:
    """Use as `async with`. Steps act on it; `play` is the running gateway, None before it starts and when it is killed.

    `looks` are the expectations since the last event: they have to hold at the end, too.
    """

    def __init__(self, folder: Path, stage: Callable[[Callable[[Asked], None]], Stage]) -> None:
        self.folder = folder
        self.given = Given()
        self.signal = Signal()
        self.media = MemoryMedia()
        self.replies: dict[str, Reply] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.runs: list[Run] = []
        self.spoken: dict[str, InboundMessage] = {}
        self.play: Play | None = None
        self.looks: list[Look] = []
        self.looking: Look | None = None
        self.seen_before: dict[str, list[list[str]]] = {}
        self._met: set[int] = set()
        self._lost: set[int] = set()
        self._stage = stage(self._ring_request)
        self._life = AsyncExitStack()

    async def __aenter__(self) -> World:
        await self._stage.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        try:
            await self._life.aclose()
        finally:
            await self._stage.__aexit__(*exc)

    def ring_run(self, run: Run) -> None:
        self.runs.append(run)
        self.signal.notify()

    def _ring_request(self, asked: Asked) -> None:
        self.asked.append(asked)
        self.signal.notify()

    # The gateway

    async def gateway(self) -> Play:
        """The running gateway, started if it is not."""
        if self.play is None:
            await self.start()
        assert self.play is not None
        return self.play

    async def start(self) -> None:
        given = self.given
        workspace = self.folder / "workspace"
        workspace.mkdir(exist_ok=True)
        hooks = await self._life.enter_async_context(HookChain(given.hooks)) if given.hooks else NoHooks()
        mask = Mask(given.secrets)
        agent = Agent(
            self._model(mask),
            self.media,
            workspace,
            tuple(given.tools),
            max_steps=given.max_steps,
            hooks=hooks,
            compactor=Compactor(given.window, self._made(SMALL)) if given.window else None,
            mask=mask,
            approval_timeout=given.approval_timeout,
        )
        options = GatewayOptions(
            waiting_notice_at=given.many,
            spending=given.spending,
            reply_options={"memory": given.shows},
            models=given.choice,
            background=given.background,
            unstreamed=given.unstreamed,
        )
        self.play = await self._life.enter_async_context(
            playing(
                self.folder,
                agent.model,
                channel=Paper(self.signal, self.replies, self.files),
                agent=lambda _: agent,
                media=self.media,
                bound=3600.0,
                max_running_turns=given.most_running,
                options=options,
                hooks=hooks,
                mask=mask,
                estimate=lambda request, channel: given.call_cost,
                policies={"memory": ChannelAccess(frozenset({"*"}), admins=given.admins, busy=given.busy)},
                read_file=FileReader(self.media).read,
            )
        )

    async def kill(self) -> None:
        """As far as that is possible in one process: everything that runs is cancelled, and nothing is tidied up."""
        open_requests = [asked for asked in self.asked if asked.state == "open"]
        running = [run for run in self.runs if run.state == "running"]
        self.play = None
        await self._life.aclose()
        for asked in open_requests:
            self.dealt_with(asked)
        for run in running:
            run.noted = True

    async def keep(self, message: InboundMessage) -> None:
        """The message was kept before the gateway was killed, and nothing came of it yet."""
        async with open_store(engines.url(self.folder / "test.db")) as store:
            await store.accept(message, session_key(message.address))

    def _model(self, mask: Mask) -> Model:
        """As the gateway puts models together, but that a transient error ends the scenario's model at once."""
        available = {name: self._made(name) for name in (*self.given.models, *self.given.choice)}
        named = [NamedModel(name, available[name]) for name in self.given.models]
        return ContinuingModel(MaskingModel(FallbackModel(named, CoolDowns(), available=available), mask))

    def _made(self, name: str) -> Model:
        model = self._stage.model(name, self.media, self.given.call_cost)
        return RetryingModel(model, sleep=_at_once, random=lambda: 1.0) if self.given.retries else model

    # People

    def message(self, person: str, text: str, **options: Any) -> InboundMessage:
        options.setdefault("address", self.given.place)
        message = inbound(text, by=SENDERS[person], **options)
        self.spoken[text] = message
        return message

    def earlier(self, text: str) -> InboundMessage:
        if text not in self.spoken:
            raise Wrong(f"nobody has said {text!r}; said was: {list(self.spoken)}")
        return self.spoken[text]

    def question(self, option: str) -> tuple[QuestionSegment, int] | None:
        """The newest open question that has this option, and the option's number from 0."""
        for reply in reversed(self.replies.values()):
            for segment in reversed(reply.segments):
                if isinstance(segment, QuestionSegment) and segment.open and option in segment.options:
                    return segment, segment.options.index(option)
        return None

    # Models

    def met(self, model: str) -> Asked | None:
        """The request that the scenario deals with already, and has not dealt with in full."""
        return next((asked for asked in self.asked if asked.model == model and id(asked) in self._met), None)

    async def request(self, model: str) -> Asked:
        """The request that the scenario deals with, or the next one, once it is there."""
        met = self.met(model)
        if met is not None:
            return met
        asked = await self.signal.until(lambda: next((each for each in self._unmet() if each.model == model), None))
        self._met.add(id(asked))
        return asked

    def dealt_with(self, asked: Asked) -> None:
        self._met.discard(id(asked))
        self._lost.add(id(asked))
        self.seen_before.setdefault(asked.model, []).append(request_lines(asked.messages))

    def _unmet(self) -> Iterator[Asked]:
        return (asked for asked in self.asked if id(asked) not in self._met | self._lost)

    async def text_shown(self, text: str) -> None:
        """What a real model's client was sent needs a moment until it is in the reply."""
        if self._stage.real:
            await self.signal.until(lambda: any(text in plain_text(reply) for reply in self.replies.values()))

    # What is seen

    def screen(self, place: Address | None = None, *, calls: bool = False) -> list[str]:
        place = place or self.given.place
        return screen_lines((reply for reply in self.replies.values() if reply.address == place), calls=calls)

    async def log(self) -> list[str]:
        play = await self.gateway()
        ids = play.sql("SELECT id FROM turns WHERE kind = 'turn' ORDER BY number")
        turns = [await play.store.turn(id) for (id,) in ids]
        return separated(log_lines(turn.entries) for turn in turns)

    async def inbox(self) -> list[str]:
        play = await self.gateway()
        rows = [row for place in (self.given.place, ELSEWHERE) for row in await play.store.rows(session_key(place))]
        return inbox_lines(sorted(rows, key=lambda row: row.id))

    def left_over(self) -> list[str]:
        """What is still open and what the scenario has not accounted for."""
        requests = [
            f"{asked.model} was asked, and that is {asked.state}" for asked in self.asked if id(asked) not in self._lost
        ]
        runs = [f"{run.tool} {dict(run.arguments) or ''} is {run.state}" for run in self.runs if not run.noted]
        return requests + runs

    async def until_left_over(self) -> None:
        await self.signal.until(self.left_over)

    async def until_idle(self) -> None:
        await (await self.gateway()).until_idle()


async def _at_once(seconds: float) -> None:
    return None
