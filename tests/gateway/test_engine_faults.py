"""Faults of the turn engine: ends, stops and messages during a wait for a hook, the store or a timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.events import Charged, Delta, Event, TextDelta
from agent.hook import Deny, End, HookContext, ReplyPart, Subject
from agent.hooks.chain import HookChain, RegisteredHook
from agent.log import (
    ApprovalDecided,
    ApprovalRequested,
    Call,
    CallEnded,
    CallStarted,
    Compacted,
    Ended,
    Entry,
    MessagesRead,
    ModelAnswered,
    Text,
    Usage,
    UserMessage,
)
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.model import Answer, Request
from agent.models.scripted import Script, ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from agent.tool_result import ToolResult
from agent.transcript import RenderedTurn
from agent.turn_context import TurnContext
from gateway.api.history import read_history
from gateway.app import GatewayOptions
from gateway.sessions import session_key
from gateway.store.arrivals import accept_background_message
from gateway.store.records import PastTurn, UsageTotals
from gateway.store.records import Turn as TurnRecord
from gateway.turns.budgets import Budgets, SpendingLimits
from gateway.turns.history_cache import HistoryCache
from tests.gateway.notes import ANN, HERE, SESSION
from tests.gateway.play import ANN as PLAYING_ANN
from tests.gateway.play import PLACE, inbound, playing

SPENT = Usage(100, 10, cost=0.5)
PRICED = Answer((Text("Well, done."),), SPENT, model="m")
SECRET = "hunter2-hunter2"


@tool(effect="read")
async def look(context: ToolContext, at: str) -> ToolResult:
    """Looks."""
    return ToolResult(f"seen {at}")


@tool(effect="write")
async def change(context: ToolContext) -> str:
    """Changes."""
    return "changed"


@tool(effect="read")
async def draw(context: ToolContext, final: bool = False) -> ToolResult:
    """Draws."""
    return ToolResult("a rude answer", final=True) if final else ToolResult("drawn", for_user="a rude drawing")


@dataclass
class Says:
    """A hook that says what the function says; it can be held in the middle of that."""

    says: Callable[[Any], Any] = lambda subject: None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Says:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def ask(self, point: str, context: HookContext, subject: Subject) -> object:
        self.asked.set()
        await self.open.wait()
        return self.says(subject)

    def on(self, point: Any) -> HookChain:
        return HookChain([RegisteredHook("guard", self, (point,), timeout=60.0)])


def free(says: Callable[[Any], Any]) -> Says:
    hook = Says(says)
    hook.open.set()
    return hook


def rude(part: ReplyPart) -> Deny | None:
    name = "" if part.attachment is None else part.attachment.name
    return Deny("mind your language") if "rude" in part.text + name else None


@dataclass
class Alone:
    """A turn with a journal in memory."""

    model: ScriptedModel
    hooks: HookChain = field(default_factory=lambda: HookChain([]))
    mask: Callable[[str], str] = lambda text: text
    turn_context: TurnContext = field(default_factory=TurnContext)
    entries: Sequence[Entry] = ()
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    turn: Turn = field(init=False)

    def __post_init__(self) -> None:
        self.journal.entries.extend(self.entries)
        if not self.entries:
            self.journal.say("go")
        tools = (look, change, draw)
        agent = Agent(self.model, MemoryMedia(), Path(), tools, hooks=self.hooks, mask=self.mask)
        self.turn = Turn(
            agent, self.journal, self._emit, id="turn", entries=self.entries, turn_context=self.turn_context
        )

    async def _emit(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self.told.set()

    async def play(self, meanwhile: Callable[[], Any] | None = None) -> list[Entry]:
        """The log, after what happens meanwhile."""
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(self.turn.run())
            if meanwhile is not None:
                await meanwhile()
        return self.journal.entries


def ends(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    return [(entry.outcome, entry.text) for entry in entries if isinstance(entry, CallEnded)]


def spent(entries: Sequence[Entry]) -> float:
    return sum(entry.usage.cost for entry in entries if isinstance(entry, ModelAnswered))


# Hooks that end a turn, and what was done until then


async def test_a_hook_that_ends_the_turn_after_a_call_leaves_its_result_and_that_of_its_neighbour() -> None:
    hooks = free(lambda end: End("enough") if end.text == "seen a" else None).on("after_tool")
    calls = [Call("a", "look", '{"at": "a"}'), Call("b", "look", '{"at": "b"}')]
    entries = await Alone(ScriptedModel(calls), hooks).play()
    assert ends(entries) == [("done", "seen a"), ("done", "seen b")]
    assert entries[-1] == Ended("failed", "enough (the hook 'guard')")


async def test_an_answer_that_a_hook_ends_the_turn_for_is_paid_all_the_same() -> None:
    entries = await Alone(ScriptedModel(PRICED), free(lambda answer: End("no")).on("after_model")).play()
    assert spent(entries) == 0.5


async def test_calls_that_a_hook_ends_the_turn_for_are_paid_all_the_same() -> None:
    asked = replace(PRICED, parts=(Call("a", "change", "{}"),))
    entries = await Alone(ScriptedModel(asked), free(lambda answer: End("no")).on("after_model")).play()
    assert (spent(entries), ends(entries)) == (0.5, [])


@pytest.mark.parametrize("how", ["stopped", "steered"])
async def test_an_answer_is_paid_once_when_a_person_comes_while_a_hook_looks_at_it(how: str) -> None:
    hook = Says()
    alone = Alone(ScriptedModel(PRICED, "Anew."), hook.on("after_model"))

    async def comes() -> None:
        await hook.asked.wait()
        if how == "stopped":
            alone.turn.stop("enough")
        else:
            alone.journal.say("wait")
            await alone.model.asked(2)
        hook.open.set()

    assert spent(await alone.play(comes)) == 0.5


async def test_a_summary_without_words_is_paid_all_the_same() -> None:
    charges: list[Charged] = []

    async def on_delta(delta: Delta) -> None:
        if isinstance(delta, Charged):
            charges.append(delta)

    said_long_ago = MessagesRead(1, (UserMessage(1, "Ann", "word " * 2000),))
    context = Compactor(1000, ScriptedModel(Answer((), SPENT, model="small")))
    (summarised,) = await context.compact(
        (RenderedTurn("one", (said_long_ago,)),),
        (MessagesRead(1, (UserMessage(2, "Ann", "go"),)),),
        instructions="",
        tools=(),
        on_delta=on_delta,
    )
    assert isinstance(summarised, Compacted)
    assert summarised.left_out
    assert charges == [Charged(SPENT, "small", "summary")]


# Messages that come while a hook looks at a call


async def test_a_call_that_a_hook_still_looks_at_is_skipped_when_somebody_speaks() -> None:
    hook = Says()
    alone = Alone(ScriptedModel([Call("a", "change", "{}")], "All right."), hook.on("before_tool"))

    async def speaks() -> None:
        await hook.asked.wait()
        alone.journal.say("do not")
        hook.open.set()

    entries = await alone.play(speaks)
    assert [outcome for outcome, _ in ends(entries)] == ["skipped"]
    assert not [entry for entry in entries if isinstance(entry, CallStarted)]


# Results of work that come while people are asked


async def test_a_call_that_people_allow_runs_also_when_background_work_has_ended_meanwhile(tmp_path: Path) -> None:
    model = ScriptedModel([Call("a", "change", "{}")], "Done.")
    async with playing(tmp_path, model, replace(change, approval="always")) as play:
        await play.say("go")
        await play.channel.until(lambda memory: any(reply.parked for reply in memory.replies.values()))
        await play.until_idle()
        here = session_key(PLACE)
        await play.store.write(
            lambda connection: accept_background_message(
                connection, here, PLACE, PLAYING_ANN, "It has ended.", (), "work:1", ""
            )
        )
        play.gateway.bus.wake(here, "work")
        await play.say("yes")
        await play.reply("Done.")
        await play.until_idle()
        (turn,) = play.sql("SELECT id FROM turns WHERE kind = 'turn'")[0]
        assert ends((await play.store.turn(turn)).entries) == [("done", "changed")]
        assert await play.messages_read() == [["go", "It has ended."]]


# Hooks that review replies


async def test_words_of_a_tool_for_people_are_looked_at_before_they_are_shown() -> None:
    entries = await Alone(ScriptedModel([Call("a", "draw", "{}")], "Done."), free(rude).on("before_reply")).play()
    (end,) = [entry for entry in entries if isinstance(entry, CallEnded)]
    assert (end.text, end.for_user) == ("drawn", "")


async def test_a_tools_final_answer_that_may_not_be_shown_is_not_the_answer() -> None:
    model = ScriptedModel([Call("a", "draw", '{"final": true}')], "Something polite.")
    entries = await Alone(model, free(rude).on("before_reply")).play()
    (end,) = [entry for entry in entries if isinstance(entry, CallEnded)]
    assert not end.final
    assert "denied by a hook" in end.text
    assert [entry.text for entry in entries if isinstance(entry, ModelAnswered)] == ["", "Something polite."]


async def test_files_of_a_call_that_went_to_the_background_are_looked_at_too(tmp_path: Path) -> None:
    begun, dry, media = asyncio.Event(), asyncio.Event(), MemoryMedia()

    @tool(effect="write", on_steer="background")
    async def paint(context: ToolContext) -> ToolResult:
        """Paints until it is dry."""
        begun.set()
        await dry.wait()
        return ToolResult("painted", (await context.media.put(b"rude", "rude.txt"),))

    model = ScriptedModel([Call("a", "paint", "{}")], "It goes on.", "It is there.")
    agent = Agent(model, media, tmp_path, (paint,), hooks=free(rude).on("before_reply"))
    async with playing(tmp_path, model, agent=lambda _: agent, media=media) as play:
        await play.say("paint it")
        await begun.wait()
        await play.say("how is it going?")
        await model.asked(2)
        dry.set()
        await play.reply("It is there.")
        await play.until_idle()
        brought = [said for request in model.requests for said in _said_in(request) if said.source == "work"]
        assert "painted" in brought[-1].text
        assert "denied by a hook: rude.txt" in brought[-1].text
        assert brought[-1].attachments == ()


def _said_in(request: Request) -> list[UserMessage]:
    return [said for exchange in request.transcript if isinstance(exchange, MessagesRead) for said in exchange.messages]


# Secrets in what was not finished


async def test_a_secret_in_a_stopped_answer_is_not_stored() -> None:
    told: list[Script] = [[f"It-is-{SECRET}.", asyncio.Event()]]
    alone = Alone(ScriptedModel(*told), mask=lambda text: text.replace(SECRET, "[secret]"))

    async def stops() -> None:
        await alone.told.wait()
        alone.turn.stop("enough")

    entries = await alone.play(stops)
    assert SECRET not in repr(entries)
    assert [entry.text for entry in entries if isinstance(entry, ModelAnswered)] == ["It-is-[secret]."]


# Limits


async def test_a_message_behind_a_refused_limit_is_left_for_the_next_turn() -> None:
    log = (
        MessagesRead(1, (UserMessage(1, "Ann", "go"),)),
        ApprovalRequested("limit", "limit", "Go on?", ("Continue", "Stop here"), 4e9),
        ApprovalDecided("limit", "denied", "Ann"),
    )
    alone = Alone(ScriptedModel(), entries=log)
    alone.journal.say("something else")
    entries = await alone.play()
    assert [type(entry) for entry in entries[3:]] == [Ended]


class SlowBills:
    """What was spent, which takes a while to be told."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.tell = asyncio.Event()

    async def spent(self, **whose: object) -> UsageTotals:
        self.asked.set()
        await self.tell.wait()
        return UsageTotals()


