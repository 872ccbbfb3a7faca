"""The scenarios, one function each. Each starts its own contenders and measures them alternately."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from benchmarks.contenders import FLOORS, GATEWAY, KINDS, Contender, Kind, Setup, model_server, start
from benchmarks.meter import commits_in, percentile
from benchmarks.table import Row, Target, Unit
from tests.servers.models import Call, ModelServer, Pause, Request, Say, Turn
from tests.servers.telegram import Chat

LogLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of repetitions. Of the databases: log `entries` of the large one. Of the workers: how many there are,
    `conversations` that all of them have at once, `load_seconds` of each load, messages per second of the steady one
    (`steady_rate`), how many turns are `steered`, and how often a worker is killed with a short lease (`fail_overs`)
    and the default one."""

    starts: int = 5
    messages: int = 200
    rounds: int = 10
    busy_rounds: int = 2
    busy_messages: int = 3
    slow_rounds: int = 2
    long_chats: int = 3
    long_floors: bool = True
    interjections: int = 15
    loop_rounds: int = 3
    late_interjections: int = 4
    entries: int = 10_000_000
    store_rounds: int = 400
    workers: tuple[int, ...] = (1, 2, 3)
    conversations: int = 300
    load_seconds: float = 20.0
    steady_rate: float = 10.0
    steered: int = 20
    fail_overs: int = 4
    long_fail_overs: int = 1
    deploys: int = 3


QUICK = Sizes(2, 40, 2, 1, 1, 1, 1, False, 3, 2, 2, 200_000, 100, (1, 2, 3), 150, 6.0, 10.0, 5, 2, 0, 1)


@dataclass(slots=True)
class Bench:
    """The environment of a scenario. `kinds` are the contenders to measure, `home` is a working directory."""

    home: Path
    log: LogLine
    sizes: Sizes = field(default_factory=Sizes)
    kinds: Sequence[Kind] = KINDS
    gateway: Sequence[str] = GATEWAY
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_home(self) -> Path:
        return self.home / str(next(self._numbers))

    def setup(self, model_url: str) -> Setup:
        return Setup(model_url, self.gateway)

    @asynccontextmanager
    async def contenders(self, setup: Setup) -> AsyncIterator[Sequence[Contender]]:
        """The contenders to measure, started and polling."""
        async with AsyncExitStack() as stack:
            found: list[Contender] = []
            for kind in self.kinds:
                contender = await stack.enter_async_context(start(kind, setup, self.new_home()))
                await contender.first_poll()
                found.append(contender)
            yield found


SDK, BARE = FLOORS
AS_QUICK = (Target(1.5, BARE, more=3),)
AS_CHEAP = (Target(1, SDK), Target(2, BARE))

Scenario = Callable[[Bench], Awaitable[list[Row]]]
Values = dict[Kind, list[float]]


async def starts(bench: Bench) -> list[Row]:
    """From the spawn of the process to its first getUpdates."""
    values: Values = {kind: [] for kind in bench.kinds}
    homes = {kind: bench.new_home() for kind in bench.kinds}
    async with model_server(0) as model_url:
        for number in range(bench.sizes.starts):
            for kind in bench.kinds:
                async with start(kind, bench.setup(model_url), homes[kind]) as contender:
                    values[kind].append(await contender.first_poll())
            bench.log(f"start {number + 1} of {bench.sizes.starts}: {_shown(values, -1, 's')}")
    best = {kind: min(seconds) for kind, seconds in values.items()}
    first = {kind: seconds[0] for kind, seconds in values.items()}
    return [
        _row(f"start to first poll, best of {bench.sizes.starts}", "s", best, (Target(0.5),), values),
        _row("the first start, in an empty directory", "s", first),
    ]


