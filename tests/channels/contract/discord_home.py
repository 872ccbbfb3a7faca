"""Discord, for the contract: the local Discord, and people with its app in their hands."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from channels.address import Address
from gateway.assembly.build import Built
from gateway.sessions import session_key
from gateway.store.store import Store
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
from tests.servers import discord
from tests.servers.discord import ANN, BOB, Discord, Person, Shown

T = TypeVar("T")

MENTION = "<@4242>"


METHODS: dict[Step, str] = {
    "send": "POST /channels/*/messages",
    "edit": "PATCH /channels/*/messages/*",
    "upload": "POST /channels/*/messages",
    "final": "POST /channels/*/messages",
    "file": "GET /attachments/**",
}

STATES = {
    "⏳": "waiting",
    "👀": "read",
    "✅": "answered",
    "❌": "failed",
    "🛑": "stopped",
    "🚫": "refused",
    "⚠️": "undelivered",
}


@dataclass
class DiscordPlace(PlainPlace):
    """A direct channel, a channel of a guild or a thread; `addressed`: whatever is said in it is said to the bot."""

    home: DiscordHome
    chat: discord.Place
    addressed: bool = True
    unconfirmed: dict[str, str] = field(default_factory=dict)
    """By message, the text that the gateway is to read; an empty one if any will do."""

    def __post_init__(self) -> None:
        self.home.places.append(self)

    def read_as(self, text: str, by: str = "Ann") -> str:
        return text if self.chat.guild is None else f"{by}: {text}"

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        """Commands are given as application commands, which Discord confirms."""
        if text.startswith("/"):
            return await self._command(text, self._person(by))
        options: dict[str, Any] = {"by": self._person(by)}
        if quoting is not None:
            options["reply_to"] = next(shown for shown in self.chat.messages if quoting in shown.words)
        return self._said(await self.chat.say(self._written(text), **options))

    async def send(self, *files: Upload, text: str = "") -> str:
        match files:
            case [Upload(kind="voice", data=data)]:
                return self._said(await self.chat.voice(data))
            case _:
                uploads = [discord.Upload(file.name, file.data) for file in files]
                return self._said(await self.chat.say(self._written(text), files=uploads))

    async def edit(self, message: str, text: str | None) -> None:
        if text is None:
            await self.chat.unfurl(message)
            return
        await self.chat.edit(message, text)
        self.unconfirmed[message] = text

    async def delete(self, message: str) -> None:
        await self.chat.delete(message)
        self.unconfirmed.pop(message, None)

    async def again(self, message: str) -> None:
        await self.chat.repeat(message)

    async def bot_says(self, text: str) -> None:
        await self.chat.say(f"{MENTION} {text}", by=Person(99, "Deploys", bot=True))

    async def push_malformed(self) -> None:
        malformed = {"id": "none", "channel_id": str(self.chat.id), "author": [], "attachments": 12}
        self.home.server.gateway.push_raw("MESSAGE_CREATE", malformed)

    async def press(self, option: str) -> None:
        def asked(chat: discord.Place) -> tuple[Shown, str] | None:
            buttons = [(shown, button) for shown in chat.messages for button in shown.buttons]
            return next(((shown, each.custom_id or "") for shown, each in buttons if each.label == option), None)

        shown, carried = await self.chat.until(asked)
        await (await self.chat.press(shown, carried)).until_answered()

    async def react(self, text: str, *, yes: bool, by: str = "Ann") -> None:
        def asked(chat: discord.Place) -> Shown | None:
            return next((shown for shown in chat.messages if text in _plain(shown.words)), None)

        await self.chat.react(await self.chat.until(asked), "✅" if yes else "❌", by=self._person(by))

    async def press_stop(self) -> None:
        shown, carried = await self.chat.until(self._stop_button)
        await (await self.chat.press(shown, carried)).until_answered()

    async def heard(self) -> None:
        """Discord is told of nothing but commands: the store is asked for the rest, in every place."""
        async with asyncio.timeout(60):
            while not all([await place.all_kept() for place in self.home.places]):  # noqa: ASYNC110 - the store rings no bell
                await asyncio.sleep(0.02)

    def screen(self) -> Sequence[Seen]:
        """Without what people say by commands: Discord shows it as the bot's."""
        said = [shown for shown in self.chat.messages if shown.loading or _is_persons(shown)]
        return [seen for shown in self.chat.messages if shown not in said for seen in _seen(shown)]

    def status(self) -> str:
        texts = "\n".join(self.chat.texts).splitlines()
        return "\n".join(_unmarked(line) for line in texts if _is_status(line))

    def typing(self) -> bool:
        return bool(self.chat.typing)

    def marks(self, message: str) -> list[str]:
        return [STATES[each.emoji] for each in self.chat.reacted if each.added and str(each.message_id) == message]

    async def until(self, holds: Callable[[], T]) -> T:
        return await self.chat.until(lambda _: holds())

    async def settled(self) -> None:
        assert self.status() == ""
        assert all(button.label in OFFERS for shown in self.chat.messages for button in shown.buttons)
        assert not any(shown.loading for shown in self.chat.messages)

    def _written(self, text: str) -> str:
        needed = self.addressed and self.chat.guild is not None and MENTION not in text
        return f"{MENTION} {text}" if needed else text

    def _person(self, name: str) -> Person | None:
        return next((person for person in self.chat.people if person.name == name), None)

    def _said(self, message: discord.Json) -> str:
        if self.chat.guild is None or MENTION in message["content"]:
            self.unconfirmed[message["id"]] = ""
        return str(message["id"])

    async def _command(self, text: str, by: Person | None) -> str:
        name, _, arguments = text.removeprefix("/").partition(" ")
        await self.home.server.until(lambda server: server.commands)
        options = {"arguments": arguments} if arguments else {}
        used = await self.chat.command(name, by=by, stale=True, **options)
        await used.until_answered()
        if name == "new":
            self.unconfirmed.clear()
        return str(used.id)

    async def all_kept(self) -> bool:
        if self.unconfirmed:
            kind = "group" if self.chat.guild else "direct"
            place = Address("discord", "4242", str(self.chat.id), None, kind)  # type: ignore[arg-type]
            for row in await self.home.store.rows(session_key(place)):
                if row.message_id and self.unconfirmed.get(row.message_id) in ("", row.text, None):
                    self.unconfirmed.pop(row.message_id, None)
                elif row.message_id and row.state != "waiting":
                    # Its edit is a message of its own to the turn that works on it.
                    self.unconfirmed.pop(row.message_id, None)
            await self._confirm_counted()
        return not self.unconfirmed

    async def _confirm_counted(self) -> None:
        """Messages of people who are not allowed are counted, and only those that are answered are stored."""
        said = [message for place in self.home.places for message in place.chat.log.values()]
        for stranger in await self.home.store.strangers("discord"):
            theirs = [str(message["id"]) for message in said if str(message["author"]["id"]) == stranger.sender.id]
            if stranger.messages >= len(theirs):
                for message in theirs:
                    self.unconfirmed.pop(message, None)

    def _stop_button(self, chat: discord.Place) -> tuple[Shown, str] | None:
        carried = [(shown, button.custom_id) for shown in chat.messages for button in shown.buttons]
        found = [(shown, id) for shown, id in carried if id and id.startswith("stop:")]
        return found[-1] if found else None


