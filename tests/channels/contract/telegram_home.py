"""Telegram, for the contract: the local Bot API server, and people with its app in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.channels.contract.home import (
    INTERRUPTED,
    OFFERS,
    Feature,
    File,
    Picture,
    Place,
    Plain,
    PlainPlace,
    Seen,
    Step,
    Upload,
    Words,
)
from tests.servers import telegram
from tests.servers.telegram import BotApi, Chat, Person, Shown

T = TypeVar("T")

ANN, BOB = Person(7, "Ann", "ann"), Person(8, "Bob", "bob")
MENTION = "@interject_test_bot"

METHODS: dict[Step, str] = {
    "send": "sendMessage",
    "edit": "editMessageText",
    "upload": "sendPhoto",
    "final": "sendMessage",
    "file": "file",
}

STATES = {
    "🫡": "waiting",
    "👀": "read",
    "👌": "answered",
    "💔": "failed",
    "😴": "stopped",
    "🙊": "refused",
    "😢": "undelivered",
}


@dataclass
class TelegramPlace(PlainPlace):
    """A chat, or a topic of one (`topic` is its thread id). `addressed`: all that is said there is said to the bot."""

    api: BotApi
    chat: Chat
    topic: int | None = None
    addressed: bool = False

    def read_as(self, text: str, by: str = "Ann") -> str:
        return text if self.chat.card["type"] == "private" else f"{by}: {text}"

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        sender = next((person for person in self.chat.people if person.name == by), None)
        options: dict[str, Any] = {"topic": self.topic, "sender": sender}
        if quoting is not None:
            options["reply_to"] = next(shown for shown in self.chat.messages if quoting in shown.words)
        if self.addressed and not text.startswith("/"):
            text = f"{MENTION} {text}"
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

    async def bot_says(self, text: str) -> None:
        bot = {"id": 99, "is_bot": True, "first_name": "Deploys", "username": "deploys_bot"}
        await self.chat.say(f"{MENTION} {text}", **{"from": bot})

    async def push_malformed(self) -> None:
        await self.chat.push_raw({"message": {"message_id": "none", "chat": 12}})

    async def react(self, text: str, *, yes: bool, by: str = "Ann") -> None:
        def asked(chat: Chat) -> Shown | None:
            return next((shown for shown in chat.messages if text in shown.words), None)

        sender = next((person for person in self.chat.people if person.name == by), None)
        await self.chat.react(await self.chat.until(asked), "👍" if yes else "👎", sender=sender)

    async def press_stop(self) -> None:
        await self._press(lambda button: button["callback_data"].startswith("stop:"))

    async def press(self, option: str) -> None:
        await self._press(lambda button: button["text"] == option)

    async def _press(self, meant: Callable[[dict[str, Any]], bool]) -> None:
        def found(chat: Chat) -> tuple[Shown, str] | None:
            buttons = [(shown, button) for shown in chat.messages for button in shown.buttons if meant(button)]
            return (buttons[-1][0], buttons[-1][1]["callback_data"]) if buttons else None

        shown, data = await self.chat.until(found)
        await self.chat.press(shown, data)

    async def heard(self) -> None:
        await self.api.until(lambda api: api.updates.queue == [])

    def screen(self) -> Sequence[Seen]:
        return [_seen(shown) for shown in self.chat.messages if self.topic is None or shown.thread_id == self.topic]

    def status(self) -> str:
        texts = "\n".join(shown.words for shown in self.chat.messages).splitlines()
        return "\n".join(line for line in texts if line.startswith("⏳"))

    def typing(self) -> bool:
        return any(action.action == "typing" for action in self.chat.actions)

    def marks(self, message: str) -> list[str]:
        made = [call.params for call in self.api.called("setMessageReaction")]
        here = [
            each for each in made if (each.text("chat_id"), each.text("message_id")) == (str(self.chat.id), message)
        ]
        shown = [reaction["emoji"] for each in here for reaction in each.json("reaction", list) or []]
        return [STATES[emoji] for emoji in shown]

    async def until(self, holds: Callable[[], T]) -> T:
        return await self.chat.until(lambda _: holds())

    async def settled(self) -> None:
        assert self.status() == ""
        assert all(button["text"] in OFFERS for shown in self.chat.messages for button in shown.buttons)


class TelegramHome(Plain):
    name = "telegram"
    has: frozenset[Feature] = frozenset(
        {
            *(
                "accounts",
                "album",
                "allowlist",
                "bots",
                "edit",
                "faults",
                "files",
                "group",
                "malformed",
                "options",
                "refusals",
            ),
            *("outage", "server queue", "quote", "reacting", "reactions", "redelivery", "channels", "screen", "typing"),
        }
    )
    ann = str(ANN.id)
    mention = MENTION

    def __init__(self, api: BotApi) -> None:
        self.api = api
        self.main = TelegramPlace(api, api.private(ANN.id, ANN.name, ANN.username))
        self._foreseen: list[tuple[str, int]] = []
        self._ignored = {"getUpdates"}

    def settings(self) -> str:
        return f"[web]\nenabled = false\n[channels.telegram]\n{self._account(self.api.token)}{self.options}"

    def second_account(self) -> str:
        return f'[channels.second]\ntype = "telegram"\n{self._account("654321:wrong-token")}'

    def _account(self, token: str) -> str:
        return f'token = "{token}"\napi_url = "{self.api.url}"\nallow = {list(self.allow)}\nearlier_messages = 0\n'

    def group(self) -> TelegramPlace:
        return TelegramPlace(self.api, self.api.group("Team", people=[ANN, BOB]))

    def stranger(self) -> TelegramPlace:
        return TelegramPlace(self.api, self.api.private(66, "Eve"))

    def room(self, name: str) -> TelegramPlace:
        forum = self.api.forum("Forum", chat_id=-1009, people=[ANN, BOB])
        return TelegramPlace(self.api, forum, forum.topic(name), addressed=True)

    def bold(self, text: str) -> str:
        return f"<b>{text}</b>"

    def fail_next(self, step: Step, status: int, *, retry_after: int | None = None) -> None:
        chat_id = None if step == "file" else self.main.chat.id
        self.api.fail_next(METHODS[step], status, retry_after=retry_after, chat_id=chat_id)
        self._foreseen.append((METHODS[step], status))

    def close(self, place: Place) -> None:
        assert isinstance(place, TelegramPlace)
        told = "Bad Request: not enough rights to send text messages to the chat"
        self.api.fail_next("sendMessage", 400, description=told, chat_id=place.chat.id, times=99)
        self._ignored.add("sendMessage")

    def break_uploads(self) -> None:
        for method in ("sendPhoto", "sendDocument"):
            self.api.fail_next(method, 500, times=99)
            self._ignored.add(method)

    def drop_answer(self, step: Step) -> None:
        self.api.drop_answer(METHODS[step], chat_id=self.main.chat.id)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.api.refuse():
            yield

    def check(self) -> None:
        # A gateway that was just left may leave a poll behind, which the next one's ends.
        refused = [(each.method, each.status) for each in self.api.refusals if each.method not in self._ignored]
        assert refused == self._foreseen, self.api.refusals


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