async def latency(bench: Bench) -> list[Row]:
    """One chat at a time: the time until each answer, and its processor time."""
    sizes = bench.sizes
    values: Values = {kind: [] for kind in bench.kinds}
    used: Values = {kind: [] for kind in bench.kinds}
    each = sizes.messages // sizes.rounds
    async with model_server(0) as model_url, bench.contenders(bench.setup(model_url)) as contenders:
        for contender in contenders:
            await contender.talk(contender.new_chat(), 30)
            await contender.meter.settle()
        for number in range(sizes.rounds):
            for contender in contenders:
                before = contender.meter.cpu()
                values[contender.kind] += [1000 * took for took in await contender.talk(contender.new_chat(), each)]
                await asyncio.sleep(0.2)  # work after the answer counts too
                used[contender.kind].append(1000 * (contender.meter.cpu() - before) / each)
            bench.log(f"round {number + 1} of {sizes.rounds}, CPU a message: {_shown(used, -1, 'ms')}")
    return [
        _row("latency, update to final reply, p50", "ms", _each(values, 0.5), AS_QUICK, values),
        _row("latency, p95", "ms", _each(values, 0.95), AS_QUICK),
        _row(f"CPU per message ({each * sizes.rounds} messages)", "ms", _mean(used), AS_CHEAP, used),
    ]


async def cold(bench: Bench) -> list[Row]:
    """The first reply of a process, in which what a message needs is loaded; and the commits of a plain message."""
    values: Values = {kind: [] for kind in bench.kinds}
    commits: list[float] = []
    async with model_server(0) as model_url:
        for number in range(bench.sizes.starts):
            for kind in bench.kinds:
                home = bench.new_home()
                async with start(kind, bench.setup(model_url), home) as contender:
                    await contender.first_poll()
                    await contender.meter.settle()
                    values[kind] += [1000 * took for took in await contender.talk(contender.new_chat(), 1)]
                    if kind == "gateway":
                        commits.append(await _commits(contender, home))
            bench.log(f"first reply {number + 1} of {bench.sizes.starts}: {_shown(values, -1, 'ms')}")
    best = {kind: min(found) for kind, found in values.items()}
    rows = [_row(f"first reply after the start, best of {bench.sizes.starts}", "ms", best, (Target(150),), values)]
    if commits:
        rows.append(Row("store commits of a plain message", "", min(commits), {}, (Target(4),), {"": commits}))
    return rows


async def _commits(gateway: Contender, home: Path) -> float:
    """The commits of a message in a chat that is known, from its arrival until its answer is recorded as delivered."""
    messages, chat = 5, gateway.new_chat()
    await gateway.talk(chat, 2)
    await gateway.meter.settle()
    before = await asyncio.to_thread(commits_in, home)
    await gateway.talk(chat, messages)
    await gateway.meter.settle()
    return (await asyncio.to_thread(commits_in, home) - before) / messages


async def throughput(bench: Bench) -> list[Row]:
    """200 concurrent chats, in each one message after another."""
    chats, messages = 200, bench.sizes.busy_messages
    values: Values = {kind: [] for kind in bench.kinds}
    used: Values = {kind: [] for kind in bench.kinds}
    async with model_server(0) as model_url, bench.contenders(bench.setup(model_url)) as contenders:
        people = {contender.kind: [contender.new_chat() for _ in range(chats)] for contender in contenders}
        for contender in contenders:
            await contender.talk_all(people[contender.kind][:50], 2)
        for number in range(bench.sizes.busy_rounds):
            for contender in contenders:
                await contender.meter.settle()
                before, started = contender.meter.cpu(), time.perf_counter()
                await contender.talk_all(people[contender.kind], messages)
                values[contender.kind].append(chats * messages / (time.perf_counter() - started))
                used[contender.kind].append(1000 * (contender.meter.cpu() - before) / (chats * messages))
            bench.log(f"round {number + 1} of {bench.sizes.busy_rounds}: {_shown(values, -1, 'messages/s')}")
    targets = (Target(1, SDK, at_least=True), Target(0.5, BARE, at_least=True))
    return [
        _row("throughput with 200 chats", "/s", _mean(values), targets, values),
        _row("CPU per message under that load", "ms", _mean(used), AS_CHEAP, used),
    ]


async def crowd(bench: Bench) -> list[Row]:
    """300 chats write at the same time, and the model takes a second."""
    values: Values = {kind: [] for kind in bench.kinds}
    async with model_server(1) as model_url, bench.contenders(bench.setup(model_url)) as contenders:
        for contender in contenders:
            await contender.talk_all([contender.new_chat() for _ in range(10)], 1)
        for number in range(bench.sizes.slow_rounds):
            for contender in contenders:
                await contender.meter.settle()
                chats = [contender.new_chat() for _ in range(300)]
                started = time.perf_counter()
                await contender.talk_all(chats, 1)
                values[contender.kind].append(time.perf_counter() - started)
            bench.log(f"round {number + 1} of {bench.sizes.slow_rounds}: {_shown(values, -1, 's')}")
    return [_row("300 chats at once with a 1 s model, all answered", "s", _mean(values), (Target(5),), values)]


