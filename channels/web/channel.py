"""The web channel: keeps open pages up to date through event streams, and delivers their posts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
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
from channels.web.feed import Change, Changed, Closed, Feed, Reload
from channels.web.parse import OWNER, Post, attachment_of, clean_name, clean_result, clean_text, parse, parse_address
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
_PING_INTERVAL = 15.0


class NotListening(ChannelError):
    def __init__(self) -> None:
        super().__init__("The gateway is starting or stopping. Please try again in a moment.")


@dataclass(frozen=True, slots=True)
class PostResult:
    """The outcome of a post. `conflicts` are declared tools that were dropped: the agent has tools of these names."""

    receipt: Receipt | None
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Listener:
    deliver: Deliver
    commands: tuple[CommandHelp, ...]


class WebChannel:
    """The channel behind `channels.web.http_app`. Everybody with the current token is the same person, the owner."""

    def __init__(
        self, name: str, conversations: Conversations, runs: Runs, media: MediaStore, token: Callable[[], str]
    ) -> None:
        if not token():
            raise ValueError(
                "the web channel needs a token: without one, all users of this machine could use the agent"
            )
        self.name = name
        self.problem = ""
        self.media = media
        self.token = token
        self._conversations = conversations
        self._runs = runs
        self._run_waits: set[asyncio.Timeout] = set()
        self._listener: _Listener | None = None
        self._feeds: dict[str, set[Feed]] = {}
        self._new_commands: set[int] = set()

    # Called by the gateway

    async def listen(self, deliver: Deliver, commands: tuple[CommandHelp, ...]) -> None:
        """Accepts requests of the HTTP app until cancelled, then ends all event streams and waits."""
        self._listener = _Listener(deliver, commands)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._listener = None
            for feed in [feed for feeds in self._feeds.values() for feed in feeds]:
                feed.close()
            for timeout in self._run_waits:
                timeout.reschedule(asyncio.get_running_loop().time())

    async def show_commands(self, commands: tuple[CommandHelp, ...]) -> None:
        """Pages that are opened from now on have them."""
        if self._listener is not None:
            self._listener = replace(self._listener, commands=commands)

    async def fetch(self, file: FileRef) -> bytes:
        try:
            return await self.media.read(attachment_of(file))
        except MediaMissing as error:
            raise FileUnavailable(str(error)) from error

    async def thread_root(self, address: Address, message_id: str) -> ThreadRoot | None:
        return None

    async def show(self, reply: Reply, ledger: Ledger) -> None:
        """Updates the open pages. The ledger is not used: other pages will read the history."""
        self._publish(reply.address.chat, reply)

    async def typing(self, address: Address) -> None:
        """The reply's status shows it."""

    async def show_status(self, status: MessageStatus) -> None:
        self._publish(status.address.chat, status)
        await self._publish_end(status)
        if status.id in self._new_commands:
            # The new conversation begins once `/new` is answered: history read before that is the old one.
            self._new_commands.discard(status.id)
            self.reload(status.address.chat)

    async def direct_chat(self, person: str) -> str | None:
        return None

    def pace(self, address: Address) -> float:
        return _PACE

    async def aclose(self) -> None:
        """The connections are the HTTP server's."""

    # Called by the HTTP app

    @property
    def commands(self) -> tuple[CommandHelp, ...]:
        return self._listener.commands if self._listener else ()

    async def conversations(self) -> list[Wire]:
        return [render_conversation(each) for each in await self._conversations.conversations(self.name)]

    async def earlier(self) -> list[Wire]:
        return [render_conversation(each) for each in await self._conversations.earlier(self.name)]

    async def history(self, chat: str, generation: int | None = None) -> list[Wire]:
        """All items of a conversation, or of the earlier one with that number, oldest first. Raises `BadPost` for an
        impossible id."""
        address = parse_address(self.name, chat)
        return [render_item(item) for item in await self._conversations.history(address, generation)]

    async def context(self, chat: str) -> Wire:
        """How full the model's context window is; null if that is not known. Raises `BadPost` for an impossible id."""
        context = await self._conversations.context(parse_address(self.name, chat), OWNER)
        return {"context": None if context is None else {"share": round(context.share, 4), "window": context.window}}

    async def delete(self, chat: str) -> None:
        """Deletes a conversation for good; open pages show an empty one. Raises `BadPost`, `NotListening` or
        `channels.channel.NotStored`."""
        address = parse_address(self.name, chat)
        if self._listener is None:
            raise NotListening
        await self._conversations.delete(address, OWNER.id)
        self.reload(chat)

    async def store_file(self, data: bytes, name: str | None) -> Attachment:
        """Stores an uploaded file. Raises `agent.media.MediaError`."""
        return await self.media.put(data, clean_name(name))

    async def post(self, chat: str, post: Post) -> PostResult:
        """Delivers a message and returns when it is committed. Raises `BadPost` or `NotListening`."""
        message = parse(post, parse_address(self.name, chat), datetime.now(UTC))
        if self._listener is None:
            raise NotListening
        own_tools = self._runs.tools(message.address) if message.tools else frozenset()
        conflicts = tuple(tool.name for tool in message.tools if tool.name in own_tools)
        message = replace(message, tools=tuple(tool for tool in message.tools if tool.name not in own_tools))
        receipt = await self._listener.deliver(message)
        if receipt is not None:
            self.publish_message(message, post, receipt)
            if message.kind == "command" and receipt.words is None:
                # What commands answer is shown, and of no use to whoever waits for runs here.
                receipt = replace(receipt, run=None)
        return PostResult(receipt, conflicts)

    async def run(self, run: str, wait: float) -> Wire:
        """The run's state. Waits up to `wait` seconds for its end or for pending calls. Raises
        `channels.runs.UnknownRun`."""
        if wait and self._listener is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait) as timeout:
                    with self._ended_by_stop(timeout):
                        return render_run(await self._runs.wait(run))
        return render_run(await self._runs.report(run))

    async def submit_results(self, run: str, results: Sequence[CallResult]) -> None:
        """Stores results of calls. Raises as `channels.runs.Runs.submit_results` does, and `NotListening`."""
        if self._listener is None:
            raise NotListening
        await self._runs.submit_results(run, list(map(clean_result, results)))

    def watch(self, chat: str) -> AsyncGenerator[Event]:
        """The history of a conversation and all its events from now on.

        Watching starts before the history is read, and changes are relative to what this stream sent before, so nothing
        is missed or repeated. Raises `BadPost` or `NotListening`, at once.
        """
        address = parse_address(self.name, chat)
        if self._listener is None:
            raise NotListening
        return self._events(address)

    async def _events(self, address: Address) -> AsyncGenerator[Event]:
        sent: dict[str, Reply] = {}
        with self._feed(address.chat) as feed:
            while True:
                match await feed.take(_PING_INTERVAL):
                    case Closed():
                        return
                    case Reload():
                        items = await self._conversations.history(address)
                        sent = _growing(items)
                        yield Event("history", {"items": [render_item(item) for item in items]})
                    case Changed(()):
                        yield Event("ping", {})
                    case Changed(changes):
                        for each in changes:
                            yield _render(each, sent)

    @contextmanager
    def _ended_by_stop(self, timeout: asyncio.Timeout) -> Iterator[None]:
        self._run_waits.add(timeout)
        try:
            yield
        finally:
            self._run_waits.discard(timeout)

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

    def publish_message(self, message: InboundMessage, post: Post, receipt: Receipt) -> None:
        """Shows a message that was delivered to open pages, once."""
        if receipt.duplicate:
            return
        if message.command == "new":
            self._new_commands.add(receipt.id)
        elif message.command not in ("stop", "answer"):
            self._publish(message.address.chat, _as_written(message, post, receipt))

    async def _publish_end(self, status: MessageStatus) -> None:
        """Publishes the end of the message's run, once. The run of a message that another message's turn reads ends
        when it is read, not again when that turn ends."""
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

    def _publish(self, chat: str, change: Change) -> None:
        for feed in self._feeds.get(chat, ()):
            feed.put(change)

    def reload(self, chat: str) -> None:
        """Open pages read the conversation again."""
        for feed in self._feeds.get(chat, ()):
            feed.reload()