class DiscordHome(Plain):
    name = "discord"
    has: frozenset[Feature] = frozenset(
        {
            *("accounts", "album", "allowlist", "bots", "delete", "edit", "faults", "files", "group", "malformed"),
            *(
                "thread root",
                "options",
                "refusals",
                "outage",
                "server queue",
                "quote",
                "reacting",
                "reactions",
                "recall",
                "redelivery",
                "channels",
            ),
            *("channels", "screen", "typing"),
        }
    )
    ann = str(ANN.id)
    mention = MENTION

    def __init__(self, server: Discord) -> None:
        self.server = server
        self.places: list[DiscordPlace] = []
        self.main = DiscordPlace(self, server.direct(ANN))
        self.store: Store
        self._foreseen: list[tuple[str, int]] = []
        self._ignored: set[int] = set()

    def settings(self) -> str:
        return f"[web]\nenabled = false\n[channels.discord]\n{self._account(self.server.token)}{self.options}"

    def second_account(self) -> str:
        return f'[channels.second]\ntype = "discord"\n{self._account("a.wrong.token")}'

    def _account(self, token: str) -> str:
        return (
            f'token = "{token}"\napi_url = "{self.server.api_url}"\n'
            f'gateway_url = "{self.server.gateway_url}"\nallow = {list(self.allow)}\nearlier_messages = 0\n'
        )

    @asynccontextmanager
    async def visit(self, built: Built) -> AsyncIterator[None]:
        self.store = built.gateway.store
        await self.server.connected()
        yield

    def group(self) -> DiscordPlace:
        return DiscordPlace(self, self.server.channel("general", [ANN, BOB]), addressed=False)

    def stranger(self) -> DiscordPlace:
        return DiscordPlace(self, self.server.direct(Person(66, "Eve")))

    def room(self, name: str) -> DiscordPlace:
        """A thread, in which the bot is spoken to."""
        parent = self.server.channel("forum", [ANN, BOB])
        return DiscordPlace(self, parent.open_thread(name, ANN.card, None))

    async def thread(self, root: str, *files: Upload) -> DiscordPlace:
        parent = self.server.channel("plans", [ANN, BOB])
        root = await parent.say(root, by=BOB, files=[discord.Upload(file.name, file.data) for file in files])
        return DiscordPlace(self, await parent.thread("plans", from_message=root))

    def bold(self, text: str) -> str:
        return f"**{text}**"

    def fail_next(self, step: Step, status: int, *, retry_after: int | None = None) -> None:
        place, only_files = (None if step == "file" else self.main.chat), step == "upload"
        self.server.fail_next(METHODS[step], status, retry_after=retry_after, place=place, only_files=only_files)
        self._foreseen.append((METHODS[step].split()[0], status))

    def close(self, place: Place) -> None:
        assert isinstance(place, DiscordPlace)
        self.server.fail_next(METHODS["send"], 403, code=50013, place=place.chat, times=99)
        self._ignored.add(403)

    def break_uploads(self) -> None:
        self.server.fail_next(METHODS["upload"], 500, only_files=True, times=99)
        self._ignored.add(500)

    def drop_answer(self, step: Step) -> None:
        self.server.drop_answer(METHODS[step], place=self.main.chat, only_files=step == "upload")

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.server.refuse():
            yield

    def check(self) -> None:
        refused = [each for each in self.server.refusals if not _is_foreseen(each) and each.status not in self._ignored]
        assert [(each.route.split()[0], each.status) for each in refused] == self._foreseen, refused