async def memory(bench: Bench) -> list[Row]:
    """Resident memory at the first poll, when settled after it, and after the first message."""
    readings: dict[str, Values] = {}
    async with model_server(0) as model_url:
        for kind in bench.kinds:
            readings[kind] = {kind: await _idle(kind, bench.setup(model_url), bench)}
        lean: Values = {}
        if "gateway" in bench.kinds:
            lean = {"gateway": await _idle("gateway", replace(bench.setup(model_url), web=False), bench)}
    default = {kind: readings[kind][kind] for kind in bench.kinds}
    return [
        _row("memory at the first poll", "MiB", _nth(default, 0), (Target(72),)),
        _row("idle memory, settled after the start", "MiB", _nth(default, 1), (Target(72),)),
        _row("idle memory after the first message", "MiB", _nth(default, 2), (Target(82),)),
        _row("the same without the web chat", "MiB", _nth(lean, 2)),
    ]


async def _idle(kind: Kind, setup: Setup, bench: Bench) -> list[float]:
    async with start(kind, setup, bench.new_home()) as contender:
        await contender.first_poll()
        found = [contender.meter.memory()]
        await contender.meter.settle()
        found.append(contender.meter.memory())
        await contender.talk(contender.new_chat(), 1)
        await contender.meter.settle()
        found.append(contender.meter.memory())
    bench.log(f"{kind}{'' if setup.web else ' without web chat'}: {', '.join(f'{value:.1f}' for value in found)} MiB")
    return found


async def sessions(bench: Bench) -> list[Row]:
    """The memory that 1,000 answered, idle chats leave behind."""
    added: Values = {}
    peaks: Values = {}
    async with model_server(0) as model_url, bench.contenders(bench.setup(model_url)) as contenders:
        for contender in contenders:
            # Warms up with as many concurrent chats, so that only memory that stays is measured.
            for _ in range(2):
                await _visit(contender, 300)
            await contender.meter.settle()
            before = contender.meter.memory()
            await _visit(contender, 1000)
            await contender.meter.settle()
            added[contender.kind] = [contender.meter.memory() - before]
            peaks[contender.kind] = [contender.meter.peak()]
            bench.log(f"{contender.kind}: {before:.1f} MiB, {added[contender.kind][0]:+.1f}")
    return [
        _row("1,000 idle sessions add", "MiB", _nth(added, 0), (Target(5),)),
        _row("peak memory after 1,600 chats", "MiB", _nth(peaks, 0)),
    ]


async def _visit(contender: Contender, chats: int) -> None:
    """Sends one message in each of that many new chats, fifty at a time."""
    for _ in range(0, chats, 50):
        await contender.talk_all([contender.new_chat() for _ in range(50)], 1)


async def growth(bench: Bench) -> list[Row]:
    """The CPU of a message after 300 others in the same chat, compared with the first ones."""
    firsts: Values = {kind: [] for kind in bench.kinds}
    lasts: Values = {kind: [] for kind in bench.kinds}
    async with model_server(0) as model_url, bench.contenders(bench.setup(model_url)) as contenders:
        for contender in contenders:
            await contender.talk(contender.new_chat(), 30)
            for _ in range(_long_chats(contender.kind, bench.sizes)):
                chat = contender.new_chat()
                firsts[contender.kind].append(await _cost(contender, chat, 20))
                await contender.talk(chat, 270)
                lasts[contender.kind].append(await _cost(contender, chat, 20))
                bench.log(
                    f"{contender.kind}: {firsts[contender.kind][-1]:.1f} ms, later {lasts[contender.kind][-1]:.1f} ms"
                )
    grown = {kind: sum(lasts[kind]) / sum(firsts[kind]) for kind in bench.kinds if firsts[kind]}
    return [
        _row("CPU of messages 290 to 310 of one chat", "ms", _mean(lasts), details=lasts),
        _row("… over that of messages 1 to 20", "x", grown, (Target(1.3),), firsts),
    ]


