"""Scheduled tasks while the real process is killed with SIGKILL at random moments: each is done once for its time."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from tests.gateway.stage import write_settings
from tests.gateway.test_kill import on_screen, process
from tests.servers.models import Call, ModelServer, Request, Say
from tests.servers.telegram import BotApi

KILLS = 6
TASKS = 3
"""Made between two kills."""


def play(request: Request) -> Say | Call:
    """Schedules each wish that is not scheduled yet, and answers each task that is due with its number."""
    said = "\n".join(message.text for message in request.messages if message.role == "user")
    answered = "\n".join(message.text for message in request.messages if message.role == "assistant")
    # A message skips a call that has not started.
    results = [message.text for message in request.messages if message.role == "tool" and "Scheduled." in message.text]
    due = [number for number in re.findall(r"Task #(\d+)", said) if f"[{number}]" not in answered]
    planned = set(re.findall(r"Task #(\d+)", "\n".join(results)))
    left = [number for number in re.findall(r"plan (\d+)", said) if number not in planned]
    if left:
        return Call("schedule", {"action": "add", "task": f"Task #{left[0]}", "in_minutes": 0.005})
    return Say(" ".join(f"[{number}]" for number in dict.fromkeys(due)) or "All planned.")


@pytest.mark.crash
@pytest.mark.engines
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [20261201])
async def test_each_scheduled_task_is_done_once_whenever_the_process_is_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with BotApi() as api, ModelServer() as models:
        models.respond(play)
        settings = write_settings(tmp_path, api, models)
        ann, numbers = api.private(), iter(range(1, KILLS * TASKS + 1))
        for _ in range(KILLS):
            async with process(settings):
                for _ in range(TASKS):
                    await ann.say(f"plan {next(numbers)}")
                    await asyncio.sleep(chance.uniform(0, 0.4))
                await asyncio.sleep(chance.uniform(0, 2))
        every = {str(number) for number in range(1, KILLS * TASKS + 1)}
        async with process(settings):
            await ann.until(lambda chat: set(re.findall(r"\[(\d+)\]", " ".join(chat.texts))) == every, timeout=120)
            # What would be done twice comes before the answer to this.
            await ann.say("plan nothing")
            await ann.until(lambda chat: chat.texts[-1] == "All planned.", timeout=60)
    shown = on_screen(ann)
    assert len(shown) == len(set(shown)), shown
