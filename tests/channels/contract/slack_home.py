"""Slack, for the contract: the local Slack, and people with its app in their hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from channels.markdown import Code, parse
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
from tests.servers import slack
from tests.servers.slack import Message, Person, Shown, Slack

T = TypeVar("T")

MENTION = "@interject"

FORESEEN = frozenset(
    {
        # After a restart nobody knows what reactions there are, nor which messages are still being streamed.
        ("reactions.remove", "no_reaction"),
        ("chat.update", "streaming_state_conflict"),
        # A message may be deleted before its state is shown on it.
        ("reactions.add", "message_not_found"),
        ("reactions.remove", "message_not_found"),
    }
)


METHODS: dict[Step, str] = {
    "send": "chat.postMessage",
    "edit": "chat.update",
    "upload": "files.completeUploadExternal",
    "final": "chat.postMessage",
    "file": "file",
}
STREAMING: dict[Step, str] = METHODS | {"send": "chat.startStream", "edit": "chat.appendStream"}

STATES = {
    "hourglass_flowing_sand": "waiting",
    "eyes": "read",
    "white_check_mark": "answered",
    "x": "failed",
    "octagonal_sign": "stopped",
    "no_entry_sign": "refused",
    "warning": "undelivered",
}


@dataclass
class SlackPlace(PlainPlace):
    """A direct message, or a thread of one (a `pane`), or a channel, where what is said to the bot begins a thread and
    goes on in it. `thread` is its root's id once it has begun. `addressed`: all that is said there is said to the bot.
    """

    home: SlackHome
    chat: slack.Place
    pane: bool = False
    thread: str | None = None
    addressed: bool = False

    def read_as(self, text: str, by: str = "Ann") -> str:
        return text if self.chat.is_direct else f"{by}: {text}"

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        """Slack has its slash command outside of threads only."""
        assert quoting is None
        await self._open()
        if text.startswith("/") and self.chat.is_direct and not self.pane:
            command, _, arguments = text.removeprefix("/").partition(" ")
            await self.chat.command("/interject", f"{command} {arguments}".strip(), by=self._person(by))
            return ""
        if text.startswith("/"):
            text = f"!{text.removeprefix('/')}"
        words = self._written(text)
        return self._said(await self.chat.say(words, by=self._person(by), thread=self._thread_of(words)), words)

    async def send(self, *files: Upload, text: str = "") -> str:
        await self._open()
        words = self._written(text)
        uploads = [slack.Upload(file.name, file.data) for file in files]
        return self._said(await self.chat.send_files(uploads, words, thread=self._thread_of(words)), words)

    async def edit(self, message: str, text: str | None) -> None:
        if text is None:
            await self.chat.unfurl(message)
        await self.chat.edit(message, None if text is None else self._written(text))

    async def delete(self, message: str) -> None:
        await self.chat.delete(message)

    async def again(self, message: str) -> None:
        await self.chat.repeat(message)

    async def bot_says(self, text: str) -> None:
        await self.chat.bot_says(f"{self.home.server.mention} {text}", classic=False)

    async def push_malformed(self) -> None:
        await self.chat.push({"type": "message", "channel": self.chat.id, "ts": None, "user": ["nobody"], "text": {}})

    async def press(self, option: str) -> None:
        def asked(chat: slack.Place) -> Shown | None:
            return next((shown for shown in chat.messages if option in shown.labels), None)

        await self.chat.press(await self.chat.until(asked), option)

    async def react(self, text: str, *, yes: bool, by: str = "Ann") -> None:
        shown = await self.chat.until(lambda chat: _holding(chat, text))
        await self.chat.react(shown, "white_check_mark" if yes else "x", by=self._person(by))

    async def press_stop(self) -> None:
        """Ours, or Slack's own in threads."""
        if self.thread is None:
            shown, value = await self.chat.until(self._stop_button)
            await self.chat.press(shown, value)
        else:
            thread = self.chat.thread(self.thread)
            await thread.until(lambda thread: thread.session is not None and thread.session.status == "processing")
            await thread.stop_session()

    async def heard(self) -> None:
        self.home.server.redeliver()
        await self.home.server.settle()

    def screen(self) -> Sequence[Seen]:
        return [seen for shown in self._messages() for seen in _seen(shown)]

    def status(self) -> str:
        lines = [line for shown in self._messages() for line in shown.text.splitlines() if line.startswith("⏳")]
        tasks = [task.title for shown in self._messages() for task in shown.tasks if task.status == "in_progress"]
        return "\n".join([*lines, *tasks])

    def typing(self) -> bool:
        return any("processing" in session.history for session in self.chat.sessions.values())

    def marks(self, message: str) -> list[str]:
        return [STATES[mark.name] for mark in self.chat.marks if mark.added and mark.ts == message]

    async def until(self, holds: Callable[[], T]) -> T:
        return await self.chat.until(lambda _: holds())

    async def settled(self) -> None:
        assert self.status() == ""
        assert all(label in OFFERS for shown in self._messages() for label in shown.labels)
        assert not any(shown.is_stream_open for shown in self._messages())
        # A session is put at rest when the reply stands.
        await self.chat.until(lambda chat: {each.status for each in chat.sessions.values()} <= {"active"})

    async def _open(self) -> None:
        if self.pane and self.thread is None:
            self.thread = (await self.chat.open_assistant()).ts

    def _messages(self) -> list[Shown]:
        if self.chat.is_direct:
            return [shown for shown in self.chat.messages if shown.thread_ts == self.thread]
        return self.chat.messages

    def _written(self, text: str) -> str:
        return f"{MENTION} {text}" if self.addressed and not text.startswith("!") else text

    def _thread_of(self, words: str) -> str | None:
        return self.thread if self.pane or MENTION in words or words.startswith("!") else None

    def _said(self, message: Message, words: str) -> str:
        if not self.chat.is_direct and MENTION in words:
            self.thread = self.thread or message["ts"]
        return str(message["ts"])

    def _person(self, name: str) -> Person:
        return next(person for person in self.chat.people if person.name == name or len(self.chat.people) == 1)

    def _stop_button(self, chat: slack.Place) -> tuple[Shown, str] | None:
        found = [(shown, each.value) for shown in chat.messages for each in shown.buttons if each.action_id == "stop"]
        return found[-1] if found else None


