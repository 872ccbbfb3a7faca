"""Background work on a real store: calls and delegated tasks, across steering, stops and restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.agent import Agent
from agent.background import Background, BackgroundError, DelegatedTask
from agent.log import Call, CallEnded, CallStarted, Ended, Entry, MessagesRead, ModelAnswered, Text, Usage, UserMessage
from agent.model import Answer, Request
from agent.models.scripted import Piece, Script, ScriptedModel
from agent.testing import MemoryMedia
from agent.tool import Tool, ToolContext, ToolError, tool
from agent.tool_result import ToolResult
from agent.tools import load_tools
from agent.transcript import Results
from agent.turn_context import TurnContext
from channels.memory import MemoryChannel
from channels.message import InboundMessage
from channels.reply import Reply
from gateway.app import GatewayOptions
from gateway.bus import LocalBus
from gateway.sessions import is_child
from gateway.store import Store, open_store
from gateway.store.background import DEFAULT_LIMITS, EARLIER_NOTE, RESULT_NOTE, TASK_NOTE, Limits
from gateway.store.background_rows import listed
from gateway.store.records import Busy, Turn
from gateway.turns.background import BackgroundWork
from gateway.turns.budgets import SpendingLimits
from tests.engines import engines
from tests.gateway.notes import ANN, COMPLETED, HERE, PICTURE, SESSION, begin, first_words, left_behind, message, url_of
from tests.gateway.play import Play, playing, storing, until

T = TypeVar("T")

CHILD = f"{SESSION}/w/w1"
MADE = ToolResult("made")


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


TOOLS = (look, *load_tools(["ask_user", "delegate", "background", "write_file"]))


class Stage:
    """Background work on a real store; the test plays the dispatcher."""

    def __init__(self, folder: Path, store: Store, limits: Limits) -> None:
        self.folder = folder
        self.store = store
        self.woken: asyncio.Queue[str] = asyncio.Queue()
        self.stopped: list[tuple[str, str]] = []
        bus = LocalBus()
        bus.attach(self, self)
        self.background = BackgroundWork(store, bus, limits, poll_seconds=0.01)
        self.shown: asyncio.Queue[str] = asyncio.Queue()
        self.doing: set[asyncio.Task[Any]] = set()

    async def deliver(self, message: InboundMessage) -> None:
        raise AssertionError("nobody writes to this gateway")

    def wake(self, session: str, busy: Busy, *, by: str = "") -> None:
        self.woken.put_nowait(session)

    def stop(self, session: str, *, before: int, reason: str) -> None:
        self.stopped.append((session, reason))

    async def until_woken(self, session: str = SESSION) -> None:
        async with asyncio.timeout(60):
            while await self.woken.get() != session:
                pass

    async def turn(self, text: str = "go", session: str = SESSION) -> Turn:
        await self.store.accept(message(text), session)
        return await begin(self.store, session)

    async def work(self, turn: Turn, *tools: Tool, **turn_context: Any) -> Background:
        return (await self.prepared(turn, *tools, **turn_context))[1].background

    async def prepared(self, turn: Turn, *tools: Tool, **turn_context: Any) -> tuple[Agent, TurnContext]:
        agent = Agent(ScriptedModel(), MemoryMedia(), Path(), tools or TOOLS, mask=masked)
        task = await self.background.task(turn)
        return self.background.prepare(turn, task, agent, TurnContext(**turn_context), {}, None)

    def do(self, doing: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(doing)
        bound = asyncio.get_running_loop().call_later(60, task.cancel)
        task.add_done_callback(lambda _: bound.cancel())
        self.doing.add(task)
        return task

    async def write(self, turn: Turn, *entries: Entry) -> None:
        await self.store.append(turn.id, turn.epoch, entries)

    async def end(self, turn: Turn, text: str = "Done.", ended: Ended = COMPLETED) -> None:
        """Ends the turn with this answer, as the dispatch does."""
        answers = (ModelAnswered(1, (Text(text),)),) if text else ()
        assert await self.store.close(turn.id, turn.epoch, ended, answers)
        await self.background.ended(turn)

    async def delegated(self, turn: Turn, task: str = "count the words", **options: Any) -> asyncio.Task[ToolResult]:
        """A call that waits for the task, once the task is there."""
        work = await self.work(turn)
        call = self.do(work.delegate("call-1", DelegatedTask(task, **options), self.shown.put))
        await self.until_woken(CHILD)
        return call

    async def messages_read(self, session: str = SESSION) -> list[UserMessage]:
        """What a turn of the session is to read now."""
        turn = await self.store.claim(session)
        assert turn is not None
        (heard,) = (entry for entry in turn.entries if isinstance(entry, MessagesRead))
        return list(heard.messages)

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Beside the gateway, see `Engines.sql`."""
        return engines.sql(self.folder / "interject.db", statement, *values)

    def waiting(self, session: str = SESSION) -> list[str]:
        """What lies in the inbox unread."""
        found = self.sql("SELECT text FROM inbox WHERE session = ? AND state = 'waiting' ORDER BY id", session)
        return [text for (text,) in found]

    async def listed(self, session: str = SESSION) -> dict[str, str]:
        return {item.handle: item.state for item in await self.background.items(session)}


