"""The real process is killed with SIGKILL in every state of a turn, and the next one brings it to the right end."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pytest
from aiohttp import web

from agent.log import ApprovalDecided, CallEnded, Compacted, Ended, Entry, MessagesRead, ModelAnswered, load
from agent.log_state import unresolved
from channels.address import Address, Sender
from gateway.sessions import session_key
from gateway.store import open_store
from tests.engines import engines
from tests.gateway.notes import message
from tests.gateway.stage import write_settings
from tests.gateway.test_kill import process, settled
from tests.servers.models import Call, ModelServer, Pause, Request, Say, Usage
from tests.servers.telegram import BotApi, Chat, Shown

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

ASK_FIRST = '[tools.shell]\napproval = "once"\n'
WRITE = "echo begun >> effects.txt"
WRITE_SLOWLY = f"{WRITE}; sleep 4"
PRICE = "[models.openai.test]\nprice = { input = 10.0, output = 10.0 }\n[limits]\nturn_cost = 1.0\n"


@dataclass(frozen=True)
class Scene:
    """Ann's chat, the model, and what the gateway keeps in its files."""

    chat: Chat
    models: ModelServer
    settings: Path

    @property
    def home(self) -> Path:
        return self.settings.parent / "home"

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        return engines.sql(self.home / "interject.db", statement)

    def logs(self) -> list[tuple[Entry, ...]]:
        """The logs of all turns, oldest first."""
        rows = self.sql(
            "SELECT turns.number, entry FROM turns JOIN turn_log ON turn_log.turn = turns.number ORDER BY 1, n"
        )
        return [load(str(entry) for _, entry in lines) for _, lines in groupby(rows, key=lambda row: row[0])]

    def endings(self) -> list[CallEnded]:
        return [entry for log in self.logs() for entry in log if isinstance(entry, CallEnded)]

    def effects(self) -> list[str]:
        file = self.home / "workspace" / "effects.txt"
        return file.read_text().split() if file.exists() else []

    def model(self, answer: Callable[[Request], object]) -> None:
        self.models.respond(answer)  # type: ignore[arg-type]  # a part, or a list of parts

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[asyncio.subprocess.Process]:
        async with process(self.settings) as running:
            yield running

    async def killed_when(self, condition: Callable[[], object], *words: str) -> None:
        """Ann says these words, one after another as they are read, and the gateway is killed once this holds."""
        async with self.gateway() as running:
            for text in words:
                await self.chat.say(text)
            await until(condition)
            running.send_signal(signal.SIGKILL)
            await running.wait()

    async def shows(self, text: str) -> None:
        await self.chat.until(lambda chat: any(text in words for words in chat.texts))

    async def question(self) -> Shown:
        """What stands in the chat with options to press."""
        return await self.chat.until(lambda chat: next((shown for shown in chat.messages if shown.buttons[1:]), None))

    async def press(self, option: int) -> None:
        shown = await self.question()
        await self.chat.press(shown, shown.buttons[option]["callback_data"])

    async def comes_to_its_end(self) -> None:
        """Everything is read, answered and shown: nothing lost, nothing doubled, each call with one result."""
        await settled(self.settings.parent)
        heard: Counter[int] = Counter()
        for log in self.logs():
            assert [type(entry) for entry in log].count(Ended) == 1
            assert isinstance(log[-1], Ended)
            assert not unresolved(log)
            calls = [call.id for entry in log if isinstance(entry, ModelAnswered) for call in entry.calls]
            assert Counter(end.call_id for end in log if isinstance(end, CallEnded)) == Counter(calls)
            heard.update(said.id for entry in log if isinstance(entry, MessagesRead) for said in entry.messages)
        assert set(heard.values()) <= {1}
        (consumed,) = self.sql("SELECT count(*) FROM inbox WHERE state = 'consumed'")[0]
        side_questions = self.sql("SELECT count(*) FROM turns WHERE kind = 'aside'")[0][0]
        assert len(heard) == consumed + side_questions  # type: ignore[operator]  # both are numbers
        assert len(self.chat.texts) == len(set(self.chat.texts)), "nothing is told twice"
        assert self.models.refusals == [], "the model is always shown a complete history"


@asynccontextmanager
async def scene(folder: Path, more: str = "") -> AsyncIterator[Scene]:
    async with BotApi() as api, ModelServer() as models:
        settings = write_settings(folder, api, models, more=more)
        yield Scene(api.private(user_id=7, name="Ann"), models, settings)


async def until(condition: Callable[[], object]) -> None:
    """For what happens in files of another process."""
    async with asyncio.timeout(60):
        while True:
            try:
                if condition():
                    return
            except sqlite3.OperationalError:
                pass  # the database is not made yet
            await asyncio.sleep(0.02)


def writes_once(request: Request) -> object:
    """Calls the shell, then says what came of it."""
    for result in request.results.values():
        return Say(f"It says: {result.split(':')[0].strip() or 'nothing'}.")
    return Call("shell", {"command": WRITE})


def in_words(request: Request) -> bool:
    """Whether the model may call no tools."""
    return request.body.get("tool_choice") == "none"


