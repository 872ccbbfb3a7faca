"""Two sessions under every interleaving of messages in all busy modes, duplicates, edits, withdrawals, files,
questions, approvals, background tasks, stops, `/wrap`, `/retry`, crashes and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.agent import Agent
from agent.decisions.questions import ask_user
from agent.events import OnDelta, TextDelta
from agent.log import Call, CallEnded, Ended, MessagesRead, ModelAnswered, Text
from agent.model import Answer, Request
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from agent.tools.delegate import delegate
from channels.address import Address, Sender
from channels.memory import MemoryChannel
from channels.message import FileRef, InboundMessage, MessageKind, ThreadRoot
from channels.reply import QuestionSegment, Reply
from gateway.api.history import read_history
from gateway.app import Gateway, GatewayOptions
from gateway.inbound.access import AccessPolicy
from gateway.sessions import is_child, session_key
from gateway.store import open_store
from gateway.store.arrivals import REPLACED
from gateway.store.records import Turn
from gateway.turns.agents import OneAgent
from gateway.turns.dispatcher import message_state
from tests.engines import Kind, engines
from tests.gateway.machines import run_machine

PLACE = Address("memory", "me", "chat")
THREAD = Address("memory", "me", "team", "thread", "group")
PLACES = st.sampled_from([PLACE, PLACE, THREAD])
ANN = Sender("7", "Ann")
OF_PEOPLE = "source <> 'work'"
_PARKED = "SELECT session FROM turns WHERE state = 'running' AND parked"
READABLE = f"""(
    session NOT IN ({_PARKED})
    OR ({OF_PEOPLE} AND NOT (busy IN ('queue', 'collect') AND session IN ({_PARKED} AND deadline IS NOT NULL)))
)"""
"""A turn that waits for people does not go on for results of background work, and one that waits for a decision does
not for messages that are queued after it."""

BOUND = 60.0


Wish = Literal["words", "calls", "question", "risk", "task"]
TASK = '{"task": "Do it.", "background": true}'
QUESTION = '{"question": "Which?", "options": ["this", "that"]}'


class HeldModel:
    """Answers only when let: with tool calls, with a question or with words."""

    def __init__(self) -> None:
        self.permits: asyncio.Queue[Wish] = asyncio.Queue()
        self.open = False

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        await on_delta(TextDelta("Well"))
        wish = "words" if self.open else await self.permits.get()
        if wish == "calls" and request.tools:
            return Answer((Text("Well"), Call("", "note", "{}"), Call("", "look", "{}")), finish="calls")
        if wish == "question" and request.tools:
            return Answer(
                (Call("", "note", "{}"), Call("", "ask_user", QUESTION), Call("", "look", "{}")), finish="calls"
            )
        if wish == "risk" and request.tools:
            return Answer((Call("", "risky", "{}"), Call("", "look", "{}")), finish="calls")
        if wish == "task" and request.tools:
            return Answer((Call("", "delegate", TASK), Call("", "look", "{}")), finish="calls")
        return Answer((Text("Well, done."),))


@tool(effect="write")
async def note(context: ToolContext) -> str:
    """Notes something."""
    return "noted"


@tool(effect="read")
async def look(context: ToolContext) -> str:
    """Looks."""
    return "seen"


@tool(effect="external")
async def risky(context: ToolContext) -> str:
    """Does what nobody can take back."""
    return "done"


class HeldChannel(MemoryChannel):
    """Hands out files only once they have arrived."""

    def __init__(self, replies: dict[str, Reply]) -> None:
        super().__init__(replies=replies)
        self.arrived = asyncio.Event()

    async def fetch(self, file: FileRef) -> bytes:
        await self.arrived.wait()
        return await super().fetch(file)

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        await self.arrived.wait()
        return ThreadRoot("Bob", "Look at this.", (FileRef("gone", "gone.txt"),))


class World:
    """One database and one channel, with a gateway that may crash and start again."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "test.db"
        self.memory: dict[str, Reply] = {}
        self.worker = 0

    async def start(self) -> None:
        self.worker += 1
        self.stack = AsyncExitStack()
        self.model = HeldModel()
        self.store = await self.stack.enter_async_context(
            open_store(engines.url(self.database), worker=str(self.worker))
        )
        self.channel = HeldChannel(self.memory)
        self.channel.files["here"] = b"It says so."
        agent = Agent(
            self.model, MemoryMedia(), Path(), (note, look, replace(risky, approval="once"), delegate, ask_user)
        )
        gateway = Gateway(
            self.store, MemoryMedia(), AccessPolicy({}), OneAgent(lambda _: agent), GatewayOptions(max_running_turns=4)
        )
        gateway.add(self.channel)
        self.gateway = await self.stack.enter_async_context(gateway)
        self.running = asyncio.create_task(self.gateway.run())
        await self.channel.until(lambda channel: channel.deliver is not None)

    async def crash(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.stack.aclose()

    async def until_quiet(self) -> None:
        self.model.open = True
        self.channel.arrived.set()
        try:
            async with asyncio.timeout(BOUND):
                while self.gateway.dispatcher.running() or self.row_states(READABLE)["waiting"] or self.undelivered():
                    self.model.permits.put_nowait("words")
                    await asyncio.sleep(0.002)
        except TimeoutError as error:
            turns = self._sql(
                "SELECT session, kind, state, parked, deadline, delivered, worker, epoch, reason FROM turns"
            )
            error.add_note(f"running {self.gateway.dispatcher.running()}, inbox {self.rows()}, turns {turns}")
            raise
        self.model.open = False
        self.channel.arrived.clear()

    def row_states(self, which: str = "TRUE") -> Counter[str]:
        """Read from the database itself, so that the store under test is not asked about itself."""
        return Counter(dict(self._sql(f"SELECT state, count(*) FROM inbox WHERE {which} GROUP BY state")))

    def undelivered(self) -> int:
        ((number,),) = self._sql("SELECT count(*) FROM turns WHERE NOT delivered")
        return int(number)

    def parked(self) -> list[str]:
        """Where a turn waits for people."""
        return [session for (session,) in self._sql("SELECT session FROM turns WHERE parked AND state = 'running'")]

    def rows(self) -> list[tuple[int, str, str, str]]:
        """The inbox: id, session, kind and state of each row."""
        return self._sql("SELECT id, session, kind, state FROM inbox ORDER BY id")

    async def turns(self) -> list[Turn]:
        return [await self.store.turn(id) for (id,) in self._sql("SELECT id FROM turns ORDER BY number")]

    def _sql(self, statement: str) -> list[Any]:
        return engines.sql(self.database, statement)


class SessionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.world = World(Path(self.folder.name))
        self.said: list[InboundMessage] = []
        self.events = 0
        self.runner.run(self.world.start())

    def _deliver(
        self, kind: MessageKind, text: str, message_id: str, command: str | None = None, address: Address = PLACE
    ) -> None:
        self._hand_over(self._make(kind, text, message_id, command, address))

    def _make(
        self,
        kind: MessageKind,
        text: str,
        message_id: str,
        command: str | None = None,
        address: Address = PLACE,
        files: tuple[FileRef, ...] = (),
    ) -> InboundMessage:
        self.events += 1
        message = InboundMessage(
            event_id=str(self.events),
            address=address,
            sender=ANN,
            sent_at=datetime.now(UTC),
            kind=kind,
            message_id=message_id,
            text=text,
            command=command,
            files=files,
            thread_root="begun" if address is THREAD else None,
        )
        self.said.append(message)
        return message

    def _hand_over(self, *messages: InboundMessage) -> None:
        async def deliver() -> None:
            async with asyncio.timeout(BOUND):
                accepted = await asyncio.gather(*map(self.world.gateway.bus.deliver, messages))
            assert None not in accepted

        self.runner.run(deliver())

    def _breathe(self, turns: int) -> None:
        async def breathe() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.runner.run(breathe())

    @rule(turns=st.integers(0, 30), address=PLACES)
    def something_is_said(self, turns: int, address: Address) -> None:
        self._deliver("new", f"words {self.events}", f"m{self.events}", address=address)
        self._breathe(turns)

    @rule(ref=st.sampled_from(["here", "gone"]), address=PLACES)
    def a_file_is_sent(self, ref: str, address: Address) -> None:
        files = (FileRef(ref, f"{ref}.txt"),)
        self._hand_over(self._make("new", f"words {self.events}", f"m{self.events}", None, address, files))

    @rule(turns=st.integers(0, 30))
    def files_arrive(self, turns: int) -> None:
        self.world.channel.arrived.set()
        self._breathe(turns)
        self.world.channel.arrived.clear()

    @rule(
        kinds=st.lists(
            st.sampled_from(["new", "new", "file", "stop", "anew", "status", "withdrawn"]), min_size=2, max_size=5
        )
    )
    def several_things_come_at_once(self, kinds: list[str]) -> None:
        self._hand_over(*[self._one_of_several(kind) for kind in kinds])

    def _one_of_several(self, kind: str) -> InboundMessage:
        match kind:
            case "withdrawn" if self.events:
                return self._make("withdrawn", "", f"m{self.events - 1}")
            case "new" | "withdrawn":
                return self._make("new", f"words {self.events}", f"m{self.events}")
            case "file":
                files = (FileRef("here", "here.txt"),)
                return self._make("new", f"words {self.events}", f"m{self.events}", files=files)
            case _:
                return self._make("command", "", f"m{self.events}", command={"anew": "new"}.get(kind, kind))

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def an_event_comes_twice(self, data: st.DataObject) -> None:
        self._hand_over(data.draw(st.sampled_from(self.said)))

    @precondition(lambda self: self.said)
    @rule(data=st.data(), same=st.booleans())
    def a_message_is_edited(self, data: st.DataObject, same: bool) -> None:
        message = data.draw(st.sampled_from(self.said))
        text = message.text if same else f"other {self.events}"
        self._deliver("edited", text, message.message_id or "", address=message.address)

    @precondition(lambda self: self.said)
    @rule(data=st.data())
    def a_message_is_withdrawn(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.said))
        self._deliver("withdrawn", "", message.message_id or "", address=message.address)

    @rule(address=PLACES)
    def somebody_stops(self, address: Address) -> None:
        self._deliver("command", "", f"m{self.events}", "stop", address)

    @rule(number=st.integers(1, 4))
    def the_stop_button_of_one_of_the_last_replies_is_pressed(self, number: int) -> None:
        last = [(reply.id, reply.address) for reply in self.world.memory.values()][-number:]
        id, address = last[0] if last else ("0" * 32, PLACE)
        self._deliver("command", id, "pressed", "stop", address)

    @rule(address=PLACES)
    def somebody_begins_anew(self, address: Address) -> None:
        self._deliver("command", "", f"m{self.events}", "new", address)

    @rule(what=st.sampled_from(["wrap", "undo", "retry", "btw"]), address=PLACES)
    def something_is_asked_of_the_gateway(self, what: str, address: Address) -> None:
        self._deliver("command", "and so on", f"m{self.events}", what, address)

    @rule(word=st.sampled_from(["yes", "no", "always"]), address=PLACES)
    def something_is_said_that_may_decide(self, word: str, address: Address) -> None:
        self._deliver("new", word, f"m{self.events}", address=address)

    @rule(how=st.sampled_from(["queue", "steer"]), address=PLACES)
    def something_is_said_that_says_how_to_be_read(self, how: str, address: Address) -> None:
        self._deliver("command", f"words {self.events}", f"m{self.events}", how, address)

    @rule(how=st.sampled_from(["steer", "queue", "collect", "interrupt"]), address=PLACES)
    def the_manner_is_chosen(self, how: str, address: Address) -> None:
        self._deliver("command", how, f"m{self.events}", "busy", address)

    @rule(numbers=st.lists(st.integers(0, 2), min_size=1, max_size=2))
    def options_are_pressed(self, numbers: list[int]) -> None:
        """Of whatever question is shown, open or not."""
        asked = [
            (segment.key, reply.address)
            for reply in self.world.memory.values()
            for segment in reply.segments
            if isinstance(segment, QuestionSegment)
        ]
        key, address = asked[-1] if asked else ("q:none", PLACE)
        self._hand_over(*(self._make("command", f"{key} {number}", "pressed", "answer", address) for number in numbers))

    @rule(wish=st.sampled_from(["words", "calls", "question", "risk", "task"]), turns=st.integers(0, 60))
    def the_model_goes_on(self, wish: Wish, turns: int) -> None:
        self.world.model.permits.put_nowait(wish)
        self._breathe(turns)

    @rule()
    def the_gateway_crashes_and_starts_again(self) -> None:
        async def again() -> None:
            await self.world.crash()
            await self.world.start()

        self.runner.run(again())

    @rule()
    def all_becomes_quiet(self) -> None:
        self.runner.run(self.world.until_quiet())

    @invariant()
    def no_row_is_lost(self) -> None:
        assert sum(self.world.row_states(OF_PEOPLE).values()) == len(self.said)

    def teardown(self) -> None:
        try:
            self.runner.run(self.world.until_quiet())
            for address in (PLACE, THREAD):
                if session_key(address) in self.world.parked():
                    # Said so, it goes on whatever the conversation's busy mode is.
                    self._deliver("command", "this", f"m{self.events}", "steer", address)
                    self.runner.run(self.world.until_quiet())
            self.runner.run(self._check())
        finally:
            self.runner.run(self.world.crash())
            self.runner.close()
            engines.remove(self.world.database)
            self.folder.cleanup()

    async def _check(self) -> None:
        states = self.world.row_states()
        assert states["waiting"] == 0, states
        assert sum(self.world.row_states(OF_PEOPLE).values()) == len(self.said)
        turns = await self.world.turns()
        read = [turn for turn in turns if turn.kind == "turn"]
        hearings = [entry for turn in read for entry in turn.entries if isinstance(entry, MessagesRead)]
        heard = [[said.id for said in entry.messages] for entry in hearings]
        assert all(ids == sorted(ids) for ids in heard), "in the order of arrival"
        once = Counter(id for ids in heard for id in ids)
        assert set(once.values()) <= {1}, "read once each"
        assert len(once) == states["consumed"]
        for turn in turns:
            assert [type(entry) for entry in turn.entries].count(Ended) == 1
            assert isinstance(turn.entries[-1], Ended)
            calls = [call.id for entry in turn.entries if isinstance(entry, ModelAnswered) for call in entry.calls]
            ends = Counter(entry.call_id for entry in turn.entries if isinstance(entry, CallEnded))
            assert ends == Counter(calls), "one result for each call"
            assert is_child(turn.session) or self.world.memory[turn.id].done, "every reply was shown to its end"
        assert set(self.world.memory) == {turn.id for turn in turns if not is_child(turn.session)}
        for address in (PLACE, THREAD):
            screen = (await read_history(self.world.gateway, session_key(address), 1000)).items
            shown = [item.reply.id if item.kind == "reply" else item.id for item in screen]
            assert Counter(shown).total() == len(set(shown)), "each message and each reply once"
        self._check_interruptions(turns)
        if self.world.worker == 1:
            await self._check_marks(turns)

    def _check_interruptions(self, turns: list[Turn]) -> None:
        rows = self.world.rows()
        for turn in turns:
            if turn.entries[-1] == Ended("stopped", REPLACED):
                last = max(
                    said.id for entry in turn.entries if isinstance(entry, MessagesRead) for said in entry.messages
                )
                assert any(id > last and session == turn.session and kind == "new" for id, session, kind, _ in rows)

    async def _check_marks(self, turns: list[Turn]) -> None:
        """What is shown on a message, if anything, is what became of it: the end of the turn that has read it."""
        outcomes = {
            said.id: message_state(ended)
            for turn in turns
            for entry in turn.entries
            if isinstance(entry, MessagesRead) and isinstance(ended := turn.entries[-1], Ended)
            for said in entry.messages
        }
        ends = {
            id: outcomes.get(id, "answered") if state == "consumed" else state
            for id, _, kind, state in self.world.rows()
            if kind in ("new", "edited")
        }

        def settled(channel: MemoryChannel) -> bool:
            shown = {mark.id: mark.state for mark in channel.statuses if mark.id in ends}
            return all(ends[id] == state for id, state in shown.items())

        async with asyncio.timeout(BOUND):
            await self.world.channel.until(settled)


EXAMPLES = {"sqlite": 60, "postgresql": 10}


@pytest.mark.engines
def test_two_sessions_under_every_interleaving(engine: Kind) -> None:
    run_machine(SessionMachine, examples=EXAMPLES[engine], steps=25)