class CountingBudget:
    def __init__(self) -> None:
        self.held = 0
        self.held_while_logged: list[int] = []

    async def reserve(self, request: Request, extensions: int) -> str | None:
        self.held = 1
        return None

    def release(self) -> None:
        self.held = 0


async def test_a_reservation_is_released_when_its_call_is_cancelled() -> None:
    bills = SlowBills()
    budgets = Budgets(bills, SpendingLimits(person_daily=1.0), lambda request, channel: 0.6)
    record = TurnRecord("t", SESSION, 1, HERE, ANN, None, "turn", (), datetime.now(UTC), root="t")
    asking = asyncio.create_task(budgets.of(record).reserve(Request("", []), 0))
    await bills.asked.wait()
    asking.cancel()
    await asyncio.wait({asking})
    bills.tell.set()
    assert await budgets.of(record).reserve(Request("", []), 0) is None


async def test_a_reservation_stays_until_the_cost_is_in_the_log() -> None:
    budget, hook = CountingBudget(), Says()
    alone = Alone(ScriptedModel(PRICED), hook.on("after_model"), turn_context=TurnContext(budget=budget))

    async def looks() -> None:
        await hook.asked.wait()
        assert budget.held == 1
        hook.open.set()

    await alone.play(looks)
    assert budget.held == 0


