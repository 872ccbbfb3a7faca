"""What a thousand watchers of one conversation and 400 requests that wait for one run cost everybody else: how long a
message takes beside them, against none.

`python -m benchmarks.watchers [--watchers 1000] [--waiters 400] [--messages 40]`

The gateway, its clients and the servers are three processes. While messages of others are timed, a long answer grows
in the watched conversation, and the run that is waited for goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from benchmarks.meter import Meter
from tests.gateway.stage import write_settings
from tests.servers.models import ModelServer, Request, Say, Wait
from tests.servers.telegram import BotApi, Chat

Seen = Callable[[], Awaitable[dict[str, int]]]

WATCHED, CHUNKS, CHUNK_SECONDS = 7, 400, 0.04
TOKEN = "a-token-of-the-benchmark"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--waiters", type=int, default=400)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    parser.add_argument("--wait", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        await _watch_all(options.watch, options.watchers)
        return 0
    if options.wait:
        await _wait_all(options.wait, options.waiters)
        return 0
    with tempfile.TemporaryDirectory(prefix="interject-watchers-") as folder:
        await _measure(Path(folder), options.watchers, options.waiters, options.messages)
    return 0


async def _measure(folder: Path, watchers: int, waiters: int, messages: int) -> None:
    async with BotApi() as api, ModelServer(remember=False) as models, _gateway(folder, api, models) as (url, meter):
        models.respond(_answer)
        ann, bob = api.private(WATCHED, "Ann"), api.private(8, "Bob")
        for chat in (ann, bob):
            await _ask(chat, "hello")
        conversation = await _conversation(url)
        without, used_without = await _beside_a_long_answer(ann, bob, meter, messages)
        run = await _endless_run(url)
        async with _clients("--wait", f"{url}/api/v1/runs/{run}?wait=300&until=end", "--waiters", waiters) as answered:
            waited, used_waited = await _beside_a_long_answer(ann, bob, meter, messages)
            early = (await answered())["answered"]
        again, used_again = await _beside_a_long_answer(ann, bob, meter, messages)
        memory = meter.memory()
        address = f"{url}/api/v1/conversations/{conversation}/events"
        async with _clients("--watch", address, "--watchers", watchers) as seen:
            grown = meter.memory() - memory
            beside, used_beside = await _beside_a_long_answer(ann, bob, meter, messages)
            told = await seen()
    _report("alone", without, used_without)
    _report(f"beside {waiters} waiters", waited, used_waited)
    _report("alone again", again, used_again)
    _report(f"beside {watchers} watchers", beside, used_beside)
    alone = statistics.median(without + again)
    _say(f"ratio of the medians beside watchers: {statistics.median(beside) / alone:.2f}")
    _say(f"ratio of the medians beside waiters: {statistics.median(waited) / alone:.2f}; answered too early: {early}")
    _say(f"watchers told of the end of the run: {told['ended']} of {watchers}, of events: {told['events']:,}")
    _say(f"memory for each watcher: {1024 * grown / watchers:.0f} KiB; load {os.getloadavg()[0]:.1f}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _report(name: str, seconds: list[float], used: float) -> None:
    """`used` is the share of a processor that the gateway used."""
    ordered = sorted(1000 * each for each in seconds)
    times = f"median {statistics.median(ordered):.1f} ms, worst of ten {ordered[int(0.9 * len(ordered))]:.1f} ms"
    _say(f"{name}: {times}; {used:.0%} of a processor")


def _answer(request: Request) -> Say:
    text = next(message.text for message in reversed(request.messages) if message.role == "user")
    if "endless" in text:
        return Say(["So, ", Wait(600)])
    if "long" not in text:
        return Say(f"You said: {text}")
    pieces: list[str | Wait] = []
    for number in range(CHUNKS):
        pieces += [f"word {number} ", Wait(CHUNK_SECONDS)]
    return Say(pieces)


async def _ask(chat: Chat, text: str) -> float:
    start = time.perf_counter()
    await chat.say(text)
    await chat.until(lambda chat: any(f"You said: {text}" in message.text for message in chat.messages), 60)
    return time.perf_counter() - start


async def _beside_a_long_answer(ann: Chat, bob: Chat, meter: Meter, messages: int) -> tuple[list[float], float]:
    """How long messages of Bob took meanwhile, in seconds, and the share of a processor that the gateway used."""
    shown = len(ann.messages)
    await ann.say("a long answer, please")
    await ann.until(lambda ann: len(ann.messages) > shown, 60)
    began, used = time.monotonic(), meter.cpu()
    found = [await _ask(bob, f"{time.monotonic_ns()}") for _ in range(messages)]
    share = (meter.cpu() - used) / (time.monotonic() - began)
    await ann.say("/stop")
    await ann.until(lambda ann: any("Stopped" in message.text for message in ann.messages[shown:]), 60)
    return found, share


async def _conversation(url: str) -> str:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=60) as client:
        listed = (await client.get(f"{url}/api/v1/conversations")).json()["conversations"]
    return next(str(each["id"]) for each in listed if each["id"].endswith(f":{WATCHED}"))


async def _endless_run(url: str) -> str:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=60) as client:
        address = f"{url}/api/v1/conversations/web:local:waited/messages"
        sent = await client.post(address, json={"client_id": "the-endless-one", "text": "an endless answer, please"})
        return str(sent.raise_for_status().json()["run"])


@asynccontextmanager
async def _gateway(folder: Path, api: BotApi, models: ModelServer) -> AsyncIterator[tuple[str, Meter]]:
    settings = write_settings(folder, api, models, more="[limits]\nmessages_per_minute = 100000\n")
    home = folder / "home"
    home.mkdir()
    (home / "web-token").write_text(TOKEN)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "interject", "run", "--config", str(settings)),
        env={**os.environ, "INTERJECT_HOME": str(home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            async for line in process.stdout:
                if found := re.search(r"http://[\d.]+:\d+", line.decode()):
                    break
        assert found is not None
        yield found[0], Meter(process.pid)
    finally:
        process.kill()
        await process.wait()


# --- the process of the clients ---


@asynccontextmanager
async def _clients(what: str, url: str, how_many: str, count: int) -> AsyncIterator[Seen]:
    """A process of so many watchers or waiters. Yields a function that says what they have seen."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.watchers", what, url, how_many, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"

    async def seen() -> dict[str, int]:
        process.stdin.write(b"\n")
        told: dict[str, int] = json.loads(await process.stdout.readline())
        return told

    try:
        yield seen
    finally:
        process.kill()
        await process.wait()


