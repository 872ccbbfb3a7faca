"""The web channel: it keeps the screens that watch a conversation up to date, and hands on what they post."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agent.media import Attachment, MediaMissing, MediaStore
from channels.address import Address
from channels.channel import ChannelError, CommandHelp, FileUnavailable, Ledger
from channels.history import Conversations, Item, PersonMessage, ShownReply
from channels.message import Deliver, FileRef, InboundMessage, MessageState, MessageStatus, Receipt, ThreadRoot
from channels.reply import Reply
from channels.runs import CallResult, RunReport, Runs
from channels.web.feed import Changed, Closed, Feed, Lost, News
from channels.web.parse import OWNER, Post, attachment_of, clean_name, clean_text, parse, parse_address
from channels.web.render import (
    Event,
    Wire,
    render_change,
    render_conversation,
    render_item,
    render_message,
    render_reply,
    render_run,
    render_status,
)

_PACE = 0.05
_KEEP_ALIVE = 15.0


class NotListening(ChannelError):
    def __init__(self) -> None:
        super().__init__("The gateway is starting or stopping. Please try again in a moment.")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a post. `conflicts` are the declared tools that were dropped, as there are others of their names."""

    accepted: Receipt | None
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ear:
    deliver: Deliver
    commands: tuple[CommandHelp, ...]


class WebChannel:
    """The page and the API behind `channels.web.http_app`. All who hold the token are one person: the owner."""

    def __init__(self, name: str, histories: Conversations, runs: Runs, media: MediaStore, token: str) -> None:
        if not token:
            raise ValueError("the web channel needs a token: without one, anybody on this machine could use the agent")
        self.name = name
        self.trouble = ""
        self.media = media
        self.token = token
        self._histories = histories
        self._runs = runs
        self._patient: set[asyncio.Timeout] = set()
        self._ear: _Ear | None = None
        self._feeds: dict[str, set[Feed]] = {}
        self._renewals: set[int] = set()

    # What the gateway asks

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Lets requests in until cancelled; the HTTP server is the ear. Ends all streams and waits when it stops."""
        self._ear = _Ear(deliver, commands)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._ear = None
            for feed in [feed for feeds in self._feeds.values() for feed in feeds]:
                feed.close()
            for patience in self._patient:
                patience.reschedule(asyncio.get_running_loop().time())

    async def fetch(self, file: FileRef) -> bytes:
        try:
            return await self.media.read(attachment_of(file))
        except MediaMissing as error:
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Tells the open screens. What the others will see is the history, so the ledger has nothing to remember."""
        self._publish(reply.address.chat, reply)

    async def typing(self, address: Address) -> None:
        """A reply's status shows it."""

    async def show_status(self, status: MessageStatus) -> None:
        self._publish(status.address.chat, status)
        await self._tell_end(status)
        if status.id in self._renewals:
            # The conversation is a new one only once its command is answered: history read before that is the old one.
            self._renewals.discard(status.id)
            self._lose(status.address.chat)

    def pace(self, address: Address) -> float:
        return _PACE

    async def aclose(self) -> None:
        """The connections are the HTTP server's."""

    # What a screen asks

    @property
    def commands(self) -> tuple[CommandHelp, ...]:
        return self._ear.commands if self._ear else ()

    async def conversations(self) -> list[Wire]:
        return [render_conversation(each) for each in await self._histories.conversations(self.name)]

    async def history(self, chat: str) -> list[Wire]:
        """All items of a conversation, oldest first. Raises `BadPost` for an impossible id."""
        address = parse_address(self.name, chat)
        return [render_item(item) for item in await self._histories.history(address)]

    async def keep(self, data: bytes, name: str | None) -> Attachment:
        """Stores an uploaded file. Raises `agent.media.MediaError`."""
        return await self.media.put(data, clean_name(name))

    async def post(self, chat: str, posted: Post) -> Taken:
        """Hands a message on and returns when it is committed. Raises `BadPost` or `NotListening`."""
        message = parse(posted, parse_address(self.name, chat), datetime.now(UTC))
        if self._ear is None:
            raise NotListening
        ours = self._runs.tools(message.address) if message.tools else frozenset()
        conflicts = tuple(tool.name for tool in message.tools if tool.name in ours)
        message = replace(message, tools=tuple(tool for tool in message.tools if tool.name not in ours))
        accepted = await self._ear.deliver(message)
        if accepted and not accepted.duplicate:
            self._tell_others(message, posted, accepted)
        return Taken(accepted, conflicts)

    async def run(self, run: str, wait: float) -> Wire:
        """What has become of a message, after at most so many seconds if nothing has yet, and there is nothing to do
        for it. Raises `channels.runs.UnknownRun`."""
        if wait and self._ear is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait) as patience:
                    with self._waiting(patience):
                        return render_run(await self._runs.wait(run))
        return render_run(await self._runs.report(run))

    async def submit_results(self, run: str, results: Sequence[CallResult]) -> None:
        """Hands results on. Raises as `channels.runs.Runs.submit_results` does, and `NotListening`."""
        if self._ear is None:
            raise NotListening
        await self._runs.submit_results(run, [replace(each, text=clean_text(each.text)) for each in results])

    def watch(self, chat: str) -> AsyncGenerator[Event]:
        """Everything that happens in a conversation from now on, beginning with its history.

        Watching starts before the history is read and changes are told against what this stream has told before,
        so nothing is missed and nothing comes twice. Raises `BadPost` or `NotListening`, at once.
        """
        address = parse_address(self.name, chat)
        if self._ear is None:
            raise NotListening
        return self._events(address)

    async def _events(self, address: Address) -> AsyncGenerator[Event]:
        told: dict[str, Reply] = {}
        with self._feed(address.chat) as feed:
            while True:
                match await feed.take(_KEEP_ALIVE):
                    case Closed():
                        return
                    case Lost():
                        items = await self._histories.history(address)
                        told = _growing(items)
                        yield Event("history", {"items": [render_item(item) for item in items]})
                    case Changed(()):
                        yield Event("ping", {})
                    case Changed(news):
                        for each in news:
                            yield _render(each, told)

    @contextmanager
    def _waiting(self, patience: asyncio.Timeout) -> Iterator[None]:
        self._patient.add(patience)
        try:
            yield
        finally:
            self._patient.discard(patience)

    @contextmanager
    def _feed(self, chat: str) -> Iterator[Feed]:
        feed = Feed()
        feeds = self._feeds.setdefault(chat, set())
        feeds.add(feed)
        try:
            yield feed
        finally:
            feeds.discard(feed)
            if not feeds and self._feeds.get(chat) is feeds:
                del self._feeds[chat]

    def _tell_others(self, message: InboundMessage, posted: Post, accepted: Receipt) -> None:
        if message.command == "new":
            self._renewals.add(accepted.id)
        elif message.command not in ("stop", "answer"):
            self._publish(message.address.chat, _as_written(message, posted, accepted))

    async def _tell_end(self, status: MessageStatus) -> None:
        """Tells the open screens that the message's run is over, once: of one that another's turn reads as soon as it
        does, and not again when that turn ends."""
        if status.state == "waiting" or status.address.chat not in self._feeds:
            return
        report = await self._runs.report_for(status.id)
        if report is None or not report.finished:
            return
        if report.state in ("read", "superseded"):
            is_new = status.state == "read" or status.before != "read"
        else:
            is_new = status.state != "read"
        if is_new:
            self._publish(status.address.chat, report)

    def _publish(self, chat: str, news: News) -> None:
        for feed in self._feeds.get(chat, ()):
            feed.put(news)

    def _lose(self, chat: str) -> None:
        for feed in self._feeds.get(chat, ()):
            feed.lose()


