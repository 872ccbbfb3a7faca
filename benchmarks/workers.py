"""Several workers on one database: how much they do, how long a message takes, and what people notice when a worker is
killed or replaced.

The load comes from this process, in which the bots' servers are too; the model, which takes a second, and the database
server are processes of their own on the same machine. Its processors are shared by all of them, so that more workers do
more only as far as there are processors: what one message costs says whether they would.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import psycopg

from benchmarks.contenders import TIMEOUT, Failed, model_server
from benchmarks.fleet import Conversation, Fleet, Worker, fleet
from benchmarks.meter import percentile
from benchmarks.scenarios import Bench, Scenario
from benchmarks.table import Row, Target, Unit
from gateway.store.workers import LEASE
from tests.servers.models import Call, ModelServer, Request, Say, Turn, Wait

MODEL_SECONDS = 1.0

SHORT_LEASE = 2.0
"""Seconds."""

JOBS = 8
"""Turns that go on when a worker is killed, on both of the two together."""

RAMP = 3.0
"""Seconds of full load before it is measured."""

SETTLE = 3.0
"""Seconds after a deploy until the next one."""

DONE = "All done."
FINISH = "Finish, please."

MEASURED = 2
"""The number of workers whose figures are compared with those of the others."""

SHARES = (0.5, 0.95, 0.99)


@dataclass(slots=True)
class Load:
    """What so many workers did. Times without the model's, in milliseconds; processor time per message, too."""

    rate: float
    busy: list[float]
    steady: list[float]
    workers_cpu: float
    database_cpu: float
    processors: float


async def throughput(bench: Bench) -> list[Row]:
    """The same load on each number of workers: all conversations at once, and a steady one."""
    sizes = bench.sizes
    found: dict[int, Load] = {}
    async with model_server(MODEL_SECONDS) as model_url:
        for number in sizes.workers:
            async with fleet(bench, model_url, number) as workers:
                found[number] = load = await _loaded(bench, workers)
            bench.log(f"{_named(number)}: {load.rate:.1f}/s, steady p50 {percentile(load.steady, 0.5):.0f} ms")
            if load.rate * MODEL_SECONDS > 0.9 * sizes.conversations:
                bench.log("the load did not saturate them: it needs more conversations")

    return [
        _row(f"messages of {sizes.conversations} conversations at once", "/s", _each(found, lambda load: load.rate)),
        *_percentiles("… delay of each", {number: load.busy for number, load in found.items()}),
        _row("… CPU of the workers per message", "ms", _each(found, lambda load: load.workers_cpu)),
        _row("… CPU of the database per message", "ms", _each(found, lambda load: load.database_cpu)),
        _row("… processors that the machine uses", "", _each(found, lambda load: load.processors)),
        *_percentiles(
            f"delay of a message, at {sizes.steady_rate:.0f} per second",
            {number: load.steady for number, load in found.items()},
        ),
    ]


def _each(found: Mapping[int, Load], of: Callable[[Load], float]) -> dict[int, float]:
    return {number: of(load) for number, load in found.items()}


def _row(
    name: str, unit: Unit, values: Mapping[int, float], details: Mapping[int, Sequence[float]] | None = None
) -> Row:
    """A row of the values by number of workers."""
    others = {_named(number): value for number, value in values.items() if number != MEASURED}
    kept = {_named(number): list(each) for number, each in details.items()} if details else None
    return Row(name, unit, values.get(MEASURED), others, details=kept)


def _percentiles(name: str, delays: Mapping[int, Sequence[float]]) -> list[Row]:
    return [
        _row(
            f"{name if share == SHARES[0] else '…'}, p{100 * share:.0f}",
            "ms",
            {number: percentile(each, share) for number, each in delays.items()},
            delays if share == SHARES[0] else None,
        )
        for share in SHARES
    ]


def _named(number: int) -> str:
    return "1 worker" if number == 1 else f"{number} workers"


async def _loaded(bench: Bench, workers: Fleet) -> Load:
    conversations = workers.conversations(bench.sizes.conversations)
    await asyncio.gather(*(each.ask("hello") for each in conversations))
    steady = await _steady(workers, conversations, bench.sizes.steady_rate, asyncio.sleep(bench.sizes.load_seconds))
    answered: list[tuple[float, float]] = []
    begin = time.monotonic() + RAMP
    finish = begin + bench.sizes.load_seconds
    talking = [asyncio.create_task(_talk(each, finish, answered)) for each in conversations]
    await asyncio.sleep(begin - time.monotonic())
    before = workers.processor_seconds()
    await asyncio.sleep(finish - time.monotonic())
    used = [after - since for after, since in zip(workers.processor_seconds(), before, strict=True)]
    took = [took for at, took in answered if begin <= at < finish]
    await asyncio.gather(*talking)
    if not took:
        raise Failed("no message was answered under full load")
    return Load(
        rate=len(took) / bench.sizes.load_seconds,
        busy=_delays(took),
        steady=_delays(took for _, took in steady),
        workers_cpu=1000 * used[0] / len(took),
        database_cpu=1000 * used[1] / len(took),
        processors=used[2] / bench.sizes.load_seconds,
    )