@asynccontextmanager
async def working(folder: Path, limits: Limits = DEFAULT_LIMITS, worker: str = "first") -> AsyncIterator[Stage]:
    """Leaving is a crash, and the folder may be worked in again."""
    async with open_store(url_of(folder), worker=worker) as store:
        stage = Stage(folder, store, limits)
        async with stage.background:
            pending = await store.pending()
            await stage.background.resume(pending.background, pending.awaiting)
            yield stage
        for task in stage.doing:
            task.cancel()
        await asyncio.gather(*stage.doing, return_exceptions=True)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with working(tmp_path) as stage:
        yield stage


def masked(text: str) -> str:
    return text.replace("hunter2", "***")


async def after(gate: asyncio.Event, result: ToolResult | BaseException = MADE) -> ToolResult:
    await gate.wait()
    if isinstance(result, BaseException):
        raise result
    return result


# Calls in the background


async def test_the_result_of_a_background_call_comes_as_a_message_with_its_files(stage: Stage) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    running = stage.do(after(gate, ToolResult("all good", (PICTURE,))))
    assert await (await stage.work(turn)).adopt("shell: make test", running) == "w1"
    await stage.end(turn)
    gate.set()
    await stage.until_woken()
    (said,) = await stage.messages_read()
    assert (said.source, said.sender, said.attachments) == ("work", ANN.name, (PICTURE,))
    assert "w1 (shell: make test) has ended" in said.text
    assert said.text.endswith("all good")
    assert said.note == RESULT_NOTE


async def test_the_result_of_a_background_call_keeps_the_running_turn_from_closing(stage: Stage) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    await (await stage.work(turn)).adopt("shell", stage.do(after(gate)))
    gate.set()
    await stage.until_woken()
    assert not await stage.store.close(turn.id, turn.epoch, Ended("completed"), ())
    heard = await stage.store.read_inbox(turn.id, turn.epoch, 2)
    assert heard is not None
    assert heard.messages[0].text.endswith("made")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ToolError("there is no such file"), "has failed: there is no such file"),
        (TimeoutError(), "has failed: it timed out"),
        (asyncio.CancelledError(), "was stopped: it was cancelled"),
        (KeyError("x"), "has failed: internal error: KeyError"),
    ],
)
async def test_a_failed_background_call_says_why(stage: Stage, error: BaseException, words: str) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    await (await stage.work(turn)).adopt("shell", stage.do(after(gate, error)))
    gate.set()
    await stage.until_woken()
    (text,) = stage.waiting()
    assert words in text


@pytest.mark.parametrize("result", [ToolResult("it is hunter2"), ToolError("hunter2 is wrong")])
async def test_a_secret_is_masked_in_the_result_of_a_background_call(stage: Stage, result: Any) -> None:
    gate = asyncio.Event()
    await (await stage.work(await stage.turn())).adopt("shell: login hunter2", stage.do(after(gate, result)))
    gate.set()
    await stage.until_woken()
    (text,) = stage.waiting()
    assert "***" in text
    assert "hunter2" not in text


async def test_a_stopped_background_call_brings_no_message(stage: Stage) -> None:
    turn = await stage.turn()
    work = await stage.work(turn)
    running = stage.do(after(asyncio.Event()))
    await work.adopt("shell", running)
    assert await work.stop("w1")
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not await work.stop("w1")
    assert not await work.stop("w2")
    assert stage.waiting() == []
    assert await stage.listed() == {"w1": "stopped"}


async def test_the_progress_of_a_background_call_is_listed_and_then_its_result(stage: Stage) -> None:
    turn = await stage.turn()
    work = await stage.work(turn)
    gate = asyncio.Event()
    await work.adopt("shell: make `all`\nand more", stage.do(after(gate)), lambda: "12 %")
    (item,) = await work.items()
    assert (item.handle, item.title, item.state, item.shown) == ("w1", "shell: make `all`", "running", "12 %")
    gate.set()
    await stage.until_woken()
    (item,) = await work.items()
    assert (item.state, item.shown) == ("done", "made")


async def test_when_too_much_goes_on_a_call_stays_its_caller_s(tmp_path: Path) -> None:
    async with working(tmp_path, Limits(running=2)) as stage:
        work = await stage.work(await stage.turn())
        gate = asyncio.Event()
        one, two, three = (stage.do(after(gate)) for _ in range(3))
        assert [await work.adopt("a", one), await work.adopt("b", two)] == ["w1", "w2"]
        with pytest.raises(BackgroundError, match="already"):
            await work.adopt("c", three)
        gate.set()
        assert (await three).text == "made"