@pytest.mark.engines
async def test_killed_while_it_waits_for_an_approval_it_still_waits_and_is_decided_once(tmp_path: Path) -> None:
    async with scene(tmp_path, ASK_FIRST) as play:
        play.model(writes_once)
        await play.killed_when(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"), "do it")
        asked_in = (await play.question()).message_id
        async with play.gateway():
            assert play.effects() == []
            await play.press(0)
            await play.shows("It says")
            await play.comes_to_its_end()
        assert play.chat.messages[0].message_id == asked_in
        assert play.effects() == ["begun"]
        assert [end.outcome for end in play.endings()] == ["done"]


async def test_killed_when_it_was_decided_and_the_call_had_not_run_the_call_runs_once(tmp_path: Path) -> None:
    async with scene(tmp_path, ASK_FIRST) as play:
        play.model(writes_once)
        await play.killed_when(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"), "do it")
        await decided_by_a_process_that_died(play)
        async with play.gateway():
            await play.shows("It says")
            await play.comes_to_its_end()
        assert play.effects() == ["begun"]
        decided = [entry for log in play.logs() for entry in log if isinstance(entry, ApprovalDecided)]
        assert [entry.decision for entry in decided] == ["allowed"]


async def decided_by_a_process_that_died(play: Scene) -> None:
    """It kept the decision, and did nothing about it."""
    (_, account, chat), *_ = (str(key).split("/") for (key,) in play.sql("SELECT key FROM sessions"))
    address = Address("telegram", account, chat)
    async with open_store(engines.url(play.home / "interject.db")) as store:
        said = message("yes", address=address, sender=Sender("7", "Ann"))
        arrival = await store.accept(said, session_key(address))
        assert arrival is not None
        assert arrival.decided


@pytest.mark.engines
async def test_killed_in_mid_stream_it_hears_what_was_said_meanwhile_and_answers_once(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        return Say("One two three four.") if "and four" in request.last_user_text else Say(["One two", Pause()])

    async with scene(tmp_path) as play:
        play.model(answer)
        await play.killed_when(lambda: play.sql("SELECT 1 FROM outbox WHERE state = 'shown'"), "count")
        await play.chat.say("and four")
        async with play.gateway():
            await play.shows("One two three four.")
            await play.comes_to_its_end()
        assert sum("three" in text for text in play.chat.texts) == 1


@pytest.mark.engines
async def test_killed_in_a_tool_whose_repeat_is_not_safe_the_model_is_told_that_nobody_knows(tmp_path: Path) -> None:
    async with scene(tmp_path) as play:
        play.model(slowly)
        await play.killed_when(play.effects, "do it")
        async with play.gateway():
            await play.shows("It says: unknown.")
            await play.comes_to_its_end()
        assert play.effects() == ["begun"]
        assert [end.outcome for end in play.endings()] == ["unknown"]


def slowly(request: Request) -> object:
    for result in request.results.values():
        return Say(f"It says: {result.split(':')[0]}.")
    return Call("shell", {"command": WRITE_SLOWLY})


async def test_killed_in_a_tool_that_only_reads_the_call_is_made_again(tmp_path: Path) -> None:
    asked: list[str] = []

    async def hook(request: web.Request) -> web.Response:
        """Holds the first result of a call until its process is gone."""
        asked.append((await request.json())["point"])
        if len(asked) == 1:
            await asyncio.Event().wait()
        return web.json_response({"decision": "continue"})

    async with serving(hook) as url:
        more = (
            f'[[hooks]]\nname = "slow"\ntype = "http"\nurl = "{url}"\nsecret = "0123456789abcdef"\n'
            'points = ["after_tool"]\ntimeout = 60\n'
        )
        async with scene(tmp_path, more) as play:
            play.model(lambda request: Say("There is nothing.") if request.results else Call("list_files", {}))
            await play.killed_when(lambda: asked, "look")
            async with play.gateway():
                await play.shows("There is nothing.")
                await play.comes_to_its_end()
            assert asked == ["after_tool", "after_tool"]
            assert [end.outcome for end in play.endings()] == ["done"]


@asynccontextmanager
async def serving(handler: Callable[[web.Request], object]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", handler)  # type: ignore[arg-type]  # an async function
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_killed_while_it_sums_up_what_came_before_it_sums_up_again_and_answers(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        # Without counts of its own, the server's conversations are estimated.
        if not request.tools:
            return [Pause(), Say("Long stories were told."), Usage(0, 0)]
        return [Say(f"Noted {request.last_user_text.split()[0]}."), Usage(0, 0)]

    async with scene(tmp_path) as play:
        text = play.settings.read_text().replace("[agent]", "[agent]\ncontext_window = 12000")
        play.settings.write_text(text)
        play.model(answer)
        stories = [f"s{n} " + "once upon a time " * 500 for n in range(1, 9)]
        said = 0
        async with play.gateway() as running:
            while not any(request.held for request in play.models.requests):
                await play.chat.say(stories[said][:4000])
                said += 1
                name = f"Noted s{said}."
                await play.chat.until(
                    lambda chat, name=name: name in chat.texts or any(each.held for each in play.models.requests)
                )
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with play.gateway():
            await play.models.until_held()
            play.models.release(8)
            await play.shows(f"Noted s{said}.")
            await play.comes_to_its_end()
        assert sum(isinstance(entry, Compacted) for log in play.logs() for entry in log) == 1
        assert [text for text in play.chat.texts if "Noted" in text] == [f"Noted s{n}." for n in range(1, said + 1)]


async def test_killed_while_a_task_that_it_waits_for_is_in_a_tool_the_task_goes_on(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        results = list(request.results.values())
        if "You delegated this task" in request.messages[1].text:
            return Say(f"The shell says {results[0].split(':')[0]}.") if results else shell()
        return Say(f"I am told: {results[0]}") if results else Call("delegate", {"task": "Write it down."})

    def shell() -> object:
        return Call("shell", {"command": WRITE_SLOWLY})

    async with scene(tmp_path) as play:
        play.model(answer)
        await play.killed_when(play.effects, "do it")
        async with play.gateway():
            await play.shows("I am told: The shell says unknown.")
            await play.comes_to_its_end()
        assert play.effects() == ["begun"]
        assert sorted(end.outcome for end in play.endings()) == ["done", "unknown"]
        assert play.sql("SELECT state FROM work") == [("done",)]
        assert len(play.logs()) == 2


async def test_killed_while_a_call_goes_on_in_the_background_its_loss_is_told_once(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        if "has been lost" in request.last_user_text:
            return Say("It was lost.")
        return Say("It goes on.") if request.results else Call("shell", {"command": WRITE_SLOWLY})

    async with scene(tmp_path) as play:
        play.model(answer)
        async with play.gateway() as running:
            await play.chat.say("do it")
            await until(play.effects)
            await play.chat.say("and now?")
            await play.shows("It goes on.")
            await settled(play.settings.parent)
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with play.gateway():
            await play.shows("It was lost.")
            await play.comes_to_its_end()
        assert play.sql("SELECT state FROM work") == [("lost",)]
        assert play.effects() == ["begun"]
        assert sum("It was lost." in text for text in play.chat.texts) == 1


async def test_killed_at_a_limit_it_still_asks_and_goes_on_when_it_is_let(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        return Say("That was dear.") if request.results else [Call("shell", {"command": WRITE}), Usage(150_000, 10)]

    async with scene(tmp_path, PRICE) as play:
        play.model(answer)
        await play.killed_when(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"), "do it")
        async with play.gateway():
            await play.press(0)
            await play.shows("That was dear.")
            await play.comes_to_its_end()
        assert play.effects() == ["begun"]
        assert len(play.models.requests) == 2


async def test_killed_while_it_answers_on_the_side_it_answers_there_and_the_history_is_as_it_was(
    tmp_path: Path,
) -> None:
    def answer(request: Request) -> object:
        if in_words(request):
            return [Pause(), Say("Blue.")]
        assert all("what colour?" not in said.text for said in request.messages)
        return Say(f"You said {request.last_user_text}.")

    async with scene(tmp_path) as play:
        play.model(answer)
        async with play.gateway() as running:
            await play.chat.say("hello")
            await play.shows("You said hello.")
            await play.chat.say("/btw what colour?")
            await play.models.until_held()
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with play.gateway():
            await play.models.until(3)
            play.models.release(2)
            await play.shows("Blue.")
            await play.chat.say("bye")
            await play.shows("You said bye.")
            await play.comes_to_its_end()
        assert play.chat.texts == ["You said hello.", "Blue.", "You said bye."]


async def test_killed_when_it_was_asked_to_wrap_up_it_sums_up_without_tools(tmp_path: Path) -> None:
    def answer(request: Request) -> object:
        return Say("In sum: begun.") if in_words(request) else Call("shell", {"command": WRITE_SLOWLY})

    async with scene(tmp_path, '[tools.shell]\non_steer = "finish"\n') as play:
        play.model(answer)
        async with play.gateway() as running:
            await play.chat.say("do it")
            await until(play.effects)
            await play.chat.say("/wrap")
            await until(lambda: play.sql("SELECT 1 FROM inbox WHERE source = 'wrap'"))
            running.send_signal(signal.SIGKILL)
            await running.wait()
        async with play.gateway():
            await play.shows("In sum: begun.")
            await play.comes_to_its_end()
        assert play.effects() == ["begun"]
        assert len(play.logs()) == 1


async def test_killed_twice_while_it_waits_it_asks_in_one_place_and_can_be_denied(tmp_path: Path) -> None:
    async with scene(tmp_path, ASK_FIRST) as play:
        play.model(writes_once)
        await play.killed_when(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"), "do it")
        await play.killed_when(lambda: play.sql("SELECT 1 FROM turns WHERE parked AND delivered"))
        async with play.gateway():
            await play.press(2)
            await play.shows("It says: Denied by Ann.")
            await play.comes_to_its_end()
        assert play.effects() == []
        assert [end.outcome for end in play.endings()] == ["denied"]