async def _talk(conversation: Conversation, until: float, answered: list[tuple[float, float]]) -> None:
    """Asks, one message after the other; notes when each was answered, and how long that took, in seconds."""
    number = 0
    while time.monotonic() < until:
        number += 1
        took = await conversation.ask(f"message {number}")
        answered.append((time.monotonic(), took))


async def _steady(
    workers: Fleet, conversations: Sequence[Conversation], rate: float, meanwhile: Coroutine[None, None, object]
) -> list[tuple[float, float]]:
    """So many messages per second, whatever becomes of them, until `meanwhile` has ended. When each was sent, and how
    long it took until its reply was shown, in seconds. Where all conversations wait for one, there are new ones."""
    found: list[tuple[float, float]] = []
    free = deque(conversations)

    async def ask(number: int) -> None:
        conversation = free.popleft() if free else workers.conversations(1)[0]
        at = time.monotonic()
        found.append((at, await conversation.ask(f"steady {number}")))
        free.append(conversation)

    going_on = asyncio.create_task(meanwhile)
    begin = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for number in count():
                if going_on.done():
                    break
                group.create_task(ask(number))
                await asyncio.sleep(begin + (number + 1) / rate - time.monotonic())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    finally:
        going_on.cancel()
    await going_on
    return found


def _delays(took: Iterable[float]) -> list[float]:
    """In milliseconds, without the second that the model takes."""
    return [1000 * (each - MODEL_SECONDS) for each in took]


async def deploys(bench: Bench) -> list[Row]:
    """A worker is started and an older one ended (SIGTERM), one after the other, under a steady load."""
    sizes, calm_until = bench.sizes, 0.0
    starts: list[tuple[float, float]] = []

    async def deploy() -> None:
        nonlocal calm_until
        await asyncio.sleep(sizes.load_seconds)
        calm_until = time.monotonic()
        for _ in range(sizes.deploys):
            old = workers.working[0]
            begun = time.monotonic()
            await workers.start()
            starts.append((begun, time.monotonic()))
            await workers.end(old)
            await asyncio.sleep(SETTLE)

    async with model_server(MODEL_SECONDS) as model_url, fleet(bench, model_url, 2) as workers:
        conversations = workers.conversations(sizes.conversations)
        await asyncio.gather(*(each.ask("hello") for each in conversations))
        asked = await _steady(workers, conversations, sizes.steady_rate, deploy())
    calm = [took for at, took in asked if at < calm_until]
    usual = percentile(calm, 0.5)
    late = [took - usual for at, took in asked if at >= calm_until]
    meanwhile = [
        took - usual for at, took in asked if any(begun <= at + MODEL_SECONDS and at < ready for begun, ready in starts)
    ]
    bench.log(
        f"deploys: {len(late)} messages, delayed by at most {max(late):.2f} s (those of when a worker started "
        f"{max(meanwhile, default=0.0):.2f} s), before by {max(calm) - usual:.2f} s"
    )
    name = f"the most that a message was delayed by {sizes.deploys} deploys, at {sizes.steady_rate:.0f} per second"
    return [
        Row(name, "s", max(late), {}, (Target(2),), {"": late}),
        Row("… without one", "s", max(calm) - usual),
    ]


async def fail_overs(bench: Bench) -> list[Row]:
    """From `kill -9` of a worker to the first new step of its turns on the other one."""
    rows: list[Row] = []
    for lease, times in ((SHORT_LEASE, bench.sizes.fail_overs), (LEASE, bench.sizes.long_fail_overs)):
        if not times:
            continue
        model = _Jobs()
        async with ModelServer() as server, fleet(bench, server.openai_url, 2, lease) as workers:
            server.respond(model.answer)
            found = [took for _ in range(times) for took in await _kill_one(workers, server, model, lease)]
        bench.log(f"lease of {lease:.0f} s: {min(found):.2f} to {max(found):.2f} s, {len(found)} turns")
        name = f"from kill -9 to the next step elsewhere, lease of {lease:.0f} s, {len(found)} turns: p50"
        rows += [
            Row(name, "s", percentile(found, 0.5)),
            Row("… the latest", "s", max(found), {}, (Target(lease + 1),), {"": found}),
        ]
    return rows