async def test_a_call_that_a_restart_ended_is_reported_as_lost_once(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        turn = await stage.turn()
        running = stage.do(after(asyncio.Event()))
        await (await stage.work(turn)).adopt("shell: deploy", running)
        await stage.end(turn)
    assert running.cancelled()
    for worker in ("second", "third"):
        async with working(tmp_path, worker=worker) as stage:
            (text,) = stage.waiting()
            assert "w1 (shell: deploy) has been lost" in text
            assert "may or may not have taken effect" in text
            assert await stage.listed() == {"w1": "lost"}


async def test_a_result_that_comes_after_a_new_beginning_says_that_it_belongs_before_it(stage: Stage) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    await (await stage.work(turn)).adopt("shell", stage.do(after(gate)))
    await stage.end(turn)
    await stage.store.reset_session(SESSION)
    gate.set()
    await stage.until_woken()
    (said,) = await stage.messages_read()
    assert said.note == f"{RESULT_NOTE} {EARLIER_NOTE}"


async def test_a_result_that_cannot_be_stored_at_once_comes_when_it_can(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    await (await stage.work(turn)).adopt("shell", stage.do(after(gate)))
    engines.refuse(stage.folder / "interject.db", "work", "UPDATE")
    gate.set()
    async with asyncio.timeout(60):
        await until(lambda: "cannot be stored, trying again" in caplog.text)
    engines.allow(stage.folder / "interject.db", "work")
    await stage.until_woken()
    (text,) = stage.waiting()
    assert text.endswith("made")


async def test_a_call_that_cannot_be_written_down_stays_its_caller_s(stage: Stage) -> None:
    work = await stage.work(await stage.turn())
    engines.refuse(stage.folder / "interject.db", "work")
    gate = asyncio.Event()
    running = stage.do(after(gate))
    with pytest.raises(BackgroundError, match="cannot be stored at the moment"):
        await work.adopt("shell", running)
    gate.set()
    assert (await running).text == "made"


async def test_a_very_long_result_comes_without_its_middle(stage: Stage) -> None:
    turn = await stage.turn()
    gate = asyncio.Event()
    result = ToolResult("a" * 50_000 + "z")
    await (await stage.work(turn)).adopt("shell", stage.do(after(gate, result)))
    gate.set()
    await stage.until_woken()
    (text,) = stage.waiting()
    assert len(text) < 31_000
    assert text.endswith("z")
    assert "characters left out" in text


async def test_all_background_work_of_a_conversation_is_stopped_and_that_of_others_is_not(stage: Stage) -> None:
    turn, other = await stage.turn(), await stage.turn(session="telegram/bot/8")
    work = await stage.work(turn)
    running = stage.do(after(asyncio.Event()))
    await work.adopt("shell", running)
    await work.start("call-1", DelegatedTask("count"))
    elsewhere = stage.do(after(asyncio.Event()))
    await (await stage.work(other)).adopt("shell", elsewhere)
    stopped = await stage.background.stop_all(SESSION)
    assert [item.handle for item in stopped] == ["w1", "w2"]
    assert await stage.background.stop_all(SESSION) == ()
    assert await stage.listed() == {"w1": "stopped", "w2": "stopped"}
    assert await stage.listed("telegram/bot/8") == {"w1": "running"}
    assert not elsewhere.done()


# Delegated tasks


async def test_a_delegated_task_is_read_in_a_session_of_its_own_and_its_answer_is_the_calls(stage: Stage) -> None:
    turn = await stage.turn()
    call = await stage.delegated(turn)
    child = await begin(stage.store, CHILD)
    (said,) = (said for entry in child.entries if isinstance(entry, MessagesRead) for said in entry.messages)
    assert (said.text, said.note, said.source) == ("count the words", TASK_NOTE, "work")
    assert (child.address, child.principal) == (HERE, turn.principal)
    await stage.write(child, ModelAnswered(1, (Call("c", "look", "{}"),)), CallStarted("c"))
    await stage.write(child, CallEnded("c", "done", "seen", (PICTURE,)))
    await stage.end(child, "There are 12.")
    result = await call
    assert (result.text, result.attachments) == ("There are 12.", (PICTURE,))
    assert stage.waiting() == []
    assert await stage.listed() == {"w1": "done"}


async def test_delegated_sessions_are_known_by_their_key() -> None:
    keys = (CHILD, f"{CHILD}/w/w12", "slack/t/c/thread/w/w1")
    assert all(map(is_child, keys))
    assert not any(map(is_child, (SESSION, "slack/t/w/w1", "slack/t/c/w")))


async def test_nobody_is_to_be_shown_the_reply_of_a_delegated_turn(stage: Stage) -> None:
    await stage.delegated(await stage.turn())
    await stage.end(await begin(stage.store, CHILD))
    assert (await left_behind(stage.store)).undelivered == ()


async def test_a_delegated_turn_that_fails_fails_the_call_with_the_reason(stage: Stage) -> None:
    call = await stage.delegated(await stage.turn())
    child = await begin(stage.store, CHILD)
    await stage.write(child, ModelAnswered(1, (Text("I have found ten."),), interrupted=True))
    await stage.end(child, "", Ended("failed", "the model is overloaded"))
    with pytest.raises(BackgroundError, match=r"failed: the model is overloaded[\s\S]*I have found ten"):
        await call
    assert await stage.listed() == {"w1": "failed"}


async def test_results_that_were_made_the_answer_are_the_task_s_answer(stage: Stage) -> None:
    call = await stage.delegated(await stage.turn())
    child = await begin(stage.store, CHILD)
    await stage.write(child, ModelAnswered(1, (Call("c", "look", "{}"),)), CallEnded("c", "done", "twelve", final=True))
    await stage.end(child, "")
    assert (await call).text == "twelve"


async def test_when_the_turn_that_waits_is_stopped_its_task_is_too(stage: Stage) -> None:
    turn = await stage.turn()
    call = await stage.delegated(turn)
    child = await begin(stage.store, CHILD)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    ((session, reason),) = stage.stopped
    assert session == CHILD
    stored = await stage.store.turn(child.id)
    assert stored.stop == reason
    await stage.end(child, "Half of it.", Ended("stopped", reason))
    await stage.end(turn, "", Ended("stopped", "stopped by the user"))
    assert stage.waiting() == []
    assert await stage.listed() == {"w1": "stopped"}


async def test_a_task_that_is_stopped_before_its_turn_begins_never_does(stage: Stage) -> None:
    call = await stage.delegated(await stage.turn())
    call.cancel()
    await asyncio.wait({call})
    assert await stage.store.claim(CHILD) is None
    assert stage.waiting(CHILD) == []


async def test_a_task_in_the_background_brings_its_answer_as_a_message(stage: Stage) -> None:
    turn = await stage.turn()
    assert await (await stage.work(turn)).start("call-1", DelegatedTask("count\nall of them")) == "w1"
    child = await begin(stage.store, CHILD)
    await stage.end(turn)
    await stage.end(child, "There are 12.")
    await stage.until_woken()
    (said,) = await stage.messages_read()
    assert said.text == "The delegated task w1 (count) has ended.\n\nThere are 12."
    assert said.source == "work"


async def test_a_steered_call_that_waits_lets_its_task_go_on_under_the_same_handle(stage: Stage) -> None:
    turn = await stage.turn()
    call = await stage.delegated(turn)
    assert await (await stage.work(turn)).adopt("delegate: count", call) == "w1"
    assert "w1" in (await call).text
    await stage.end(turn)
    await stage.end(await begin(stage.store, CHILD), "There are 12.")
    await stage.until_woken()
    (text,) = stage.waiting()
    assert text.endswith("There are 12.")
    assert await stage.listed() == {"w1": "done"}


async def test_an_answer_that_came_just_before_the_call_was_steered_is_brought(stage: Stage) -> None:
    turn = await stage.turn()
    call = await stage.delegated(turn)
    work = await stage.work(turn)
    child = await begin(stage.store, CHILD)
    await asyncio.gather(stage.end(child, "There are 12."), work.adopt("delegate: count", call))
    await stage.until_woken()
    (text,) = stage.waiting()
    assert text.endswith("There are 12.")


async def test_the_same_call_finds_its_task_again_after_a_crash_and_waits(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        turn = await stage.turn()
        await stage.delegated(turn)
        await begin(stage.store, CHILD)
    async with working(tmp_path, worker="second") as stage:
        turn, child = await begin(stage.store), await begin(stage.store, CHILD)
        call = stage.do((await stage.work(turn)).delegate("call-1", DelegatedTask("count the words"), stage.shown.put))
        await stage.end(child, "There are 12.")
        assert (await call).text == "There are 12."
        assert await stage.listed() == {"w1": "done"}
        assert stage.waiting() == []


async def test_the_same_call_finds_the_answer_that_came_while_nobody_was_there(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        await stage.delegated(await stage.turn())
        child = await begin(stage.store, CHILD)
        # The crash comes between the end of the task's turn and the word of it.
        assert await stage.store.close(
            child.id, child.epoch, Ended("completed"), (ModelAnswered(1, (Text("Twelve."),)),)
        )
    async with working(tmp_path, worker="second") as stage:
        turn = await begin(stage.store)
        work = await stage.work(turn)
        assert (await work.delegate("call-1", DelegatedTask("count the words"), stage.shown.put)).text == "Twelve."
        await stage.write(turn, CallEnded("call-1", "done", "Twelve."))
        await stage.end(turn)
        assert stage.waiting() == []


async def test_an_answer_to_a_turn_that_does_not_ask_again_after_a_crash_comes_late(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        await stage.delegated(await stage.turn())
        await begin(stage.store, CHILD)
    async with working(tmp_path, worker="second") as stage:
        turn, child = await begin(stage.store), await begin(stage.store, CHILD)
        await stage.end(child, "There are 12.")
        assert stage.waiting() == []
        await stage.write(turn, CallEnded("call-1", "unknown", "interrupted"))
        await stage.end(turn)
        await stage.until_woken()
        (text,) = stage.waiting()
        assert "its late answer" in text
        assert text.endswith("There are 12.")


@pytest.mark.parametrize(("outcome", "state"), [("stopped", "stopped"), ("failed", "running")])
async def test_a_turn_that_ends_after_a_crash_without_asking_again_stops_its_task_if_it_was_stopped(
    tmp_path: Path, outcome: Any, state: str
) -> None:
    async with working(tmp_path) as stage:
        await stage.delegated(await stage.turn())
        await begin(stage.store, CHILD)
    async with working(tmp_path, worker="second") as stage:
        await stage.end(await begin(stage.store), "", Ended(outcome, "so be it"))
        assert await stage.listed() == {"w1": state}
        assert len(stage.stopped) == (state == "stopped")


async def test_a_turn_that_had_ended_just_before_a_crash_does_not_lose_the_answer(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        turn = await stage.turn()
        await stage.delegated(turn)
        child = await begin(stage.store, CHILD)
        assert await stage.store.close(turn.id, turn.epoch, Ended("failed", "it broke"), ())
        assert await stage.store.close(
            child.id, child.epoch, Ended("completed"), (ModelAnswered(1, (Text("Twelve."),)),)
        )
    async with working(tmp_path, worker="second") as stage:
        (text,) = stage.waiting()
        assert text.endswith("Twelve.")


async def test_a_task_has_no_more_tools_than_it_was_given_and_none_that_asks_people(stage: Stage) -> None:
    turn = await stage.turn()
    work = await stage.work(turn)
    await work.start("call-1", DelegatedTask("count", model="demo:other"))
    await work.start("call-2", DelegatedTask("look", tools=("look",)))
    await work.start("call-3", DelegatedTask("think", tools=()))
    found = []
    for number in (1, 2, 3):
        agent, turn_context = await stage.prepared(await begin(stage.store, f"{SESSION}/w/w{number}"))
        found.append(({tool.name for tool in agent.tools}, turn_context.model))
    assert found == [
        ({"look", "delegate", "background", "write_file"}, "demo:other"),
        ({"look"}, ""),
        (set(), ""),
    ]


@pytest.mark.parametrize("name", ["ask_user", "shell", "locked"])
async def test_a_tool_that_cannot_be_given_is_refused_with_those_that_can(stage: Stage, name: str) -> None:
    turn = await stage.turn()
    work = await stage.work(turn, *TOOLS, replace(look, approval="always"))
    with pytest.raises(BackgroundError, match=f"'{name}'.*look"):
        await work.start("call-1", DelegatedTask("count", tools=("look", name)))


async def test_a_task_gets_what_people_have_allowed_for_the_conversation_and_no_more(stage: Stage) -> None:
    once = replace(look, approval="once")
    turn = await stage.turn()
    with pytest.raises(BackgroundError, match="'look'"):
        await (await stage.work(turn, once)).start("call-1", DelegatedTask("count", tools=("look",)))
    work = await stage.work(turn, once, allowed=frozenset({"look", "shell"}))
    await work.start("call-2", DelegatedTask("count", tools=("look",)))
    agent, turn_context = await stage.prepared(await begin(stage.store, CHILD), once)
    assert (tuple(agent.tools), turn_context.allowed) == ((once,), frozenset({"look"}))


async def test_a_task_has_the_model_that_was_chosen_for_the_conversation(stage: Stage) -> None:
    work = await stage.work(await stage.turn(), model="demo:chosen")
    await work.start("call-1", DelegatedTask("count"))
    await work.start("call-2", DelegatedTask("count", model="demo:other"))
    sessions = (CHILD, f"{SESSION}/w/w2")
    found = [await stage.prepared(await begin(stage.store, session)) for session in sessions]
    assert [turn_context.model for _, turn_context in found] == ["demo:chosen", "demo:other"]


async def test_a_tool_that_was_taken_away_since_is_not_offered(stage: Stage) -> None:
    await (await stage.work(await stage.turn())).start("call-1", DelegatedTask("count"))
    agent, _ = await stage.prepared(await begin(stage.store, CHILD), replace(look, approval="always"))
    assert tuple(agent.tools) == ()


async def test_tasks_delegate_only_so_deep(tmp_path: Path) -> None:
    async with working(tmp_path, Limits(depth=2)) as stage:
        work = await stage.work(await stage.turn())
        await work.start("call-1", DelegatedTask("one"))
        child = await begin(stage.store, CHILD)
        await (await stage.work(child)).start("call-2", DelegatedTask("two"))
        grandchild = await begin(stage.store, f"{CHILD}/w/w1")
        agent, turn_context = await stage.prepared(grandchild)
        assert "delegate" not in {tool.name for tool in agent.tools}
        with pytest.raises(BackgroundError, match="nothing may be delegated from here"):
            await turn_context.background.start("call-3", DelegatedTask("three"))


async def test_only_so_many_tasks_run_for_one_turn_however_deep(tmp_path: Path) -> None:
    async with working(tmp_path, Limits(running=2)) as stage:
        work = await stage.work(await stage.turn())
        await work.start("call-1", DelegatedTask("one"))
        child = await begin(stage.store, CHILD)
        await (await stage.work(child)).start("call-2", DelegatedTask("two"))
        with pytest.raises(BackgroundError, match="2 delegated tasks run already"):
            await work.start("call-3", DelegatedTask("three"))
        other = await stage.turn(session="telegram/bot/8")
        assert await (await stage.work(other)).start("call-4", DelegatedTask("four")) == "w1"


async def test_a_task_whose_time_is_up_is_stopped_and_the_result_says_so(stage: Stage) -> None:
    call = await stage.delegated(await stage.turn(), seconds=0.01)
    with pytest.raises(BackgroundError, match="failed: it timed out"):
        await call
    assert stage.stopped == [(CHILD, "it timed out")]


async def test_the_time_of_a_task_goes_on_across_a_restart(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        turn = await stage.turn()
        await (await stage.work(turn)).start("call-1", DelegatedTask("count", seconds=0.5))
        await begin(stage.store, CHILD)
        await stage.end(turn)
    async with working(tmp_path, worker="second") as stage:
        await stage.until_woken()
        (text,) = stage.waiting()
        assert "has failed: it timed out" in text


async def test_a_task_s_task_has_no_more_time_than_it(stage: Stage) -> None:
    await (await stage.work(await stage.turn())).start("call-1", DelegatedTask("one", seconds=60))
    child = await begin(stage.store, CHILD)
    await (await stage.work(child)).start("call-2", DelegatedTask("two", seconds=3600))
    (row,) = await stage.store.write(lambda connection: listed(connection, CHILD))
    assert row.until <= datetime.now(UTC) + timedelta(seconds=60)


async def test_words_steer_a_task_that_runs_and_no_other(stage: Stage) -> None:
    work = await stage.work(await stage.turn())
    await work.start("call-1", DelegatedTask("count"))
    await work.adopt("shell", stage.do(after(asyncio.Event())))
    child = await begin(stage.store, CHILD)
    assert await work.steer("w1", "only the verbs")
    await stage.until_woken(CHILD)
    heard = await stage.store.read_inbox(child.id, child.epoch, 2)
    assert heard is not None
    assert [said.text for said in heard.messages] == ["only the verbs"]
    assert not await work.steer("w2", "hello")
    assert not await work.steer("w3", "hello")
    await stage.end(child)
    assert not await work.steer("w1", "too late")
    assert stage.waiting(CHILD) == []


async def test_a_message_at_the_end_of_the_task_s_turn_is_read_in_another(stage: Stage) -> None:
    turn = await stage.turn()
    call = await stage.delegated(turn)
    child = await begin(stage.store, CHILD)
    answer = ModelAnswered(1, (Text("There are 12."),))
    assert await stage.store.close(child.id, child.epoch, Ended("completed"), (answer,))
    assert await (await stage.work(turn)).steer("w1", "and the verbs?")
    await stage.background.ended(child)
    assert not call.done()
    again = await begin(stage.store, CHILD)
    assert first_words(again) == ["and the verbs?"]
    await stage.end(again, "Five of them are verbs.")
    assert (await call).text == "There are 12.\n\nFive of them are verbs."


async def test_what_a_task_began_is_stopped_with_it(stage: Stage) -> None:
    work = await stage.work(await stage.turn())
    await work.start("call-1", DelegatedTask("one"))
    child = await begin(stage.store, CHILD)
    beneath = await stage.work(child)
    running = stage.do(after(asyncio.Event()))
    await beneath.adopt("shell", running)
    await beneath.start("call-2", DelegatedTask("two"))
    assert await work.stop("w1")
    await asyncio.wait({running})
    assert running.cancelled()
    assert {session for session, _ in stage.stopped} == {CHILD, f"{CHILD}/w/w2"}
    assert await stage.listed(CHILD) == {"w1": "stopped", "w2": "stopped"}
    assert stage.waiting() == []


async def test_a_late_result_of_what_a_task_began_comes_to_the_conversation(stage: Stage) -> None:
    turn = await stage.turn()
    await (await stage.work(turn)).start("call-1", DelegatedTask("one"))
    child = await begin(stage.store, CHILD)
    gate = asyncio.Event()
    await (await stage.work(child)).adopt("shell", stage.do(after(gate)))
    await stage.end(child, "It is on its way.")
    gate.set()
    for _ in range(2):
        await stage.until_woken()
    one, two = stage.waiting()
    assert one.endswith("It is on its way.")
    assert two.endswith("made")
    assert stage.waiting(CHILD) == []


async def test_a_result_that_comes_while_its_task_runs_is_the_task_s(stage: Stage) -> None:
    turn = await stage.turn()
    await (await stage.work(turn)).start("call-1", DelegatedTask("one"))
    child = await begin(stage.store, CHILD)
    gate = asyncio.Event()
    await (await stage.work(child)).adopt("shell", stage.do(after(gate)))
    await stage.until_woken(CHILD)
    gate.set()
    await stage.until_woken(CHILD)
    assert (stage.waiting(), len(stage.waiting(CHILD))) == ([], 1)


async def test_a_gateway_that_is_stopped_stops_no_task(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        call = await stage.delegated(await stage.turn())
        await begin(stage.store, CHILD)
    assert call.cancelled()
    assert stage.stopped == []
    async with working(tmp_path, worker="second") as stage:
        assert await stage.listed() == {"w1": "running"}


async def test_a_call_made_while_the_gateway_is_being_stopped_waits_for_the_next_process(tmp_path: Path) -> None:
    async with working(tmp_path) as stage:
        work = await stage.work(await stage.turn())
    async with working(tmp_path, worker="second") as other:
        call = other.do(work.delegate("call-1", DelegatedTask("count"), other.shown.put))
        running = other.do(after(asyncio.Event()))
        with pytest.raises(BackgroundError, match="shutting down"):
            await work.adopt("shell", running)
        assert not call.done()


async def test_where_a_task_is_shows_while_it_runs(stage: Stage) -> None:
    call = await stage.delegated(await stage.turn())

    async def shown() -> tuple[str, str]:
        """By the call that waits, and to whoever looks."""
        async with asyncio.timeout(60):
            return await stage.shown.get(), (await stage.background.items(SESSION))[0].shown

    assert await shown() == ("not begun yet",) * 2
    child = await begin(stage.store, CHILD)
    assert await shown() == ("step 1: the model is answering",) * 2
    await stage.write(child, ModelAnswered(1, (Call("c", "look", "{}"),)), CallStarted("c"))
    assert await shown() == ("step 1: `look`",) * 2
    await stage.write(child, CallEnded("c", "done", "seen"))
    assert await shown() == ("step 2: the model is answering",) * 2
    await stage.end(child, "Twelve.")
    assert (await call).text == "Twelve."
    assert (await stage.background.items(SESSION))[0].shown == "Twelve."


async def test_only_the_newest_of_what_has_ended_is_remembered_and_all_that_runs(stage: Stage) -> None:
    work = await stage.work(await stage.turn())
    await work.adopt("first", stage.do(after(asyncio.Event())))
    for _ in range(12):
        gate = asyncio.Event()
        gate.set()
        await work.adopt("more", stage.do(after(gate)))
        await stage.until_woken()
    items = await work.items()
    assert [item.handle for item in items] == ["w1", *(f"w{number}" for number in range(4, 14))]


# Through the whole gateway


def is_for_a_task(request: Request) -> bool:
    heard = (said for item in request.transcript if isinstance(item, MessagesRead) for said in item.messages)
    return any(said.note == TASK_NOTE for said in heard)


def parted(conversation: list[Script], task: list[Script]) -> ScriptedModel:
    """A model that follows one script in the conversation and another in the tasks delegated from it."""

    def answer(request: Request) -> Script:
        return (task if is_for_a_task(request) else conversation).pop(0)

    return ScriptedModel(*[answer] * (len(conversation) + len(task)))


def delegating(**arguments: object) -> list[Piece]:
    return [Call("", "delegate", json.dumps({"task": "count the words", **arguments}))]


def results(model: ScriptedModel) -> list[tuple[str, str]]:
    """Outcome and text of each call, as the last request shows them."""
    found = (item for item in model.requests[-1].transcript if isinstance(item, Results))
    return [(result.outcome, result.text) for item in found for result in item.results]


async def test_a_person_sees_the_answer_that_a_delegated_task_led_to_and_not_the_task_s(tmp_path: Path) -> None:
    model = parted([delegating(), "There are 12 words."], [[Call("", "look", "{}")], "It is 12."])
    async with playing(tmp_path, model, *TOOLS, max_running_turns=1) as play:
        await play.say("how many?")
        await play.reply("There are 12 words.")
        await play.until_idle()
        assert results(model) == [("done", "It is 12.")]
        assert not any("It is 12" in text for text in play.shown())
        assert len(play.shown()) == 1


async def test_what_a_task_costs_counts_for_the_turn_that_it_was_for(tmp_path: Path) -> None:
    def costs(text: str, cost: float) -> Answer:
        return Answer((Text(text),), Usage(10, 5, cost=cost), model="m")

    model = parted([delegating(), costs("Twelve.", 0.25)], [costs("12", 0.5)])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        reply = await play.reply("Twelve.")
        await play.until_idle()
        assert (await play.store.spent(turn=reply.id)).cost == 0.75


async def test_a_task_that_has_used_its_tokens_ends_and_the_model_is_told_why(tmp_path: Path) -> None:
    looks = Answer((Call("", "look", "{}"),), Usage(900, 100), "calls", "m")
    model = parted([delegating(), "It was too much."], [looks, "never said"])
    options = GatewayOptions(spending=SpendingLimits(task_tokens=1000))
    async with playing(tmp_path, model, *TOOLS, options=options) as play:
        await play.say("how many?")
        await play.reply("It was too much.")
        await play.until_idle()
        ((outcome, text),) = results(model)
    assert outcome == "failed"
    assert "has used 1,000 tokens, and the limit is 1,000" in text


async def test_a_person_who_interjects_is_answered_while_the_task_goes_on_and_its_answer_comes(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = parted([delegating(), "Still counting.", "There are 12 words."], [["Well, ", gate, "12."]])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        await model.asked(2)
        await play.say("are you there?")
        await play.reply("Still counting.")
        assert "w1" in results(model)[0][1]
        gate.set()
        await play.reply("There are 12 words.")
        (said,) = (item for item in model.requests[-1].transcript[-1:] if isinstance(item, MessagesRead))
        assert said.messages[0].text.endswith("Well, 12.")
        assert said.messages[0].source == "work"


async def test_a_stop_ends_the_task_that_is_waited_for(tmp_path: Path) -> None:
    model = parted([delegating()], [["Well, ", asyncio.Event()]])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        await model.asked(2)
        await play.say("/stop")
        await play.reply("⏹")
        await play.until_idle()
        assert {state for (state,) in play.sql("SELECT state FROM turns WHERE kind = 'turn'")} == {"stopped"}
        assert [item.state for item in await play.gateway.background.items("memory/me/chat")] == ["stopped"]


async def test_a_task_and_the_turn_that_waits_for_it_both_go_on_after_a_crash(tmp_path: Path) -> None:
    model = parted([delegating()], [["Well, ", asyncio.Event()]])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        await model.asked(2)
    model = parted(["There are 12 words."], ["It is 12."])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.reply("There are 12 words.")
        await play.until_idle()
        assert results(model) == [("done", "It is 12.")]


def counting(request: Request) -> Script:
    """What a model says that only knows what it is shown, however often it is asked."""
    has_results = any(isinstance(item, Results) for item in request.transcript)
    if is_for_a_task(request):
        return "It is 12." if has_results else [Call("", "look", "{}")]
    return f"In words: {shown_results(request)}" if has_results else delegating()


def shown_results(request: Request) -> list[str]:
    return [result.text for item in request.transcript if isinstance(item, Results) for result in item.results]


@pytest.mark.parametrize("written", range(2, 12, 2))
async def test_wherever_a_crash_comes_the_answer_of_a_task_is_read_once(tmp_path: Path, written: int) -> None:
    memory: dict[str, Reply] = {}
    model = ScriptedModel(*[counting] * 20)
    async with playing(tmp_path, model, *TOOLS, channel=MemoryChannel(replies=memory)) as play:
        await play.say("how many?")
        await until(lambda: play.sql("SELECT count(*) FROM turn_log") >= [(written,)])
    async with playing(tmp_path, model, *TOOLS, channel=MemoryChannel(replies=memory)) as play:
        await play.reply("In words: ['It is 12.']")
        await play.until_idle()
        assert len(memory) == 1
        assert len(await play.messages_read()) == 2
        assert [item.state for item in await play.gateway.background.items("memory/me/chat")] == ["done"]


async def test_a_stop_accepted_before_a_crash_stops_the_task_too(tmp_path: Path) -> None:
    model = parted([delegating()], [["Well, ", asyncio.Event()]])
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        await model.asked(2)
    async with storing(tmp_path) as keep:
        await keep("/stop")
    async with playing(tmp_path, parted([], [["Well, ", asyncio.Event()]]), *TOOLS) as play:
        await play.reply("⏹")
        await play.until_idle()
        assert [item.state for item in await play.gateway.background.items("memory/me/chat")] == ["stopped"]
        assert {state for (state,) in play.sql("SELECT state FROM turns WHERE kind = 'turn'")} == {"stopped"}


async def test_a_task_in_the_background_is_steered_and_then_answers(tmp_path: Path) -> None:
    gate = asyncio.Event()
    tell = Call("", "background", json.dumps({"action": "tell", "handle": "w1", "message": "only verbs"}))
    model = parted(
        [delegating(background=True), [tell], "I will tell you.", "Five."], [["Well, ", gate], "Five are verbs."]
    )
    async with playing(tmp_path, model, *TOOLS) as play:
        await play.say("how many?")
        await play.reply("I will tell you.")
        await play.reply("Five.")
        await play.until_idle()
        assert await play.messages_read() == [["how many?"], ["count the words", "only verbs"], [brought(play)]]


def brought(play: Play) -> str:
    ((text,),) = play.sql("SELECT text FROM inbox WHERE event_id LIKE 'work:%'")
    assert text.endswith("Five are verbs.")
    return str(text)


async def test_a_call_that_a_person_interjects_upon_goes_on_and_brings_its_file_in_the_end(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @tool(effect="external", on_steer="background")
    async def paint(context: ToolContext) -> ToolResult:
        """Paints."""
        await gate.wait()
        return ToolResult("painted", (await context.media.put(b"paint", "paint.txt"),))

    model = ScriptedModel([Call("", "paint", "{}")], "One moment.", "There it is.")
    async with playing(tmp_path, model, paint) as play:
        await play.say("paint")
        await until(lambda: play.sql("SELECT 1 FROM turn_log WHERE entry LIKE '%call_started%'"))
        await play.say("and hurry")
        await play.reply("One moment.")
        gate.set()
        await play.reply("There it is.")
        (heard,) = (item for item in model.requests[-1].transcript[-1:] if isinstance(item, MessagesRead))
        assert [file.name for file in heard.messages[0].attachments] == ["paint.txt"]