def _growing(items: Iterable[Item]) -> dict[str, Reply]:
    replies = (item.reply for item in items if isinstance(item, ShownReply))
    return {reply.id: reply for reply in replies if not reply.done}


def _render(change: Change, sent: dict[str, Reply]) -> Event:
    """Also records in `sent` the state of the reply that the stream sends."""
    match change:
        case PersonMessage():
            return render_message(change)
        case MessageStatus():
            return render_status(change)
        case RunReport():
            return Event("run", render_run(change))
        case Reply():
            before = sent.pop(change.id, None)
            if not change.done:
                sent[change.id] = change
            return render_change(before, change) if before else render_reply(change)


def _as_written(message: InboundMessage, post: Post, receipt: Receipt) -> PersonMessage:
    """The message as it is displayed. A command is answered at once: it is never queued behind a turn."""
    return PersonMessage(
        id=receipt.id,
        message_id=message.message_id,
        sender=message.sender.name,
        text=clean_text(post.text) if receipt.words is None else receipt.words,
        attachments=post.attachments,
        state=_first_state(message, receipt),
        step=None,
        reason=receipt.refused or "",
        at=message.sent_at,
    )


def _first_state(message: InboundMessage, receipt: Receipt) -> MessageState:
    if receipt.refused:
        return "refused"
    return "answered" if message.kind == "command" and receipt.words is None else "waiting"
