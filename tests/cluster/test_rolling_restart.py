"""All workers are restarted, one after another, as at a deploy, while replies grow and calls wait for approval."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.channels.contract.home import Place, whole
from tests.cluster.fleet import fleet
from tests.cluster.homes import three_homes
from tests.cluster.test_day import settled
from tests.engines import engines
from tests.servers.models import Call, ModelServer, Request, Say

pytestmark = pytest.mark.engines("postgresql")

WORKERS = ("one", "two", "three")
GRACE = 20
LEASE = 60.0
"""Longer than the test: nobody goes on because of a lease that has run out."""

ASK_FIRST = '[tools.shell]\napproval = "always"\n'
WORDS = ["which", "grows", "while", "people", "read", "it"]


class Script:
    """What the model does: it tells stories in chapters, each a step, until `ended`; launches what it is told to, and
    answers everything else. `chapters` of each story, by whom it is about."""

    def __init__(self) -> None:
        self.ended = False
        self.chapters: dict[str, int] = {}

    def play(self, request: Request) -> list[object]:
        wishes = [wish for message in request.messages if message.role == "user" for wish in _wishes(message.text)]
        calls = sum(len(message.calls) for message in request.messages)
        (verb, about), newest = wishes[0], wishes[-1][1]
        match verb:
            case "launch" if not calls:
                return [Call("shell", {"command": f"echo {about} >> launched.txt"})]
            case "launch":
                return [Say(f"{about} has started.")]
            case "tell" if not self.ended:
                chapter = [f"Chapter {calls + 1}, ", *(f"{word} " for word in WORDS)]
                return [Say(chapter, delay=0.2), Call("write_file", {"path": f"{about}-{calls}", "content": "kept"})]
            case "tell":
                self.chapters[about] = calls
                return [Say(f"The end of {about}.")]
            case _:
                return [Say(f"Yes, {newest}.")]


def _wishes(text: str) -> list[tuple[str, str]]:
    return re.findall(r"(launch|tell|ping) (\w+)", text)


async def test_nobody_notices_that_all_workers_are_restarted(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    script, restarted = Script(), asyncio.Event()
    async with three_homes() as homes, ModelServer() as models:
        models.respond(script.play)
        settings = homes.write_settings(tmp_path, models, lease=LEASE, grace=GRACE, more=ASK_FIRST)
        telling, launching = [home.main for home in homes.all], [home.group() for home in homes.all]
        chatting = [home.stranger() for home in homes.all]
        async with fleet(settings, *WORKERS) as workers:
            await homes.listened_to()
            for home, place in zip(homes.all, launching, strict=True):
                await place.say(f"{home.mention} launch {home.name}")
            for place in launching:
                await place.until(lambda place=place: "May I use shell?" in whole(place))
            for home, place in zip(homes.all, telling, strict=True):
                await place.say(f"tell {home.name}")
            for place in telling:
                await place.until(lambda place=place: "Chapter 1, which" in whole(place))
            pinging = asyncio.create_task(_ping(chatting, restarted))
            for name in WORKERS:
                assert await workers.end(name) == 0
                await workers.start(name)
                await workers.alive(name)
            script.ended = True
            restarted.set()
            for home, place in zip(homes.all, telling, strict=True):
                await place.until(lambda home=home, place=place: f"The end of {home.name}." in whole(place))
            waits = await pinging
            assert not (tmp_path / "workspace" / "launched.txt").exists(), "nobody has decided yet"
            for place in launching:
                await place.press("Allow once")
            for home, place in zip(homes.all, launching, strict=True):
                await place.until(lambda home=home, place=place: f"{home.name} has started." in whole(place))
            await settled(workers)
        for home, told in zip(homes.all, telling, strict=True):
            chapters = [int(number) for number in re.findall(r"Chapter (\d+)", whole(told))]
            assert chapters == list(range(1, script.chapters[home.name] + 1)), whole(told)
            assert whole(told).count(f"The end of {home.name}.") == 1
        for home, place in zip(homes.all, launching, strict=True):
            assert whole(place).count(f"{home.name} has started.") == 1
        launched = (tmp_path / "workspace" / "launched.txt").read_text().split()
        assert sorted(launched) == sorted(home.name for home in homes.all), "each was run once"
        entries = [json.loads(entry) for (entry,) in engines.sql(workers.database, "SELECT entry FROM turn_log")]
        assert not [entry for entry in entries if entry["kind"] == "resumed"], "nothing was interrupted"
        assert models.refusals == []
        record_property(
            "deploy", f"{len(waits)} messages during a rolling restart, the slowest took {max(waits):.1f} s"
        )


async def _ping(places: Sequence[Place], until: asyncio.Event) -> list[float]:
    """People write all the time; how long each waited for the answer, in seconds."""
    waits: list[float] = []
    while not until.is_set():
        number, since = len(waits), time.monotonic()
        for place in places:
            await place.say(f"ping p{number}")
        for place in places:
            await place.until(lambda place=place, number=number: f"Yes, p{number}." in whole(place))
            waits.append(time.monotonic() - since)
    return waits