# What a conversation remembers


class SlowShelf:
    """Past turns that take a while to be read; a reader has what was there when it began."""

    def __init__(self, *past: PastTurn) -> None:
        self.past = past
        self.reading = asyncio.Event()
        self.read = asyncio.Event()

    async def history(self, session: str) -> tuple[PastTurn, ...]:
        past = self.past
        self.reading.set()
        await self.read.wait()
        return past


def past_turn(id: str) -> PastTurn:
    return PastTurn(
        id,
        "completed",
        (MessagesRead(1, (UserMessage(1, "Ann", id),)), ModelAnswered(1, (Text("ok"),)), Ended("completed")),
    )


async def test_a_turn_that_ends_while_the_past_is_read_is_remembered_once() -> None:
    shelf = SlowShelf(past_turn("one"))
    histories = HistoryCache(shelf)
    reading = asyncio.create_task(histories.of("s"))
    await shelf.reading.wait()
    two = past_turn("two")
    shelf.past = (*shelf.past, two)
    histories.add("s", "two", two.entries)
    shelf.read.set()
    assert [turn.id for turn in await reading] == ["one", "two"]
    histories.add("s", "two", two.entries)
    assert [turn.id for turn in await histories.of("s")] == ["one", "two"]


async def test_a_new_beginning_while_the_past_is_read_is_not_forgotten() -> None:
    shelf = SlowShelf(past_turn("one"))
    histories = HistoryCache(shelf)
    reading = [asyncio.create_task(histories.of("s")) for _ in range(2)]
    await shelf.reading.wait()
    shelf.past = ()
    histories.forget("s")
    shelf.read.set()
    assert [await each for each in reading] == [(), ()]
    assert await histories.of("s") == ()