def _growing(items: Iterable[Item]) -> dict[str, Reply]:
    replies = (item.reply for item in items if isinstance(item, ShownReply))
    return {reply.id: reply for reply in replies if not reply.done}


def _render(news: News, told: dict[str, Reply]) -> Event:
    """Also notes in `told` what the stream's reader knows of the reply from now on."""
    match news:
        case PersonMessage():
            return render_message(news)
        case MessageStatus():
            return render_status(news)
        case RunReport():
            return Event("run", render_run(news))
        case Reply():
            before = told.pop(news.id, None)
            if not news.done:
                told[news.id] = news
            return render_change(before, news) if before else render_reply(news)


def _as_written(message: InboundMessage, posted: Post, accepted: Receipt) -> PersonMessage:
    """A command is shown as answered: it never waits behind a turn."""
    return PersonMessage(
        id=accepted.id,
        message_id=message.message_id,
        sender=OWNER.name,
        text=clean_text(posted.text) if accepted.words is None else accepted.words,
        attachments=posted.attachments,
        state=_first_state(message, accepted),
        step=None,
        reason=accepted.refused or "",
        at=message.sent_at,
    )


def _first_state(message: InboundMessage, accepted: Receipt) -> MessageState:
    if accepted.refused:
        return "refused"
    return "answered" if message.kind == "command" and accepted.words is None else "waiting"
