"""A scripted day in Telegram during which the real process is killed with SIGKILL at random moments."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.servers.models import Call, ModelServer, Request, Say, Wait
from tests.servers.telegram import BotApi, Chat

MESSAGES = 45
KILLS = 8
CALM = 4
"""After so many kills everything is answered before the next: fewer in a row than make the gateway give a turn up."""
REPEAT = "possibly a repeat"
UNSETTLED = "SELECT 1 FROM inbox WHERE state = 'waiting' UNION SELECT 1 FROM turns WHERE NOT delivered"


def asked_for(text: str) -> list[str]:
    return re.findall(r"#(\d+)", text)


def play(request: Request) -> list[object]:
    """Answers each numbered wish once, as "[n]"; a wish marked "do" first asks the shell to write its number down."""
    wishes = [number for message in request.messages if message.role == "user" for number in asked_for(message.text)]
    answered = {
        number
        for message in request.messages
        if message.role == "assistant"
        for number in re.findall(r"\[(\d+)\]", message.text)
    }
    # A call shows its number in its arguments, also when its result is unknown: it is never asked for again.
    done = {number for message in request.messages for call in message.calls for number in asked_for(call.arguments)}
    open_wishes = [number for number in dict.fromkeys(wishes) if number not in answered]
    todo = [number for number in open_wishes if int(number) % 4 == 0 and number not in done]
    if todo:
        return [Say("I will do that. "), Call("shell", {"command": f"echo '#{todo[0]}' >> effects.txt; sleep 0.05"})]
    return [Wait(0.02), Say("Answer " + " ".join(f"[{number}]" for number in open_wishes))]


@asynccontextmanager
async def process(settings: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real gateway in a process of its own; killed on leaving if it still runs."""
    home = settings.parent / "home"
    url = engines.url(home / "interject.db")
    environment = {**os.environ, "INTERJECT_HOME": str(home), "INTERJECT_STORE__URL": url}
    log = (settings.parent / "log.txt").open("ab")
    with closing(log):
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "interject",
            "run",
            "--config",
            str(settings),
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.wait()


def on_screen(chat: Chat) -> list[str]:
    """The answered numbers as they stand in the chat, in order, without those that say they may be a repeat."""
    return [
        number
        for message in chat.messages
        if REPEAT not in message.text
        for number in re.findall(r"\[(\d+)\]", message.text)
    ]


@pytest.mark.crash
@pytest.mark.engines
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [20261121])
async def test_nothing_is_lost_or_doubled_when_the_process_is_killed(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with BotApi() as api, ModelServer() as models:
        models.respond(play)
        settings = write_settings(tmp_path, api, models)
        chats = [api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Ben"), api.group(title="All")]
        said: list[list[str]] = [[], [], []]
        numbers = iter(range(1, MESSAGES + 1))
        for kill in range(KILLS):
            if kill == CALM:
                async with process(settings):
                    await everything_answered(tmp_path, chats, said)
            async with process(settings) as running:
                for _ in range(MESSAGES // KILLS):
                    await say_next(api, chats, said, str(next(numbers)), chance)
                    await asyncio.sleep(chance.uniform(0, 0.15))
                await asyncio.sleep(chance.uniform(0, 1.2))
                running.send_signal(signal.SIGKILL)
        async with process(settings):
            for number in numbers:
                await say_next(api, chats, said, str(number), chance)
            await everything_answered(tmp_path, chats, said)
        for chat, wanted in zip(chats, said, strict=True):
            shown = on_screen(chat)
            assert shown == [number for number in wanted if number in shown], f"order (seed {seed})"
            assert not [number for number, count in Counter(shown).items() if count > 1], f"doubled (seed {seed})"
            assert set(every(chat)) == set(wanted), f"lost (seed {seed})"
        repeats = sum(REPEAT in message.text for chat in chats for message in chat.messages)
        assert repeats <= KILLS, "a repeat is possible only for what was being sent when the process was killed"
        effects = (tmp_path / "home" / "workspace" / "effects.txt").read_text().split()
        assert len(effects) == len(set(effects)), f"a call was run twice (seed {seed})"
        assert models.refusals == [], "the model was always shown a complete history"
        # A process that was killed may leave a poll behind, which the next one's ends.
        assert [refusal for refusal in api.refusals if refusal.method != "getUpdates"] == []


def every(chat: Chat) -> list[str]:
    return [number for message in chat.messages for number in re.findall(r"\[(\d+)\]", message.text)]


async def say_next(api: BotApi, chats: list[Chat], said: list[list[str]], number: str, chance: random.Random) -> None:
    place = chance.randrange(len(chats))
    mention = f"@{api.me['username']} " if place == 2 else ""
    await chats[place].say(f"{mention}wish #{number}")
    said[place].append(number)


async def everything_answered(folder: Path, chats: list[Chat], said: list[list[str]]) -> None:
    for chat, wanted in zip(chats, said, strict=True):
        await chat.until(lambda chat, wanted=wanted: set(wanted) <= set(every(chat)))
    await settled(folder)


async def settled(folder: Path) -> None:
    """Every inbox row has its terminal state, and every reply is confirmed."""
    async with asyncio.timeout(60):
        while True:
            if not engines.sql(folder / "home" / "interject.db", UNSETTLED):
                return
            await asyncio.sleep(0.05)
