"""Conversation titles, made by the small model after the first answer, and shown where a platform has them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from agent.events import Charged, Delta
from agent.interrupt import shielded
from agent.log import Entry, MessagesRead, ModelAnswered, Usage
from agent.model import Model, ModelError, ModelSettings, Request
from agent.transcript import SystemNote
from channels.channel import Channel, TitledPlaces
from gateway.lifecycle.tasks import BackgroundTasks
from gateway.sessions import is_child
from gateway.store.errors import StoreError
from gateway.store.records import Turn

log = logging.getLogger(__name__)

MAX_LENGTH = 60
MAX_ANSWER_LENGTH = 200
"""Characters: a longer answer is no title."""

NO_CHANNELS: Mapping[str, Channel] = {}
LISTED = ("web", "terminal")
"""The gateway's own screens, which list conversations by the stored title."""

TIMEOUT = 60.0
MAX_SAMPLE_LENGTH = 2000
MAX_ANSWER_TOKENS = 1000
"""Including reasoning."""

PROMPT = (
    "Name the conversation that begins like this: three to six words in its language, without quotation marks and "
    "without a full stop. Answer with the name only."
)


class TitleStore(Protocol):
    async def set_title(self, session: str, title: str, generation: int | None) -> None: ...
    async def add_spent(self, turn: str, usage: Usage, model: str, purpose: str) -> None: ...


def _untold(session: str) -> None:
    """For titles that nobody watches."""


class Titles:
    """Use as `async with`; leaving it cancels running requests. A conversation without a title is listed by its first
    words."""

    def __init__(
        self,
        store: TitleStore,
        model: Model | None,
        channels: Mapping[str, Channel] = NO_CHANNELS,
        changed: Callable[[str], None] = _untold,
    ) -> None:
        """Without a model, conversations get no titles; platforms that show one are given the first words. `changed` is
        told of each session that has a new title."""
        self._store = store
        self._changed = changed
        self._model = model
        self._channels = channels
        self._tasks = BackgroundTasks("making a title failed")

    async def __aenter__(self) -> Titles:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._tasks.__aexit__(*exc)

    def use(self, model: Model | None) -> None:
        """For all titles that are made from now on."""
        self._model = model

    @property
    def at_work(self) -> frozenset[asyncio.Task[None]]:
        return self._tasks.running

    def ended(self, turn: Turn, entries: tuple[Entry, ...]) -> None:
        """Starts making a title if the turn was the first of its conversation. Never waits."""
        if not turn.first or turn.kind != "turn" or is_child(turn.session):
            return
        channel = self._channels.get(turn.address.channel)
        shown_by = channel if isinstance(channel, TitledPlaces) and channel.has_title(turn.address) else None
        if shown_by is not None or (self._model is not None and turn.address.channel in LISTED):
            self._tasks.start(partial(self._give, shown_by, turn, entries))

    async def _give(self, shown_by: TitledPlaces | None, turn: Turn, entries: tuple[Entry, ...]) -> None:
        title = "" if self._model is None else await self._name(self._model, turn, entries)
        if shown_by is not None and (title := title or _first_words(entries)):
            await shown_by.show_title(turn.address, title)

    async def _name(self, model: Model, turn: Turn, entries: tuple[Entry, ...]) -> str:
        """Failed attempts are charged too."""
        charges: list[Charged] = []
        title = ""
        try:
            title = await _title(model, entries, charges)
            if title:
                await self._store.set_title(turn.session, title, turn.generation)
                self._changed(turn.session)
        except (ModelError, StoreError, TimeoutError) as error:
            log.info("session %s: no title could be made: %s", turn.session, error)
        finally:
            await shielded(self._pay(turn, charges))
        return title

    async def _pay(self, turn: Turn, charges: Sequence[Charged]) -> None:
        for charge in charges:
            await self._store.add_spent(turn.id, charge.usage, charge.model, charge.purpose)


async def _title(model: Model, entries: Sequence[Entry], charges: list[Charged]) -> str:
    """The model's title for the conversation, "" for none; the cost is added to `charges`. Raises `ModelError` and
    `TimeoutError`."""

    async def tell(delta: Delta) -> None:
        if isinstance(delta, Charged):
            charges.append(delta)

    request = Request(PROMPT, [SystemNote(_sample(entries))], settings=ModelSettings(max_tokens=MAX_ANSWER_TOKENS))
    async with asyncio.timeout(TIMEOUT):
        answer = await model.answer(request, tell)
    charges.append(Charged(answer.usage, answer.model, "title"))
    words = " ".join(answer.text.split())
    if answer.finish == "length" or len(words) > MAX_ANSWER_LENGTH:
        # It thinks aloud, or answers the conversation.
        return ""
    return words.strip(" .\"'“”")[:MAX_LENGTH]


def _first_words(entries: Sequence[Entry]) -> str:
    """The beginning of the first message, whole words of it if there are several."""
    read = next((entry.messages for entry in entries if isinstance(entry, MessagesRead)), ())
    line = " ".join(read[0].text.split()) if read else ""
    if len(line) <= MAX_LENGTH:
        return line
    return f"{line[: MAX_LENGTH - 1].rpartition(' ')[0] or line[: MAX_LENGTH - 1]}…"


def _sample(entries: Sequence[Entry]) -> str:
    written = (message.text for entry in entries if isinstance(entry, MessagesRead) for message in entry.messages)
    answered = (entry.text for entry in entries if isinstance(entry, ModelAnswered) and entry.text.strip())
    return f"They: {next(written, '')[:MAX_SAMPLE_LENGTH]}\nYou: {next(answered, '')[:MAX_SAMPLE_LENGTH]}"
