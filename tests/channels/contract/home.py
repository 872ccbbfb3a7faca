"""What every platform offers its people, as one protocol: the rows of the contract are written in it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from gateway.build import Built
from gateway.store.records import Pending
from tests.gateway.stage import gateway
from tests.servers.models import ModelServer

T = TypeVar("T")

Feature = Literal[
    "album",
    "allow list",
    "edit",
    "faults",
    "files",
    "group",
    "history",
    "lost file",
    "outage",
    "patience",
    "quote",
    "redelivery",
    "rooms",
    "typing",
]
"""What not every platform has.

"history": the gateway itself shows what was said before. "patience": the platform keeps what people say while the
gateway is down. "faults": its server can be made to fail. "lost file": files can get lost on the way to us.
"""

INTERRUPTED = "[interrupted]"
PICTURE = "[picture]"


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
    """One conversation, as one person (Ann) sees it."""

    async def say(self, text: str, *, quoting: str | None = None, by: str = "Ann") -> str:
        """Returns the message's id. `quoting` is text on screen, `by` somebody of a group."""

    async def send(self, *files: Upload, text: str = "") -> str: ...

    async def edit(self, message: str, text: str | None) -> None:
        """Without text: something about the message changes that is not its text."""

    async def again(self, message: str) -> None:
        """The platform, or the person's device, delivers the message a second time."""

    async def press_stop(self) -> None: ...

    async def heard(self) -> None:
        """Returns when the gateway has confirmed all that was said."""

    def screen(self) -> Sequence[Seen]:
        """What stands there of the bot's, in order."""

    def status(self) -> str:
        """The quiet line about what runs."""

    async def until(self, holds: Callable[[], T]) -> T:
        """What `holds` gives, once it gives something true; asked whenever the screen may have changed."""

    async def settled(self) -> None:
        """Called when nothing runs any more: returns when the screen has caught up."""


class Home(Protocol):
    """One platform with its people; it outlives the gateway."""

    name: str
    has: frozenset[Feature]

    @property
    def main(self) -> Place:
        """Where Ann and the bot are alone."""

    def settings(self) -> str:
        """What the gateway's settings say of it."""

    def furnish(self, built: Built) -> None:
        """Before the gateway runs."""

    def visit(self, built: Built) -> AbstractAsyncContextManager[None]:
        """While the gateway runs."""

    def room(self, name: str) -> Place:
        """Another place: a topic, another conversation."""

    def bold(self, text: str) -> str:
        """The form of bold text."""

    def outage(self) -> AbstractAsyncContextManager[None]:
        """The connection between people and gateway is gone for a while."""

    def check(self) -> None:
        """Nothing happened that the platform complains of."""


@dataclass
class Stage:
    """A home, a model and a gateway between them."""

    home: Home
    models: ModelServer
    folder: Path
    agent: str = ""
    """Further settings of the agent."""

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[Built]:
        """Runs until left; what is not finished then is left unfinished."""
        file = self.folder / "interject.toml"
        file.write_text(_SETTINGS.format(models=self.models.openai_url, agent=self.agent) + self.home.settings())
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
{agent}
[models.openai]
api_key = "test-key"
base_url = "{models}"
"""


async def _finished(built: Built) -> None:
    """Every message has come to its one end, and every reply is confirmed (the third law)."""
    nothing = Pending((), (), (), ())
    while True:
        if not built.house.dispatch.running() and await built.house.store.pending() == nothing:
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


class Bell:
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
