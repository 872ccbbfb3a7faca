"""What a model server may send: the real process ends each turn, answers the next message, and opens its history."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.stage import write_settings
from tests.gateway.test_kill import process, settled
from tests.servers.models import Call, ModelServer, Pause, Provider, Say, Think, Turn
from tests.servers.odd_streams import answer, encoded
from tests.servers.telegram import BotApi, Chat

PROTOCOLS: list[Provider] = ["openai", "openai-responses", "anthropic"]

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("protocol", PROTOCOLS)]


@dataclass
class Scene:
    models: ModelServer
    api: BotApi
    chat: Chat
    settings: Path
    folder: Path

    async def asks(self, text: str, *answers: Turn, hears: str) -> str:
        """What is said to the text once it contains `hears`, and the turn has ended."""
        self.models.script(*answers)
        await self.chat.say(text)
        words = (await self.chat.hear(hears)).words
        await settled(self.folder)
        return words

    def entries(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "home" / "interject.db")) as database:
            return [entry for (entry,) in database.execute("SELECT entry FROM turn_log ORDER BY turn, n")]

    def change_log(self, old: str, new: str) -> None:
        with closing(sqlite3.connect(self.folder / "home" / "interject.db")) as database, database:
            changed = database.execute("UPDATE turn_log SET entry = replace(entry, ?, ?)", (old, new))
            assert changed.rowcount


@asynccontextmanager
async def scene(folder: Path, protocol: Provider) -> AsyncIterator[Scene]:
    async with BotApi() as api, ModelServer() as models:
        more = "".join(
            f'[models.{each}]\ntype = "{each}"\napi_key = "test-key"\nbase_url = "{models.url(each)}"\n'
            for each in PROTOCOLS
            if each != "openai"
        )
        settings = write_settings(folder, api, models, model=f"{protocol}:test", more=more)
        yield Scene(models, api, api.private(user_id=7, name="Ann"), settings, folder)
        assert models.refusals == []


TEXTS: list[tuple[list[str], str]] = [
    (["about \ud82d this"], "about � this"),
    (["a pair \ud83d", "\ude00 in two"], "a pair 😀 in two"),
    (["it ends with \ud83d"], "it ends with �"),
    (["nul \0 here"], "nul � here"),
]


async def test_texts_that_cannot_be_stored_are_shown_and_stored_without_it(tmp_path: Path, protocol: Provider) -> None:
    async with scene(tmp_path, protocol) as chat:
        async with process(chat.settings):
            for pieces, shown in TEXTS:
                await chat.asks("hi", [Think(pieces), Say(pieces)], hears=shown)
        asked = len(chat.models.requests)
        async with process(chat.settings):
            await chat.asks("and now?", Say("Fine."), hears="Fine.")
        assert len(chat.models.requests) == asked + 1, "no answer is asked and paid for again"
        history = [message.text for message in chat.models.requests[-1].messages if message.role == "assistant"]
        assert history == [shown for _, shown in TEXTS]


async def test_a_turn_that_holds_half_a_character_can_be_ended(tmp_path: Path, protocol: Provider) -> None:
    async with scene(tmp_path, protocol) as chat, process(chat.settings):
        for end in ("/stop", "/new"):
            chat.models.script(Say([f"before {end} \ud82d, and \ud83d", Pause(), "more"]))
            await chat.chat.say("go")
            await chat.chat.hear(f"before {end} �")
            await chat.chat.say(end)
            await settled(tmp_path)
            await chat.asks("and now?", Say(f"Fine after {end}."), hears=f"Fine after {end}.")


ARGUMENTS = {
    "half": '{"command": "echo \ud83a"}',
    "escaped half": '{"command": "echo \\ud83a"}',
    "nul": '{"command": "echo \0"}',
    "escaped nul": '{"command": "echo \\u0000"}',
    "open lists": '{"command": ' + "[" * 3000,
    "lists": '{"command": "true", "more": ' + "[" * 3000 + "]" * 3000 + "}",
    "infinite": '{"command": 1e999}',
    "long number": '{"command": ' + "9" * 5000 + "}",
}


async def test_arguments_that_cannot_be_stored(tmp_path: Path, protocol: Provider) -> None:
    """Each is answered on the spot, and in the history of a process that starts later."""
    async with scene(tmp_path, protocol) as chat:
        async with process(chat.settings):
            for name, arguments in ARGUMENTS.items():
                await chat.asks(
                    f"run {name}",
                    [Say("Wait."), Call("shell", arguments)],
                    Say(f"Ran it: {name}."),
                    hears=f"Ran it: {name}.",
                )
        async with process(chat.settings):
            await chat.asks("and now?", Say("Fine."), hears="Fine.")
        history = [message.text for message in chat.models.requests[-1].messages if message.role == "assistant"]
        assert history == [text for name in ARGUMENTS for text in ("Wait.", f"Ran it: {name}.")]


COUNTS: list[Any] = [10.5, -3, 10**30, "12", "many", None, True, [5], {"odd": 1}]
NAMES = {
    "openai": ("prompt_tokens", "completion_tokens", "total_tokens"),
    "openai-responses": ("input_tokens", "output_tokens", "total_tokens"),
    "anthropic": ("input_tokens", "output_tokens", "cache_read_input_tokens"),
}


async def test_counts_that_are_no_counts(tmp_path: Path, protocol: Provider) -> None:
    async with scene(tmp_path, protocol) as chat:
        async with process(chat.settings):
            for number, value in enumerate(COUNTS):
                usage = dict.fromkeys(NAMES[protocol], value)
                odd = encoded(protocol, answer(protocol, text=f"Answer {number}", usage=usage))
                # Asked again, if it cannot be read.
                chat.models.script(odd)
                await chat.asks("hi", Say(f"Answer {number}"), hears=f"Answer {number}")
                while chat.models.unplayed:
                    await chat.asks("once more", hears=f"Answer {number}")
        async with process(chat.settings):
            await chat.asks("/usage", hears="tokens")
            await chat.asks("and now?", Say("Fine."), hears="Fine.")


async def test_a_log_that_an_earlier_version_wrote_badly_is_read(tmp_path: Path, protocol: Provider) -> None:
    async with scene(tmp_path, protocol) as chat:
        async with process(chat.settings):
            await chat.asks("hi", Say("Hello."), hears="Hello.")
            await chat.asks("run", [Say("Wait."), Call("shell", {"command": "echo ran"})], Say("Ran."), hears="Ran.")
        chat.change_log('"input":10', '"input":10.5')
        chat.change_log('"outcome":"done"', '"outcome":5')
        chat.change_log('"name":"shell"', '"name":["shell"]')
        async with process(chat.settings):
            await chat.asks("and now?", Say("Fine."), hears="Fine.")
            history = [message.text for message in chat.models.requests[-1].messages if message.role == "assistant"]
            assert history == ["Hello.", "Wait.", "Ran."]
            await chat.asks("/usage", hears="tokens")
