"""The cost of the turn loop by itself, and the delay of an interjection for each kind of running work."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.events import OnDelta, TextDelta
from agent.log import Call, MessagesRead, Text
from agent.loop.tool_calls import BACKGROUND_GRACE
from agent.model import Answer, Request
from agent.tool import Approval, Effect, OnSteer, ToolContext, tool
from agent.tools.delegate import delegate
from benchmarks.commands import commands
from benchmarks.contenders import ROOT, TIMEOUT, Failed
from benchmarks.loop_process import CONCURRENT_TURNS, LONG_TURNS, STEPS
from benchmarks.mcp_calls import mcp_calls
from benchmarks.meter import percentile
from benchmarks.rendering import rendering
from benchmarks.scenarios import Bench, Scenario
from benchmarks.table import FLOOR, Row, Target, Unit
from channels.memory import MemoryChannel
from tests.gateway.play import PLACE, Play, playing

EARLY = "steps 2 to 21"
LATE = f"the last 20 of {STEPS}"


async def steps(bench: Bench) -> list[Row]:
    """CPU per step: with a journal in memory and with the store, early and late in a long turn, after a long past."""
    found = await _measure(bench, "steps", bench.sizes.loop_rounds)
    bare = statistics.median(found["bare"])

    def row(name: str, key: str, *targets: Target) -> Row:
        details = {"": found[key], FLOOR: found["bare"]}
        return Row(name, "ms", statistics.median(found[key]), {FLOOR: bare}, targets, details)

    target, with_store = Target(1, FLOOR, more=1), Target(1.2)
    return [
        row(f"CPU per step, {EARLY}", "memory, early", target),
        row(f"… {LATE}", "memory, late", target),
        row(f"… {EARLY}, after 500 turns", "memory, early, long past", target),
        row(f"… {LATE}, after 500 turns", "memory, late, long past", target),
        row(f"CPU per step with the store, {EARLY}", "store, early", with_store),
        row(f"… {LATE}", "store, late", with_store),
        row(f"… {LATE}, after 500 turns", "store, late, long past", with_store),
    ]


async def turns(bench: Bench) -> list[Row]:
    """The memory of long turns, and many concurrent turns."""
    long = [(await _measure(bench, "memory", 1))["a turn"][0] for _ in range(bench.sizes.loop_rounds)]
    many = await _measure(bench, "crowd", bench.sizes.loop_rounds)
    one = statistics.median(long)

    def row(name: str, unit: Unit, found: list[float]) -> Row:
        return Row(name, unit, statistics.median(found), details={"": found})

    return [
        row(f"memory of a turn with {STEPS} steps ({LONG_TURNS} at once)", "KiB", long),
        row("… for each step", "KiB", [one / STEPS]),
        row(f"{CONCURRENT_TURNS} turns of 3 steps at once, until all have ended", "ms", many["wall"]),
        row("… CPU per turn", "ms", many["cpu"]),
        row("… memory per turn", "KiB", many["a turn"]),
    ]


async def _measure(bench: Bench, measure: str, rounds: int) -> dict[str, list[float]]:
    """Runs `benchmarks.loop_process` and returns its measurements."""
    command = (sys.executable, "-m", "benchmarks.loop_process", measure, str(rounds))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    output, _ = await process.communicate()
    if process.returncode:
        raise Failed(f"benchmarks.loop_process {measure} ended with code {process.returncode}")
    found: dict[str, list[float]] = json.loads(output)
    bench.log(", ".join(f"{name} {statistics.median(values):.2f}" for name, values in found.items()))
    return found


@dataclass(frozen=True, slots=True)
class Busy:
    """A kind of running work: the word that starts it, and the seconds of grace that it has after an interjection."""

    name: str
    word: str
    grace: float = 0.0


BUSY = (
    Busy("steering, while the model streams, p50", "stream"),
    Busy("… while a tool reads, which is cancelled", "read"),
    Busy("… while a tool writes, from its end on", "write"),
    Busy("… while an approval is pending", "risky"),
    Busy("… a tool moves to the background, beyond the second of grace", "background", BACKGROUND_GRACE),
    Busy("… a delegated task moves there, beyond that second", "delegate", BACKGROUND_GRACE),
)


async def interjections(bench: Bench) -> list[Row]:
    """From a message to the request in which the model reads it, for each kind of running work."""
    model, folder = BusyModel(), bench.new_home()
    await asyncio.to_thread(folder.mkdir)
    rows: list[Row] = []
    async with playing(folder, model, *model.tools, bound=300.0) as play:
        for number in range(5):
            await _interject(play, model, BUSY[0], f"warm-up-{number}")
        for busy in BUSY:
            count = bench.sizes.late_interjections if busy.grace else bench.sizes.interjections
            found = [await _interject(play, model, busy, str(number)) for number in range(count)]
            bench.log(f"{busy.word}: {percentile(found, 0.5):.1f} ms")
            rows.append(Row(busy.name, "ms", percentile(found, 0.5), {}, (Target(50),), {"": found}))
    return rows


async def _interject(play: Play, model: BusyModel, busy: Busy, place: str) -> float:
    """Interjects while the model or a tool is busy; returns the milliseconds, without the grace."""
    address = replace(PLACE, chat=f"{busy.word}-{place}")
    text = f"rather {address.chat}"
    try:
        async with asyncio.timeout(TIMEOUT):
            await play.say(f"{busy.word} {place}", address=address)
            await (play.channel.until(_is_parked) if busy.word == "risky" else model.until_busy())
            await asyncio.sleep(0.05)  # the progress shown so far is sent first
            read = model.expect(text)
            start = time.perf_counter()
            await play.say(text, address=address)
            if busy.word == "write":
                start = time.perf_counter()
                model.finish()
            return 1000 * (await read - start - busy.grace)
    except TimeoutError as error:
        raise Failed(f"no request had {text!r} in time") from error


def _is_parked(channel: MemoryChannel) -> bool:
    return any(reply.parked for reply in channel.replies.values())


class BusyModel:
    """A model that keeps itself or a tool busy if a message asks for it, and answers any other message."""

    def __init__(self) -> None:
        self._busy = asyncio.Event()
        self._end = asyncio.Event()
        self._expected: dict[str, asyncio.Future[float]] = {}

        async def work(context: ToolContext) -> str:
            """Works until `finish` is called."""
            self._busy.set()
            await self._end.wait()
            return "done"

        read, write, background, risky = (
            replace(tool(effect=effect, on_steer=on_steer)(work), name=name, approval=approval)
            for name, effect, on_steer, approval in _POLICIES
        )
        self.tools = (read, write, background, risky, delegate)

    async def until_busy(self) -> None:
        await self._busy.wait()
        self._busy.clear()

    def finish(self) -> None:
        """Ends the running tools."""
        self._end.set()
        self._end = asyncio.Event()

    def expect(self, text: str) -> asyncio.Future[float]:
        """The time at which the model reads this text, in seconds of the performance counter."""
        self._expected[text] = asyncio.get_running_loop().create_future()
        return self._expected[text]

    async def answer(self, request: Request, on_delta: OnDelta) -> Answer:
        read = [part for part in request.transcript if isinstance(part, MessagesRead)]
        newest = read[-1].messages[-1].text
        expected = self._expected.pop(newest, None)
        if expected is not None:
            expected.set_result(time.perf_counter())
        if isinstance(request.transcript[-1], MessagesRead):
            return await self._start_work(newest.split()[0], on_delta)
        return Answer((Text("Done."),))

    async def _start_work(self, word: str, on_delta: OnDelta) -> Answer:
        match word:
            case "stream" | "child":
                await on_delta(TextDelta("Let me think about it."))
                self._busy.set()
                await asyncio.Event().wait()
            case "delegate":
                return Answer((Call("", "delegate", '{"task": "child"}'),), finish="calls")
            case "read" | "write" | "background" | "risky":
                return Answer((Call("", word, "{}"),), finish="calls")
        return Answer((Text("As you like."),))


_POLICIES: tuple[tuple[str, Effect, OnSteer, Approval], ...] = (
    ("read", "read", "cancel", "never"),
    ("write", "write", "finish", "never"),
    ("background", "external", "background", "never"),
    ("risky", "external", "finish", "always"),
)

LOOP: Mapping[str, Scenario] = {
    "steps": steps,
    "turns": turns,
    "interjections": interjections,
    "commands": commands,
    "rendering": rendering,
    "mcp": mcp_calls,
}
