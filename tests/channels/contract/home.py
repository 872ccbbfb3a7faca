"""A platform as its users see it, as one protocol. The contract tests use nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from gateway.assembly.build import Built
from gateway.store.records import Pending
from tests.gateway.notes import left_behind
from tests.gateway.stage import gateway
from tests.servers.models import ModelServer

T = TypeVar("T")

Feature = Literal[
    "accounts",
    "album",
    "allowlist",
    "bots",
    "delete",
    "edit",
    "faults",
    "files",
    "group",
    "history",
    "malformed",
    "thread root",
    "options",
    "outage",
    "server queue",
    "quote",
    "reacting",
    "reactions",
    "recall",
    "redelivery",
    "refusals",
    "channels",
    "screen",
    "typing",
]
"""Features that not every platform has.

"accounts": the channel has a token, which may be wrong. "bots": other programs write there. "channels": it has several
channels or topics. "faults": its server can be made to fail. "history": the gateway itself shows the history.
"options": it has a section in the settings. "recall": it shows what became of a message whose confirmation was lost.
"reacting": people react to messages. "refusals": it may refuse what the bot sends. "screen": what was shown stays
visible while the gateway is stopped. "server queue": it stores people's messages while the gateway is stopped.
"thread root": a thread starts with a message.
"""

Step = Literal["send", "edit", "upload", "final", "file"]
"""Where a platform can fail: when a text that will grow is first sent, when it is changed, when a picture is sent, when
a text is sent that is whole, when a person's file is fetched."""

INTERRUPTED = "[interrupted]"
PICTURE = "[picture]"
OFFERS = ("Try again", "Send it as text")
"""Buttons that wait for nothing and stay."""


@dataclass(frozen=True, slots=True)
class Upload:
    name: str
    data: bytes
    kind: Literal["photo", "document", "voice"] = "document"


@dataclass(frozen=True, slots=True)
class Words:
    """A text on screen. `plain` is what one reads, `form` what makes it look so, `code` the code blocks in it.

    `message` names the message it is in, where the platform has messages; `answers` the one that this answers.
    """

    plain: str
    form: str
    code: tuple[str, ...] = ()
    message: str = ""
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    data: bytes
    caption: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class File:
    name: str
    data: bytes
    caption: str = ""
    message: str = ""


Seen = Words | Picture | File


class Place(Protocol):
    """One conversation, as its people see it: Ann, and in groups Bob."""

    def read_as(self, text: str, by: str = "Ann") -> str:
        """What the model is to read when this is said there: among several people, with the name of who says it."""

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        """Returns the message's id. `quoting` is text on screen, `by` somebody of a group."""

    async def send(self, *files: Upload, text: str = "") -> str: ...

    async def edit(self, message: str, text: str | None) -> None:
        """Without text: something about the message changes that is not its text."""

    async def delete(self, message: str) -> None: ...

    async def again(self, message: str) -> None:
        """The platform, or the person's device, delivers the message a second time."""

    async def bot_says(self, text: str) -> None:
        """Another program speaks there, to the bot."""

    async def push_malformed(self) -> None:
        """The platform, or somebody's device, sends what cannot be read."""

    async def press_stop(self) -> None: ...

    async def press(self, option: str) -> None:
        """Chooses an option of the open question, once it is there."""

    async def react(self, text: str, *, yes: bool, by: str = "Ann") -> None:
        """Reacts to the message of the bot's with this text, once it is there."""

    async def heard(self) -> None:
        """Returns when the gateway has confirmed all that was said."""

    def screen(self) -> Sequence[Seen]:
        """What stands there of the bot's, in order."""

    def status(self) -> str:
        """The quiet line about what runs."""

    def typing(self) -> bool:
        """Whether it was shown that somebody is at work."""

    def marks(self, message: str) -> list[str]:
        """The states that were shown on a person's message, in order."""

    async def until(self, holds: Callable[[], T]) -> T:
        """What `holds` gives, once it gives something true; asked whenever the screen may have changed."""

    async def settled(self) -> None:
        """Called when nothing runs any more: returns when the screen has caught up."""


class Home(Protocol):
    """One platform with its people; it outlives the gateway."""

    name: str
    has: frozenset[Feature]
    allow: Sequence[str]
    """Who may speak."""
    options: str
    """Further lines of its section of the settings."""

    @property
    def main(self) -> Place:
        """Where Ann and the bot are alone."""

    @property
    def ann(self) -> str:
        """Ann's id, for the settings."""

    @property
    def mention(self) -> str:
        """How one speaks to the bot where others are."""

    @property
    def sign(self) -> str:
        """What commands begin with there."""

    def settings(self) -> str:
        """What the gateway's settings say of it."""

    def second_account(self) -> str:
        """A section named "second" for an account of the same platform, whose token is wrong."""

    def furnish(self, built: Built) -> None:
        """Before the gateway runs."""

    def visit(self, built: Built) -> AbstractAsyncContextManager[None]:
        """While the gateway runs."""

    def group(self) -> Place:
        """Ann and Bob, among whom the bot must be mentioned."""

    def stranger(self) -> Place:
        """Where Eve and the bot are alone."""

    def room(self, name: str) -> Place:
        """Another place where all is said to the bot: a topic, a thread, another conversation."""

    async def thread(self, root: str, *files: Upload) -> Place:
        """A thread that begins with a message of Bob's, which is not for the bot; in it, all is said to the bot."""

    def bold(self, text: str) -> str:
        """The form of bold text."""

    def fail_next(self, step: Step, status: int, *, retry_after: int | None = None) -> None:
        """The platform refuses the next of these in the main place, once, without doing it."""

    def drop_answer(self, step: Step) -> None:
        """The platform does the next of these in the main place, and the connection breaks before it says so."""

    def close(self, place: Place) -> None:
        """The bot may not write there any more."""

    def break_uploads(self) -> None:
        """The platform's server fails at every file from now on."""

    def outage(self) -> AbstractAsyncContextManager[None]:
        """The connection between people and gateway is gone for a while."""

    def check(self) -> None:
        """The platform complained of nothing but what it was told to."""


