"""Profiles the processor time of a message: `python -m benchmarks.profile [--messages N] [--chats N] [--save FILE]`.

Only the main thread is profiled; the first line of the report has the time of the others. A profiled process is about
twice as slow, so compare shares rather than milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import pstats
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import KINDS, ROOT, Contender, Failed, Setup, model_server, start

MESSAGES_PER_CHAT = 5

# The profiler uses wall time, as reading a thread's CPU clock for every call costs more than the calls.
IDLE = re.compile(r"'(poll|select)' of 'select\.|asyncio/runners\.py:\d+ run$")
"""The functions that wait between messages: the selector or, with uvloop, the one that runs the loop."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of processor time per message, measured without the profiler."""

    messages: int
    all: float
    main_thread: float


@dataclass(frozen=True, slots=True)
class FunctionTime:
    """The time of one function while profiled, in seconds: its own, and including the functions it called."""

    file: str
    line: int
    name: str
    calls: int
    own: float
    with_callees: float

    @property
    def package(self) -> str:
        """The top-level package, ours or a third party's, or Python's module."""
        path = Path(self.file)
        if "site-packages" in path.parts:
            return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py")
        if path.is_relative_to(ROOT):
            return path.relative_to(ROOT).parts[0]
        if self.file == "~":
            return "(built in)"
        return f"python: {path.parent.name if path.parent.name in ('asyncio', 'json', 'email', 'http') else path.stem}"

    @property
    def location(self) -> str:
        """The function with its file, as short as is clear."""
        if self.file == "~":
            return self.name
        path = Path(self.file)
        if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
            short = str(path.relative_to(ROOT))
        else:
            short = "/".join(
                path.parts[path.parts.index("site-packages") + 1 :]
                if "site-packages" in path.parts
                else path.parts[-2:]
            )
        return f"{short}:{self.line} {self.name}"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="interject-profile-") as directory:
        file = options.save or Path(directory) / "message.prof"
        file.unlink(missing_ok=True)
        try:
            cost = asyncio.run(_record(options, Path(directory) / "home", file.absolute()))
        except Failed as error:
            sys.exit(str(error))
        busy = [used for used in _read(file) if not IDLE.search(used.location)]
        for line in _report(cost, busy, options.top):
            sys.stdout.write(f"{line}\n")


async def _record(options: argparse.Namespace, home: Path, file: Path) -> Cost:
    wrapper = (sys.executable, "-m", "benchmarks.profiled_process", str(file))
    async with model_server(options.model_seconds) as model_url:
        setup = Setup(model_url, gateway=(*wrapper, "interject"), floor=wrapper)
        async with start(options.contender, setup, home) as contender:
            await contender.first_poll()
            await _talk(contender, 100, options.chats)
            cost = await _cost(contender, options.messages, options.chats)
            contender.process.send_signal(signal.SIGUSR1)
            await _talk(contender, options.messages, options.chats)
            contender.process.send_signal(signal.SIGUSR2)
            await _until_written(file, contender)
    return cost


async def _cost(contender: Contender, messages: int, chats: int) -> Cost:
    everything, main_thread = contender.meter.cpu(), contender.meter.main_thread()
    sent = await _talk(contender, messages, chats)
    each = 1000 / sent
    return Cost(
        sent,
        (contender.meter.cpu() - everything) * each,
        (contender.meter.main_thread() - main_thread) * each,
    )


async def _talk(contender: Contender, messages: int, chats: int) -> int:
    """Sends at least `messages` messages, in `chats` new chats at a time; returns how many."""
    rounds = -(-messages // (chats * MESSAGES_PER_CHAT))
    for _ in range(rounds):
        await contender.talk_all([contender.new_chat() for _ in range(chats)], MESSAGES_PER_CHAT)
    await contender.meter.settle()
    return rounds * chats * MESSAGES_PER_CHAT


async def _until_written(file: Path, contender: Contender) -> None:
    for _ in range(1000):
        if await asyncio.to_thread(file.exists):
            return
        await asyncio.sleep(0.01)
    raise contender.failure("it wrote no profile")


def _read(file: Path) -> list[FunctionTime]:
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # known to its manual, not to typeshed
    return [
        FunctionTime(source, line, name, calls, own, with_callees)
        for (source, line, name), (_, calls, own, with_callees, _callers) in stats.items()
    ]


def _report(cost: Cost, functions: list[FunctionTime], top: int) -> Iterator[str]:
    total = sum(used.own for used in functions)
    others = cost.all - cost.main_thread
    yield f"CPU per message: {cost.all:.2f} ms, {cost.main_thread:.2f} in the main thread and {others:.2f} in others."
    yield f"Profiled: {1000 * total / cost.messages:.2f} ms per message in the main thread. Shares are of that."
    yield ""
    yield "By package, own time:"
    packages = Counter[str]()
    for used in functions:
        packages[used.package] += used.own  # type: ignore[assignment]
    for name, own in packages.most_common(top):
        yield f"  {100 * own / total:5.1f} %  {name}"
    yield from _table("By own time", functions, lambda used: used.own, total, cost.messages, top)
    ours = [used for used in functions if used.package in ("agent", "channels", "config", "gateway", "benchmarks")]
    yield from _table(
        "Ours, by time including callees", ours, lambda used: used.with_callees, total, cost.messages, top
    )
    yield from _table(
        "All, by time including callees", functions, lambda used: used.with_callees, total, cost.messages, top
    )


def _table(
    title: str,
    functions: Iterable[FunctionTime],
    key: Callable[[FunctionTime], float],
    total: float,
    messages: int,
    top: int,
) -> Iterator[str]:
    yield ""
    yield f"{title}: share, calls per message, function"
    # Greenlet switches confuse the profiler: the time including callees may exceed the total.
    plausible = (used for used in functions if key(used) <= total)
    for used in sorted(plausible, key=key, reverse=True)[:top]:
        yield f"  {100 * key(used) / total:5.1f} %  {used.calls / messages:7.1f}  {used.location}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=500, help="number of messages to profile (500)")
    parser.add_argument("--chats", type=int, default=1, help="number of concurrent chats (1)")
    parser.add_argument("--model-seconds", type=float, default=0, help="response time of the model (0)")
    parser.add_argument("--top", type=int, default=30, help="rows of each table (30)")
    parser.add_argument("--contender", choices=KINDS, default="gateway")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the profile, for pstats or snakeviz")
    return parser.parse_args()


if __name__ == "__main__":
    main()