async def steering(bench: Bench) -> list[Row]:
    """From a message that one worker takes to the request of the turn that has read it, on the other one. Each turn is
    steered by way of both."""
    steered = bench.sizes.steered
    found: dict[str, list[float]] = {"the other worker": [], "the same worker": []}
    async with ModelServer() as server, fleet(bench, server.openai_url, 2) as workers:
        server.respond(lambda request: Say(DONE) if FINISH in _last_words(request) else Say(["Well, ", Wait(TIMEOUT)]))
        for number, conversation in enumerate(workers.conversations(steered)):
            job = _job(conversation)
            await conversation.say(job)
            await server.until(lambda job=job: bool(_steps(server, job)), TIMEOUT)  # type: ignore[misc]
            running = await asyncio.to_thread(_running, workers, {job: conversation})
            [its_own] = [worker for worker in workers.working if running[worker.pid]]
            [other] = [worker for worker in workers.working if worker is not its_own]
            for by, worker in (("the other worker", other), ("the same worker", its_own)):
                workers.only = worker
                words = f"message {number} by {by}."
                at = time.monotonic()
                await conversation.say(words)
                await server.until(lambda words=words: bool(_steps(server, words)), TIMEOUT)  # type: ignore[misc]
                found[by].append(1000 * (_steps(server, words)[0] - at))
            await conversation.say(FINISH)
            await conversation.hear(DONE)
            workers.only = None
    own = found["the same worker"]
    bench.log(f"steered by way of the other worker: p95 {percentile(found['the other worker'], 0.95):.1f} ms")
    return [
        Row(
            f"a message by way of another worker until the turn's next request, {steered} turns: p50",
            "ms",
            percentile(found["the other worker"], 0.5),
            {"the same worker": percentile(own, 0.5)},
        ),
        Row(
            "… p95",
            "ms",
            percentile(found["the other worker"], 0.95),
            {"the same worker": percentile(own, 0.95)},
            (Target(100),),
            {"": found["the other worker"]},
        ),
    ]


def _last_words(request: Request) -> str:
    return next(message.text for message in reversed(request.messages) if message.role == "user")


class _Jobs:
    """A model that takes one step per second, until it is told to finish."""

    def __init__(self) -> None:
        self.finishing = False
        self._asked = 0

    def answer(self, request: Request) -> Turn:
        self._asked += 1
        # Always another name of the same folder: a call that is repeated ends the turn.
        folder = f".{'/.' * (self._asked % 100)}"
        return Say(DONE) if self.finishing else [Wait(MODEL_SECONDS), Call("list_files", {"path": folder})]


async def _kill_one(workers: Fleet, server: ModelServer, model: _Jobs, lease: float) -> list[float]:
    """Seconds from the kill to the next step of each of its turns. Another worker takes its place afterwards."""
    model.finishing = False
    jobs = {_job(each): each for each in workers.conversations(JOBS)}
    for job, conversation in jobs.items():
        await conversation.say(job)
    await server.until(lambda: all(len(_steps(server, job)) > 1 for job in jobs), TIMEOUT)
    victim, lost = await asyncio.to_thread(_busiest, workers, jobs)
    at = time.monotonic()
    await workers.kill(victim)
    # What the killed process had sent before is not a new step.
    gone = time.monotonic()
    await server.until(lambda: all(_next_step(server, job, gone) for job in lost), lease + TIMEOUT)
    found = [_next_step(server, job, gone) - at for job in lost]
    model.finishing = True
    for conversation in jobs.values():
        await conversation.hear(DONE)
    await workers.start()
    return found


def _job(conversation: Conversation) -> str:
    return f"job of {conversation.chat.id}."


def _steps(server: ModelServer, job: str) -> list[float]:
    """When each step of this job began."""
    return [request.arrived for request in server.requests if any(job in message.text for message in request.messages)]


def _next_step(server: ModelServer, job: str, after: float) -> float:
    """0 if there is none yet."""
    return next((at for at in _steps(server, job) if at > after), 0.0)


def _busiest(workers: Fleet, jobs: Mapping[str, Conversation]) -> tuple[Worker, list[str]]:
    """The worker that runs most of the jobs, and those jobs."""
    found = _running(workers, jobs)
    victim = max(workers.working, key=lambda worker: len(found[worker.pid]))
    if not found[victim.pid]:
        raise Failed("no worker runs any of the turns")
    return victim, found[victim.pid]


def _running(workers: Fleet, jobs: Mapping[str, Conversation]) -> dict[int, list[str]]:
    """The jobs that each worker runs, by its process id."""
    with psycopg.connect(workers.database) as connection:
        rows = connection.execute(
            "SELECT workers.pid, turns.session FROM turns JOIN workers ON workers.id = turns.worker "
            "WHERE turns.state = 'running'"
        ).fetchall()
    running = {str(session).rpartition("/")[2]: pid for pid, session in rows}
    return {
        worker.pid: [job for job, each in jobs.items() if running.get(str(each.chat.id)) == worker.pid]
        for worker in workers.working
    }


WORKERS: Mapping[str, Scenario] = {
    "workers": throughput,
    "steering": steering,
    "fail-over": fail_overs,
    "deploy": deploys,
}