class Plain:
    """What a home is that has none of the features; homes inherit it and say what they have."""

    allow: Sequence[str] = ("*",)
    options = ""
    ann = ""
    mention = ""
    sign = "/"

    def second_account(self) -> str:
        raise NotImplementedError

    def furnish(self, built: Built) -> None:
        pass

    @asynccontextmanager
    async def visit(self, built: Built) -> AsyncIterator[None]:
        yield

    def group(self) -> Place:
        raise NotImplementedError

    def stranger(self) -> Place:
        raise NotImplementedError

    def room(self, name: str) -> Place:
        raise NotImplementedError

    async def thread(self, root: str, *files: Upload) -> Place:
        raise NotImplementedError

    def fail_next(self, step: Step, status: int, *, retry_after: int | None = None) -> None:
        raise NotImplementedError

    def drop_answer(self, step: Step) -> None:
        raise NotImplementedError

    def close(self, place: Place) -> None:
        raise NotImplementedError

    def break_uploads(self) -> None:
        raise NotImplementedError

    def outage(self) -> AbstractAsyncContextManager[None]:
        raise NotImplementedError

    def check(self) -> None:
        pass


class PlainPlace:
    """What a place is that has none of the features."""

    def read_as(self, text: str, by: str = "Ann") -> str:
        return text

    async def send(self, *files: Upload, text: str = "") -> str:
        raise NotImplementedError

    async def edit(self, message: str, text: str | None) -> None:
        raise NotImplementedError

    async def delete(self, message: str) -> None:
        raise NotImplementedError

    async def again(self, message: str) -> None:
        raise NotImplementedError

    async def bot_says(self, text: str) -> None:
        raise NotImplementedError

    async def push_malformed(self) -> None:
        raise NotImplementedError

    async def react(self, text: str, *, yes: bool, by: str = "Ann") -> None:
        raise NotImplementedError

    def typing(self) -> bool:
        raise NotImplementedError

    def marks(self, message: str) -> list[str]:
        raise NotImplementedError


@dataclass
class Stage:
    """A home, a model and a gateway between them."""

    home: Home
    models: ModelServer
    folder: Path
    agent: str = ""
    """Further settings of the agent."""
    more: str = ""
    """Further sections of the settings."""

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Built]:
        """Runs until left; what is not finished then is left unfinished."""
        file = self.folder / "interject.toml"
        said = _SETTINGS.format(models=self.models.openai_url, agent=self.agent)
        file.write_text(said + self.home.settings() + self.more)
        async with gateway(file, self.home.furnish) as built, self.home.visit(built):
            yield built

    @asynccontextmanager
    async def conversation(self, *others: Place) -> AsyncIterator[Place]:
        """Runs until all that was said is answered and shown, in the home's main place and those others."""
        async with self.gateway() as built:
            yield self.home.main
            async with asyncio.timeout(60):
                await self.home.main.heard()
                await _finished(built)
            for place in (self.home.main, *others):
                await place.settled()


_SETTINGS = """\
[agent]
model = "openai:test"
workspace = "workspace"
workspaces = "shared"
shutdown_grace = 0
{agent}
[models.openai]
api_key = "test-key"
base_url = "{models}"
"""


async def _finished(built: Built) -> None:
    """Every message has come to its one end, and every reply is confirmed (the third law)."""
    nothing = Pending((), (), {}, (), ())
    while True:
        if not built.gateway.dispatcher.running() and await left_behind(built.gateway.store) == nothing:
            return
        await asyncio.sleep(0.02)


def lines(place: Place) -> list[str]:
    """The screen as lines without their looks, the same on every platform: pictures and files are lines too."""
    return [line for seen in place.screen() for line in _lines_of(seen)]


def _lines_of(seen: Seen) -> list[str]:
    match seen:
        case Words():
            return [line.strip() for line in seen.plain.splitlines() if line.strip()]
        case Picture():
            return [PICTURE, *([seen.caption] if seen.caption else [])]
        case File():
            return [f"[file {seen.name}]", *([seen.caption] if seen.caption else [])]


def whole(place: Place) -> str:
    return "\n".join(lines(place))


def code(place: Place) -> list[str]:
    """The lines of all code blocks."""
    texts = [seen for seen in place.screen() if isinstance(seen, Words)]
    return [line for words in texts for block in words.code for line in block.splitlines()]


def pictures(place: Place) -> list[bytes]:
    return [seen.data for seen in place.screen() if isinstance(seen, Picture)]


class Signal:
    """Lets one waiter look again whenever something may have changed."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def until(self, holds: Callable[[], T], told: Callable[[], object]) -> T:
        try:
            async with asyncio.timeout(60):
                while not (found := holds()):
                    self._rung.clear()
                    await self._rung.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"not within 60 s; on screen: {told()}") from None