class SlackHome(Plain):
    """With its main place outside of threads, where a growing text is changed over and over."""

    name = "slack"
    has: frozenset[Feature] = frozenset(
        {
            *("accounts", "album", "allowlist", "bots", "delete", "edit", "faults", "files", "group", "malformed"),
            *(
                "thread root",
                "options",
                "refusals",
                "outage",
                "server queue",
                "reacting",
                "reactions",
                "recall",
                "redelivery",
                "channels",
                "screen",
            ),
        }
    )
    mention = MENTION
    sign = "!"
    methods = METHODS

    def __init__(self, server: Slack) -> None:
        self.server = server
        self.ann = server.person("Ann").id
        self.main = SlackPlace(self, server.direct("Ann"))
        self._foreseen: list[tuple[str, int]] = []
        self._ignored: set[str] = set()

    def settings(self) -> str:
        return f"[web]\nenabled = false\n[channels.slack]\n{self._account(self.server.bot_token)}{self.options}"

    def second_account(self) -> str:
        return f'[channels.second]\ntype = "slack"\n{self._account("xoxb-wrong-token")}'

    def _account(self, token: str) -> str:
        return (
            f'bot_token = "{token}"\napp_token = "{self.server.app_token}"\n'
            f'api_url = "{self.server.api_url}"\nallow = {list(self.allow)}\n'
        )

    def group(self) -> SlackPlace:
        return SlackPlace(self, self.server.channel("team", ["Ann", "Bob"]))

    def stranger(self) -> SlackPlace:
        return SlackPlace(self, self.server.direct("Eve"))

    def room(self, name: str) -> SlackPlace:
        """A thread of the app's pane; `name` is for other platforms."""
        return SlackPlace(self, self.server.direct("Ann"), pane=True)

    async def thread(self, root: str, *files: Upload) -> SlackPlace:
        channel = self.server.channel("plans", ["Ann", "Bob"])
        uploads = [slack.Upload(file.name, file.data) for file in files]
        root = await channel.send_files(uploads, root, by=self.server.person("Bob"))
        return SlackPlace(self, channel, thread=root["ts"], addressed=True)

    def bold(self, text: str) -> str:
        return f"**{text}**"

    def fail_next(self, step: Step, status: int, *, retry_after: int | None = None) -> None:
        error, told = ("invalid_arguments", None) if status == 400 else ("internal_error", status)
        place = None if step == "file" else self.main.chat
        self.server.fail_next(self.methods[step], error, status=told, retry_after=retry_after, place=place)
        self._foreseen.append((self.methods[step], told or 200))

    def close(self, place: Place) -> None:
        assert isinstance(place, SlackPlace)
        for method in ("chat.postMessage", "chat.startStream"):
            self.server.fail_next(method, "restricted_action", place=place.chat, times=99)
            self._ignored.add(method)

    def break_uploads(self) -> None:
        self.server.fail_next("files.getUploadURLExternal", "internal_error", times=99)
        self._ignored.add("files.getUploadURLExternal")

    def drop_answer(self, step: Step) -> None:
        self.server.drop_answer(self.methods[step], place=self.main.chat)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with self.server.refuse():
            yield

    def check(self) -> None:
        refused = [each for each in self.server.refusals if (each.method, each.error) not in FORESEEN]
        refused = [each for each in refused if each.error != "invalid_auth" and each.method not in self._ignored]
        unforeseen = [(each.method, each.status) for each in refused]
        assert unforeseen == self._foreseen, refused
        assert self.server.crashes == []


class SlackPaneHome(SlackHome):
    """With its main place in a thread of the app's pane, where a growing text is streamed."""

    name = "slack-pane"
    has: frozenset[Feature] = SlackHome.has | {"typing"}
    methods = STREAMING

    def __init__(self, server: Slack) -> None:
        super().__init__(server)
        self.main = SlackPlace(self, server.direct("Ann"), pane=True)


def _holding(chat: slack.Place, text: str) -> Shown | None:
    return next((shown for shown in chat.messages if text in shown.text), None)


def _seen(shown: Shown) -> Iterator[Seen]:
    caption = shown.text if shown.files else ""
    for file in shown.files:
        if file.name.endswith((".png", ".jpg", ".gif", ".webp")):
            yield Picture(file.data, caption, shown.ts)
        else:
            yield File(file.name, file.data, caption, shown.ts)
    if not shown.files and (plain := _plain(shown.text)):
        yield Words(plain, shown.markdown, tuple(_code(shown)), shown.ts, shown.thread_ts)


def _plain(text: str) -> str:
    kept = [line for line in text.splitlines() if not line.startswith("⏳")]
    return "\n".join(INTERRUPTED if line == "⏸ interrupted" else line for line in kept)


def _code(shown: Shown) -> Iterator[str]:
    return (block.text for block in parse(shown.markdown) if isinstance(block, Code))