def _long_chats(kind: Kind, sizes: Sizes) -> int:
    if kind == "gateway":
        return sizes.long_chats
    return 1 if sizes.long_floors else 0


async def _cost(contender: Contender, chat: Chat, messages: int) -> float:
    await contender.meter.settle()
    before = contender.meter.cpu()
    await contender.talk(chat, messages)
    await asyncio.sleep(0.2)
    return 1000 * (contender.meter.cpu() - before) / messages


CHART = Call("draw_chart", {"kind": "bar", "title": "", "series": [{"name": "a", "values": [1, 2, 3]}]})


async def steering(bench: Bench) -> list[Row]:
    """From a person's interjection to the request in which the model reads it."""
    if "gateway" not in bench.kinds:
        return []
    async with ModelServer() as model:
        model.respond(_be_busy)
        async with start("gateway", bench.setup(model.openai_url), bench.new_home()) as gateway:
            await gateway.first_poll()
            await gateway.talk(gateway.new_chat(), 20)
            streaming = await _interject(bench, gateway, model, "stream", _until_held(model))
            drawing = await _interject(bench, gateway, model, "draw", _until_it_draws(gateway))
    targets = (Target(50),)
    return [
        Row("steering, while the model streams, p50", "ms", percentile(streaming, 0.5), {}, targets, {"": streaming}),
        Row("steering, while a tool runs, p50", "ms", percentile(drawing, 0.5), {}, targets, {"": drawing}),
    ]


def _be_busy(request: Request) -> Turn:
    match request.last_user_text.split()[0]:
        case "stream":
            return Say(["Let me think about ", Pause(), "it."])
        case "draw":
            return CHART
        case _:
            return Say(f"You said: {request.last_user_text}")


def _until_held(model: ModelServer) -> Callable[[], Awaitable[object]]:
    return model.until_held


def _until_it_draws(gateway: Contender) -> Callable[[], Awaitable[object]]:
    async def wait() -> None:
        """Waits for the child process that draws the chart."""
        for _ in range(500):
            if gateway.meter.has_children():
                return
            await asyncio.sleep(0.01)
        raise gateway.failure("no chart was started")

    return wait


async def _interject(
    bench: Bench, gateway: Contender, model: ModelServer, task: str, until_busy: Callable[[], Awaitable[object]]
) -> list[float]:
    found: list[float] = []
    chat = gateway.new_chat()
    for number in range(bench.sizes.interjections):
        await chat.say(f"{task} {number}")
        await until_busy()
        await asyncio.sleep(0.3)  # the progress shown so far is sent first
        text = f"{task}ing was interrupted {number}"
        start = time.monotonic()
        asking = asyncio.ensure_future(gateway.ask(chat, text))
        found.append(1000 * (await _arrival(model, text) - start))
        await asking
    bench.log(f"{task}: {percentile(found, 0.5):.1f} ms")
    return found


async def _arrival(model: ModelServer, text: str) -> float:
    await model.until(lambda: model.requests[-1].last_user_text == text, 10)
    return model.requests[-1].arrived


SCENARIOS: Mapping[str, Scenario] = {
    "start": starts,
    "latency": latency,
    "cold": cold,
    "throughput": throughput,
    "crowd": crowd,
    "memory": memory,
    "sessions": sessions,
    "growth": growth,
    "steering": steering,
}

NOT_QUICK = ("crowd", "sessions", "growth")
"""Left out of a quick run unless asked for by name."""


def _row(
    name: str,
    unit: Unit,
    values: Mapping[Kind, float],
    targets: Sequence[Target] = (),
    details: Values | None = None,
) -> Row:
    floors = {str(kind): values[kind] for kind in FLOORS if kind in values}
    found = {str(kind): single for kind, single in details.items()} if details else None
    return Row(name, unit, values.get("gateway"), floors, targets, found)


def _each(values: Values, share: float) -> dict[Kind, float]:
    return {kind: percentile(single, share) for kind, single in values.items() if single}


def _mean(values: Values) -> dict[Kind, float]:
    return {kind: sum(single) / len(single) for kind, single in values.items() if single}


def _nth(values: Values, place: int) -> dict[Kind, float]:
    return {kind: single[place] for kind, single in values.items()}


def _shown(values: Values, place: int, unit: str) -> str:
    return ", ".join(f"{kind} {value:.2f} {unit}" for kind, value in _nth(values, place).items())