async def test_of_commands_given_at_once_each_finds_what_the_one_before_has_left(tmp_path: Path) -> None:
    async with playing(tmp_path, ScriptedModel()) as play:
        for text in ("one", "two", "three"):
            await play.say(text)
            await play.reply(f"You said: {text}")
            await play.until_idle()
        await play.say("/undo", "/undo", "/retry")
        await play.reply("Removed from context: “three”.")
        await play.reply("Removed from context: “two”.")
        await play.until_idle()
        assert (await play.messages_read())[-1] == ["one"]


async def test_nothing_is_taken_out_of_what_a_running_turn_knows(tmp_path: Path) -> None:
    gate = asyncio.Event()
    async with playing(tmp_path, ScriptedModel("Hello.", ["Well", gate, ", done."])) as play:
        await play.say("one")
        await play.reply("Hello.")
        await play.say("two")
        await play.reply("Well", done=False)
        await play.say("/undo")
        await play.reply("A task is running. `/stop` it first, then `/undo`.")
        assert len(await play.store.history(session_key(PLACE))) == 1
        gate.set()
        await play.reply("Well, done.")


# What people do while a hook looks at their message


async def test_a_message_that_is_deleted_while_a_hook_looks_at_it_is_not_read(tmp_path: Path) -> None:
    hook = Says()

    def answers(request: Request) -> Script:
        """Never, what was deleted."""
        return [asyncio.Event()] if [said.text for said in _said_in(request)][-1] == "oh no" else "Hello."

    async with playing(tmp_path, ScriptedModel(answers, answers), hooks=hook.on("on_message")) as play:
        delivering = asyncio.create_task(play.deliver(inbound("oh no", id="m"), inbound(kind="withdrawn", id="m")))
        await hook.asked.wait()
        hook.open.set()
        await delivering
        await play.say("hi")
        await play.reply("Hello.")
        await play.until_idle()
        assert ("completed",) not in play.sql(
            "SELECT turns.state FROM inbox JOIN turns ON turns.id = inbox.turn WHERE inbox.text = 'oh no'"
        )


# Screens


async def test_a_reply_stands_before_the_words_that_let_it_go_on(tmp_path: Path) -> None:
    options = GatewayOptions(spending=SpendingLimits(turn=0.1))
    async with playing(
        tmp_path, ScriptedModel("Done."), options=options, estimate=lambda request, channel: 0.15
    ) as play:
        await play.say("begin")
        await play.channel.until(lambda memory: any(reply.parked for reply in memory.replies.values()))
        await play.say("yes")
        await play.reply("Done.")
        await play.until_idle()
        items = (await read_history(play.gateway, session_key(PLACE), 10)).items
        assert [item.text if item.kind == "message" else "reply" for item in items] == [
            "begin",
            "reply",
            "yes",
        ]
