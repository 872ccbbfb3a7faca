"""Telegram, for the contract: the local Bot API server, and people with its app in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.build import Built
from tests.channels.contract.home import INTERRUPTED, Feature, File, Picture, Place, Seen, Upload, Words
from tests.servers import telegram
from tests.servers.telegram import BotApi, Chat, Person, Shown

T = TypeVar("T")

ANN, BOB = Person(7, "Ann", "ann"), Person(8, "Bob", "bob")


@dataclass
class TelegramPlace:
    """A chat, or a topic of one (`topic` is its thread id)."""

    api: BotApi
    chat: Chat
    topic: int | None = None

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        sender = next((person for person in self.chat.people if person.name == by), None)
        options: dict[str, Any] = {"topic": self.topic, "sender": sender}
        if quoting is not None:
            options["reply_to"] = next(shown for shown in self.chat.messages if quoting in shown.words)
        return str((await self.chat.say(text, **options))["message_id"])

    async def send(self, *files: Upload, text: str = "") -> str:
        match files:
            case [Upload(kind="photo", data=data)]:
                return str((await self.chat.send_photo(data, text, topic=self.topic))["message_id"])
            case [Upload(kind="voice", data=data)]:
                return str((await self.chat.send_voice(data, text, topic=self.topic))["message_id"])
            case [Upload(name, data)]:
                return str((await self.chat.send_document(data, text, name=name, topic=self.topic))["message_id"])
            case _:
                items = [file.data if file.kind == "photo" else telegram.Upload(file.name, file.data) for file in files]
                return str((await self.chat.send_album(items, text, topic=self.topic))[0]["message_id"])

    async def edit(self, message: str, text: str | None) -> None:
        await self.chat.edit(int(message), text)

    async def again(self, message: str) -> None:
        await self.chat.repeat(int(message))

    async def press_stop(self) -> None:
        shown, data = await self.chat.until(self._stop_button)
        await self.chat.press(shown, data)

    def _stop_button(self, chat: Chat) -> tuple[Shown, str] | None:
        found = [(shown, button["callback_data"]) for shown in chat.messages for button in shown.buttons]
        return found[-1] if found else None

    async def heard(self) -> None:
        await self.api.until(lambda api: api.updates.queue == [])

    def screen(self) -> Sequence[Seen]:
        return [_seen(shown) for shown in self.chat.messages if self.topic is None or shown.thread_id == self.topic]

    def status(self) -> str:
        texts = "\n".join(shown.words for shown in self.chat.messages).splitlines()
        return "\n".join(line for line in texts if line.startswith("⏳"))

    async def until(self, holds: Callable[[], T]) -> T:
        return await self.chat.until(lambda _: holds())

    async def settled(self) -> None:
        assert self.status() == ""
        assert all(shown.buttons == [] for shown in self.chat.messages)


class TelegramHome:
    name = "telegram"
    has: frozenset[Feature] = frozenset(
        {
            *("album", "allow list", "edit", "faults", "files", "group", "lost file", "outage", "patience", "quote"),
            *("redelivery", "rooms", "typing"),
        }
    )

    def __init__(self, api: BotApi) -> None:
        self.api = api
        self.allow = ["*"]
        self.main = TelegramPlace(api, api.private(ANN.id, ANN.name, ANN.username))

    def settings(self) -> str:
        return (
            "[web]\nenabled = false\n"
            f'[channels.telegram]\ntoken = "{self.api.token}"\napi_url = "{self.api.url}"\nallow = {self.allow}\n'
        )

    def furnish(self, built: Built) -> None:
        pass

    @asynccontextmanager
    async def visit(self, built: Built) -> AsyncIterator[None]:
        yield

    def group(self) -> TelegramPlace:
        return TelegramPlace(self.api, self.api.group("Team", people=[ANN, BOB]))

    def stranger(self) -> TelegramPlace:
        return TelegramPlace(self.api, self.api.private(66, "Eve"))

    def room(self, name: str) -> Place:
        forum = self.api.forum("Forum", chat_id=-1009, people=[ANN, BOB])
        return TelegramPlace(self.api, forum, forum.topic(name))

    def bold(self, text: str) -> str:
        return f"<b>{text}</b>"

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.api.refuse():
            yield

    def check(self) -> None:
        # A gateway that was just left may leave a poll behind, which the next one's ends.
        assert [refusal for refusal in self.api.refusals if refusal.method != "getUpdates"] == []


def _seen(shown: Shown) -> Seen:
    id = str(shown.message_id)
    match shown.kind:
        case "photo":
            return Picture(shown.data, shown.caption, id)
        case "text":
            answers = None if shown.reply_to is None else str(shown.reply_to)
            return Words(_plain(shown.text), shown.html or "", tuple(_code(shown)), id, answers)
        case _:
            return File(shown.file_name, shown.data, shown.caption, id)


def _plain(text: str) -> str:
    kept = [line for line in text.splitlines() if not line.startswith("⏳")]
    return "\n".join(INTERRUPTED if line == "⏸ interrupted" else line for line in kept)


def _code(shown: Shown) -> Iterator[str]:
    units = shown.text.encode("utf-16-le")
    for entity in shown.entities:
        if entity["type"] == "pre":
            start, end = entity["offset"], entity["offset"] + entity["length"]
            yield units[2 * start : 2 * end].decode("utf-16-le")
