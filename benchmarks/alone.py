"""The turn loop by itself, each measure in a process of its own: `python -m benchmarks.alone MEASURE ROUNDS`.

Prints what was measured as JSON: for each name the single values, times in milliseconds and memory in KiB.
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
from gateway.turns.journal import InboxSignal, TurnJournal
from tests.gateway.notes import begin, tell

Found = dict[str, list[float]]

STEPS = 200
BLOCK = 20
"""Steps that are timed together: one alone is too short for the clock."""

PAST_TURNS = 500
TOGETHER = 500
LONG_TURNS = 20
"""Long turns held in memory at once, so that what one of them takes is not lost in the pages of the whole process."""

PATIENCE = 60.0
"""Seconds after which turns that do not end count as broken."""

RESULT = "A line of what a tool may well find in a file or on a page, of which there are a few.\n" * 12
"""About a thousand characters."""


@tool(effect="read")
async def look(context: ToolContext, number: int) -> str:
    """Looks."""
    return f"{number}: {RESULT}"


class Worker:
    """A model that asks for a call in each of so many steps, and then has done.

    `asked` are the process's times at its requests, the last one included. Where there is a `gate`, the last request
    waits for it.
    """

    def __init__(self, steps: int, gate: asyncio.Event | None = None) -> None:
        self.asked: list[float] = []
        self.at_gate = asyncio.Event()
        self._steps = steps
        self._access = gate

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        self.asked.append(time.process_time())
        step = len(self.asked)
        if step <= self._steps:
            call = Call("", "look", json.dumps({"number": step}))
            return Answer((Text("Let me look further."), call), Usage(1000, 20), "calls", "worker")
        if self._access is not None:
            self.at_gate.set()
            await self._access.wait()
        return Answer((Text("That is all there is."),), Usage(1000, 20), model="worker")


async def _unseen(event: Event) -> None:
    """Nobody watches."""


def _turn(worker: Worker, journal: Journal, heard: Sequence[Entry] = (), past: Sequence[RenderedTurn] = ()) -> Turn:
    """With all that a turn of the gateway has, and a context that never fills."""
    context = Compactor(100_000_000, worker)
    agent = Agent(worker, MemoryMedia(), Path(), (look,), "Be good.", max_steps=2 * STEPS, context=context)
    return Turn(agent, journal, _unseen, id="0123456789ab", entries=heard, past=past)


def _past() -> list[RenderedTurn]:
    """Turns with a call each."""
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


def _told() -> MemoryJournal:
    journal = MemoryJournal()
    journal.say("Look at all of it.")
    return journal


@asynccontextmanager
async def _in_memory() -> AsyncIterator[tuple[Journal, Sequence[Entry]]]:
    yield _told(), ()


@asynccontextmanager
async def _in_store() -> AsyncIterator[tuple[Journal, Sequence[Entry]]]:
    with tempfile.TemporaryDirectory(prefix="interject-benchmark-") as folder:
        async with open_store(f"sqlite:///{folder}/interject.db") as store:
            await tell(store, "Look at all of it.")
            turn = await begin(store)
            yield TurnJournal(store, turn, InboxSignal()), turn.entries


def _block(asked: Sequence[float], first: int) -> float:
    """Milliseconds of processor time for each of the steps from `first` on."""
    return 1000 * (asked[first + BLOCK] - asked[first]) / BLOCK


async def steps(rounds: int) -> Found:
    """What a step costs: at the beginning of a turn, at its end, and behind a long past."""
    past = _past()
    found: Found = {}
    for _ in range(rounds):
        found.setdefault("bare", []).append(await _bare())
        for where, journal in (("memory", _in_memory), ("store", _in_store)):
            for behind, turns in (("", ()), (", long past", past)):
                async with journal() as (opened, heard):
                    worker = Worker(STEPS)
                    await _turn(worker, opened, heard, turns).run()
                # The first step of a turn reads its past and counts it, once.
                found.setdefault(f"{where}, early{behind}", []).append(_block(worker.asked, 1))
                found.setdefault(f"{where}, late{behind}", []).append(_block(worker.asked, STEPS - BLOCK))
    return found


async def _bare() -> float:
    """The model called as often, by nobody in particular."""
    worker = Worker(STEPS)
    request = Request("Be good.", [MessagesRead(1, (UserMessage(1, "Ann", "Look at all of it."),))], (look.spec,))

    async def ignore(_: object) -> None:
        pass

    for _ in range(STEPS + 1):
        await worker.answer(request, ignore)
    return statistics.mean(_block(worker.asked, first) for first in range(0, STEPS, BLOCK))


async def memory(rounds: int) -> Found:
    """What a turn of many steps holds while its last answer is waited for; once, as memory is used again after that."""
    await _held(LONG_TURNS, 2)
    return {"a turn": [(await _held(LONG_TURNS, STEPS))[0]]}


async def crowd(rounds: int) -> Found:
    """Turns of three steps at once, all of them waiting for their last answer in the same moment."""
    await _held(10, 2)
    measured = [await _held(TOGETHER, 2) for _ in range(rounds)]
    return {
        # The first only: the others use its memory again.
        "a turn": [measured[0][0]],
        "cpu": [cpu for _, cpu, _ in measured],
        "wall": [wall for *_, wall in measured],
    }


async def _held(count: int, steps: int) -> tuple[float, float, float]:
    """What so many turns that wait for their last answer together take: KiB for each of them, milliseconds of
    processor time for each, and milliseconds until all have ended."""
    gate = asyncio.Event()
    workers = [Worker(steps, gate) for _ in range(count)]
    gc.collect()
    before, used, started = _resident(), time.process_time(), time.perf_counter()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        running = [group.create_task(_turn(worker, _told()).run()) for worker in workers]
        for worker in workers:
            await worker.at_gate.wait()
        held = _resident() - before
        gate.set()
    assert all(task.result() == Ended("completed") for task in running)
    cpu, wall = time.process_time() - used, time.perf_counter() - started
    return held / count, 1000 * cpu / count, 1000 * wall


def _resident() -> float:
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1024


MEASURES: Mapping[str, Callable[[int], Awaitable[Found]]] = {"steps": steps, "memory": memory, "crowd": crowd}


async def _measure(name: str, rounds: int) -> Found:
    return await MEASURES[name](rounds)


if __name__ == "__main__":
    json.dump(asyncio.run(_measure(sys.argv[1], int(sys.argv[2]))), sys.stdout)
