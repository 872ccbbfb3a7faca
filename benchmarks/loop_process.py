"""The process that measures the turn loop by itself: `python -m benchmarks.loop_process MEASURE ROUNDS`.

Prints the measurements as JSON: a list of values for each name, times in milliseconds and memory in KiB.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without types

from agent.agent import Agent
from agent.context.compaction import Compactor
from agent.events import Event, OnDelta
from agent.journal import Journal
from agent.log import Call, CallEnded, CallStarted, Ended, Entry, MessagesRead, ModelAnswered, Text, Usage, UserMessage
from agent.loop.memory_journal import MemoryJournal
from agent.loop.turn import Turn
from agent.model import Answer, Request
from agent.testing import MemoryMedia
from agent.tool import ToolContext, tool
from agent.transcript import RenderedTurn, transcript
from gateway.store import open_store
from gateway.turns.audited_calls import AuditedCalls
from gateway.turns.journal import InboxSignal, TurnJournal
from tests.gateway.notes import begin, tell

Values = dict[str, list[float]]

STEPS = 200
BLOCK = 20
"""Steps that are timed together: one alone is too short for the clock."""

PAST_TURNS = 500
CONCURRENT_TURNS = 500
LONG_TURNS = 20
"""Long turns held in memory at once, so that the memory of one is measurable in that of the whole process."""

TIMEOUT = 60.0
"""Seconds after which a turn that has not ended counts as failed."""

RESULT = "A line of what a tool may well find in a file or on a page, of which there are a few.\n" * 12
"""About a thousand characters."""


@tool(effect="read")
async def look(context: ToolContext, number: int) -> str:
    """Looks."""
    return f"{number}: {RESULT}"


class ToolLoopModel:
    """A model that makes one tool call in each of `steps` steps and then ends the turn.

    `request_times` are in processor seconds, the last request included. With a `gate`, the last request waits for it.
    """

    def __init__(self, steps: int, gate: asyncio.Event | None = None) -> None:
        self.request_times: list[float] = []
        self.at_gate = asyncio.Event()
        self._steps = steps
        self._gate = gate

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        self.request_times.append(time.process_time())
        step = len(self.request_times)
        if step <= self._steps:
            call = Call("", "look", json.dumps({"number": step}))
            return Answer((Text("Let me look further."), call), Usage(1000, 20), "calls", "worker")
        if self._gate is not None:
            self.at_gate.set()
            await self._gate.wait()
        return Answer((Text("That is all there is."),), Usage(1000, 20), model="worker")


async def _ignore(event: Event) -> None:
    """Ignores the event."""


def _turn(
    model: ToolLoopModel, journal: Journal, entries: Sequence[Entry] = (), past: Sequence[RenderedTurn] = ()
) -> Turn:
    """A turn with everything that a turn of the gateway has, and a context that never fills."""
    compactor = Compactor(100_000_000, model)
    agent = Agent(model, MemoryMedia(), Path(), (look,), "Be good.", max_steps=2 * STEPS, compactor=compactor)
    return Turn(agent, journal, _ignore, id="0123456789ab", entries=entries, past=past)


def _past() -> list[RenderedTurn]:
    """Past turns with one call each."""
    return [RenderedTurn(str(number), tuple(transcript(_past_turn(f"p{number}")))) for number in range(PAST_TURNS)]


def _past_turn(id: str) -> tuple[Entry, ...]:
    return (
        MessagesRead(1, (UserMessage(1, "Ann", f"What is there to be seen in {id}?"),)),
        ModelAnswered(1, (Text("I look."), Call(id, "look", '{"number": 1}'))),
        CallStarted(id),
        CallEnded(id, "done", RESULT),
        ModelAnswered(2, (Text("A few lines, and all of them alike."),)),
        Ended("completed"),
    )


def _new_journal() -> MemoryJournal:
    journal = MemoryJournal()
    journal.say("Look at all of it.")
    return journal


@asynccontextmanager
async def _in_memory() -> AsyncIterator[tuple[Journal, Sequence[Entry]]]:
    yield _new_journal(), ()


@asynccontextmanager
async def _in_store() -> AsyncIterator[tuple[Journal, Sequence[Entry]]]:
    with tempfile.TemporaryDirectory(prefix="interject-benchmark-") as folder:
        async with open_store(f"sqlite:///{folder}/interject.db") as store:
            await tell(store, "Look at all of it.")
            turn = await begin(store)
            yield TurnJournal(store, turn, InboxSignal(), AuditedCalls(turn, ())), turn.entries


def _block(times: Sequence[float], first: int) -> float:
    """Milliseconds of processor time per step, for a block of steps from `first` on."""
    return 1000 * (times[first + BLOCK] - times[first]) / BLOCK


async def steps(rounds: int) -> Values:
    """The cost of a step: at the beginning of a turn, at its end, and after a long past."""
    past = _past()
    values: Values = {}
    for _ in range(rounds):
        values.setdefault("bare", []).append(await _bare())
        for where, journal in (("memory", _in_memory), ("store", _in_store)):
            for behind, turns in (("", ()), (", long past", past)):
                async with journal() as (opened, entries):
                    model = ToolLoopModel(STEPS)
                    await _turn(model, opened, entries, turns).run()
                # Not the first step of a turn: it reads its past and counts its tokens, once.
                values.setdefault(f"{where}, early{behind}", []).append(_block(model.request_times, 1))
                values.setdefault(f"{where}, late{behind}", []).append(_block(model.request_times, STEPS - BLOCK))
    return values


async def _bare() -> float:
    """The model called as often, without the loop."""
    model = ToolLoopModel(STEPS)
    request = Request("Be good.", [MessagesRead(1, (UserMessage(1, "Ann", "Look at all of it."),))], (look.spec,))

    async def ignore(_: object) -> None:
        pass

    for _ in range(STEPS + 1):
        await model.answer(request, ignore)
    return statistics.mean(_block(model.request_times, first) for first in range(0, STEPS, BLOCK))


async def memory(rounds: int) -> Values:
    """The memory of a turn of many steps while it waits for its last answer; measured once, as memory is reused."""
    await _held(LONG_TURNS, 2)
    return {"a turn": [(await _held(LONG_TURNS, STEPS))[0]]}


async def crowd(rounds: int) -> Values:
    """Concurrent turns of three steps, all of them waiting for their last answer at the same time."""
    await _held(10, 2)
    measured = [await _held(CONCURRENT_TURNS, 2) for _ in range(rounds)]
    return {
        # Only the first: the others reuse its memory.
        "a turn": [measured[0][0]],
        "cpu": [cpu for _, cpu, _ in measured],
        "wall": [wall for *_, wall in measured],
    }


async def _held(count: int, steps: int) -> tuple[float, float, float]:
    """Runs `count` turns that wait for their last answer at the same time. Returns KiB per turn, milliseconds of
    processor time per turn, and milliseconds until all have ended."""
    gate = asyncio.Event()
    models = [ToolLoopModel(steps, gate) for _ in range(count)]
    gc.collect()
    before, used, started = _resident(), time.process_time(), time.perf_counter()
    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
        running = [group.create_task(_turn(model, _new_journal()).run()) for model in models]
        for model in models:
            await model.at_gate.wait()
        held = _resident() - before
        gate.set()
    assert all(task.result() == Ended("completed") for task in running)
    cpu, wall = time.process_time() - used, time.perf_counter() - started
    return held / count, 1000 * cpu / count, 1000 * wall


def _resident() -> float:
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1024


MEASURES: Mapping[str, Callable[[int], Awaitable[Values]]] = {"steps": steps, "memory": memory, "crowd": crowd}


async def _measure(name: str, rounds: int) -> Values:
    return await MEASURES[name](rounds)


if __name__ == "__main__":
    json.dump(asyncio.run(_measure(sys.argv[1], int(sys.argv[2]))), sys.stdout)