def _is_foreseen(refusal: discord.Refusal) -> bool:
    """Threads that were begun from no message are asked for it all the same, and messages may be deleted before their
    state is shown on them; the second account's token is wrong."""
    reaction = "/reactions/" in refusal.route and refusal.status == 404
    return reaction or refusal.route.startswith("GET /channels/") or refusal.status == 401


def _is_persons(shown: discord.Shown) -> bool:
    used = shown.interaction
    return used is not None and used.answer == 4 and not shown.ephemeral


def _seen(shown: Shown) -> Iterator[Seen]:
    id, caption = str(shown.id), shown.words
    if not shown.files:
        yield Words(_plain(shown.words), shown.words, tuple(_code(shown.words)), id, _answers(shown))
        return
    for file in shown.files:
        if file.name.endswith(".png"):
            yield Picture(file.data, _plain(caption), id)
        else:
            yield File(file.name, file.data, _plain(caption), id)
        caption = ""


def _answers(shown: Shown) -> str | None:
    return None if shown.reply_to is None else str(shown.reply_to)


def _is_status(line: str) -> bool:
    return line.startswith("-# ⏳")


_FENCED = re.compile(r"```(\S*)\n(.*?)\n```", re.DOTALL)
_MARKUP = re.compile(r"\\(.)|\*+|~~|`+|^-# |^#+ |\u200b", re.MULTILINE)


def _plain(written: str) -> str:
    """What one reads."""
    kept = "\n".join(line for line in written.splitlines() if not _is_status(line))
    parts, end = [], 0
    for fenced in _FENCED.finditer(kept):
        parts += [_unmarked(kept[end : fenced.start()]), fenced[2]]
        end = fenced.end()
    lines = "".join([*parts, _unmarked(kept[end:])]).splitlines()
    return "\n".join(INTERRUPTED if line == "⏸ interrupted" else line for line in lines)


def _unmarked(written: str) -> str:
    return _MARKUP.sub(lambda found: found[1] or "", written)


def _code(written: str) -> Iterator[str]:
    return (fenced[2] for fenced in _FENCED.finditer(written))