async def _asked(url: httpx.URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"GET {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
    writer.write(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
    return reader, writer


async def _opened(url: httpx.URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The stream after its snapshot. Waits as the limit of requests asks."""
    while True:
        reader, writer = await _asked(url)
        if b" 200 " in await reader.readline():
            await reader.readuntil(b"event: snapshot")
            return reader, writer
        writer.close()
        await asyncio.sleep(2)


async def _watch_all(url: str, count: int) -> None:
    """Says when all watch; asked what they have seen, says it as soon as all know the end."""
    address = httpx.URL(url)
    seen = {"events": 0, "ended": 0}
    all_ended = asyncio.Event()
    ready = asyncio.Semaphore(0)
    few = asyncio.Semaphore(50)

    async def watch() -> None:
        async with few:
            reader, writer = await _opened(address)
        ready.release()
        while data := await reader.read(1 << 16):
            seen["events"] += data.count(b"\nevent: ")
            seen["ended"] += data.count(b"\nevent: run.ended")
            if seen["ended"] == count:
                all_ended.set()
        writer.close()

    tasks = [asyncio.create_task(watch()) for _ in range(count)]
    for _ in tasks:
        await ready.acquire()
    await _until_asked()
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            await all_ended.wait()
    _answer_with(seen)


async def _wait_all(url: str, count: int) -> None:
    """Says when all wait; asked, how many have been answered."""
    address = httpx.URL(url)
    seen = {"answered": 0}
    few = asyncio.Semaphore(50)
    connections: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def begin() -> None:
        async with few:
            connections.append(await _asked(address))

    async def count_answer(reader: asyncio.StreamReader) -> None:
        await reader.read(1)
        seen["answered"] += 1

    await asyncio.gather(*(begin() for _ in range(count)))
    waiting = [asyncio.create_task(count_answer(reader)) for reader, _ in connections]
    done, _ = await asyncio.wait(waiting, timeout=3)
    if done:
        raise RuntimeError(f"{len(done)} waiting requests were answered at once")
    await _until_asked()
    _answer_with(seen)


async def _until_asked() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)


def _answer_with(seen: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(seen) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
