"""The channel, direct message or thread where one reply is shown."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import Ledger, Undeliverable
from channels.reply import Reply
from channels.slack.api import Api, asks_for_patience, code_of, explained, is_refusal, slack_errors
from channels.slack.parse import Bot, Json, is_own
from channels.slack.render import (
    NOTICE,
    UPLOAD_LIMIT,
    Content,
    Media,
    Task,
    Text,
    alt_of,
    blocks_of,
    comment_of,
    excuse_of,
    fallback_of,
    key_of,
    plain_blocks_of,
)
from channels.sync import Piece

log = logging.getLogger(__name__)

FILE = "file:"
"""Before the ref of a file: Slack does not tell at once in which message it is."""

EVENT_TYPE = "interject_piece"
"""Of the metadata by which a message is known again."""

PAGE = 200
MOST_PAGES = 10

_TOO_MUCH = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long")
_GONE = ("message_not_found", "cant_update_message", "edit_window_closed", "cant_edit_message")
_NOT_DELETED = ("message_not_found", "cant_delete_message", "file_not_found", "file_deleted", "cant_delete_file")
_APP_CANNOT = ("unknown_method", "missing_scope", "not_allowed_token_type", "method_not_supported_for_channel_type")


@dataclass(slots=True)
class Stream:
    """A message that is being streamed: the Markdown it has got so far, and its tasks."""

    markdown: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)


@dataclass(slots=True)
class Streams:
    """What this process has begun to stream and not stopped, by channel and ts. `usable`: Slack lets it."""

    usable: bool = True
    open: dict[tuple[str, str], Stream] = field(default_factory=dict)


class ChatTarget:
    """A `channels.sync.Target`.

    `streaming`: whether a growing text may be streamed there, for whom: the asker's id, "" in direct messages. A stream
    can only be added to and carries no button, so it is for where Slack has a stop button of its own.
    """

    def __init__(
        self, api: Api, media: MediaStore, bot: Bot, address: Address, streams: Streams, streaming: str | None
    ) -> None:
        self._api = api
        self._media = media
        self._bot = bot
        self._address = address
        self._streams = streams
        self._streaming = streaming

    def batch_size(self, contents: Sequence[Content]) -> int:
        return 1

    async def send(self, contents: Sequence[Content], *, first: bool, repeat: bool) -> Sequence[str]:
        match contents[0]:
            case Text() as text:
                return [await self._send_text(text, repeat)]
            case Media() as media:
                return [await self._send_media(media, repeat)]
            case content:
                assert_never(content)

    async def edit(self, ref: str, content: Content, *, repeat: bool) -> bool:
        """A stream that turns out to have shown what will not stay is stopped, and the message changed from then on."""
        if not isinstance(content, Text):
            return True
        stream = self._streams.open.get((self._address.chat, ref))
        if stream is not None and await self._stream_on(ref, stream, content):
            return True
        with slack_errors():
            try:
                await self._change(ref, content, repeat)
            except SlackApiError as error:
                if not is_refusal(error, *_GONE):
                    raise
                log.info("a message is sent anew: %s", code_of(error))
                return False
        return True

    async def delete(self, ref: str) -> None:
        with slack_errors():
            try:
                if ref.startswith(FILE):
                    await self._api.call("files.delete", file=ref.removeprefix(FILE))
                    return
                await self._take_away(ref)
            except SlackApiError as error:
                if not is_refusal(error, *_NOT_DELETED):
                    raise
                log.info("a message is not deleted: %s", code_of(error))

    async def _take_away(self, ref: str) -> None:
        if (self._address.chat, ref) in self._streams.open:
            await self._stop(ref)
        try:
            await self._api.call("chat.delete", channel=self._address.chat, ts=ref)
        except SlackApiError as error:
            if not is_refusal(error, "cant_delete_message"):
                raise
            # Perhaps an earlier process had begun to stream it.
            await self._stop(ref)
            await self._api.call("chat.delete", channel=self._address.chat, ts=ref)

    # --- texts ---

    async def _send_text(self, text: Text, repeat: bool) -> str:
        with slack_errors(sending=True):
            if not repeat and (ts := await self._start(text)):
                return ts
            place: Json = {"channel": self._address.chat, "thread_ts": self._address.thread}
            options = {"unfurl_links": False, "unfurl_media": False, "metadata": _metadata(text.key)}
            answer = await self._write("chat.postMessage", text, repeat, **place, **options)
            return str(answer["ts"])

    async def _change(self, ref: str, text: Text, repeat: bool) -> None:
        place: Json = {"channel": self._address.chat, "ts": ref, "metadata": _metadata(text.key)}
        try:
            await self._write("chat.update", text, repeat, **place)
        except SlackApiError as error:
            if not is_refusal(error, "streaming_state_conflict"):
                raise
            # An earlier process had begun to stream it.
            await self._stop(ref)
            await self._write("chat.update", text, repeat, **place)

    async def _write(self, method: str, text: Text, repeat: bool, **place: object) -> Json:
        words = fallback_of(text)
        try:
            return await self._api.call(method, text=words, blocks=blocks_of(text, repeat=repeat), **place)
        except SlackApiError as error:
            if not is_refusal(error, *_TOO_MUCH):
                raise
            log.warning("Slack cannot read our formatting (%s), the text is sent without", code_of(error))
            return await self._api.call(method, text=words, blocks=plain_blocks_of(text, repeat=repeat), **place)

    # --- streams ---

    async def _start(self, text: Text) -> str | None:
        """The ts of the message that is streamed now; None when it cannot be streamed."""
        if self._streaming is None or not self._streams.usable or not text.growing or self._address.thread is None:
            return None
        stream, chunks = Stream(), _chunks(Stream(), text)
        recipient = {"recipient_team_id": self._bot.team, "recipient_user_id": self._streaming}
        try:
            answer = await self._api.call(
                "chat.startStream",
                channel=self._address.chat,
                thread_ts=self._address.thread,
                chunks=chunks or None,
                **(recipient if self._streaming else {}),
            )
        except SlackApiError as error:
            if not (is_refusal(error) or is_refusal(error, *_APP_CANNOT)):
                raise
            log.info("a text is not streamed: %s", code_of(error))
            self._streams.usable = code_of(error) not in _APP_CANNOT
            return None
        _grow(stream, text)
        ts = str(answer["ts"])
        self._streams.open[self._address.chat, ts] = stream
        return ts

    async def _stream_on(self, ref: str, stream: Stream, text: Text) -> bool:
        """Whether the message shows the text now. Otherwise it is no stream any more, and is to be changed."""
        stays = text.markdown.startswith(stream.markdown)
        if text.growing and stays:
            chunks = _chunks(stream, text)
            with slack_errors():
                if chunks and not await self._streamed("chat.appendStream", ref, chunks=chunks):
                    return False
            _grow(stream, text)
            return True
        as_streamed = stays and not text.buttons and not text.status and NOTICE not in stream.tasks
        with slack_errors():
            chunks = _chunks(stream, text) if stays else []
            stopped = await self._streamed("chat.stopStream", ref, chunks=chunks or None, metadata=_metadata(text.key))
        self._streams.open.pop((self._address.chat, ref), None)
        return stopped and as_streamed

    async def _streamed(self, method: str, ref: str, **arguments: object) -> bool:
        """Whether Slack did it. Whatever keeps it from that, what the message shows is in doubt afterwards."""
        try:
            await self._api.call(method, channel=self._address.chat, ts=ref, **arguments)
        except SlackApiError as error:
            if not asks_for_patience(error):
                self._streams.open.pop((self._address.chat, ref), None)
            if not is_refusal(error):
                raise
            log.info("a stream is given up: %s", code_of(error))
            return False
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError):
            self._streams.open.pop((self._address.chat, ref), None)
            raise
        return True

    async def _stop(self, ref: str) -> None:
        """Stops a stream, if the message is one."""
        self._streams.open.pop((self._address.chat, ref), None)
        try:
            await self._api.call("chat.stopStream", channel=self._address.chat, ts=ref)
        except SlackApiError as error:
            if not is_refusal(error):
                raise
            log.debug("a stream is not stopped: %s", code_of(error))

    # --- files ---

    async def _send_media(self, media: Media, repeat: bool) -> str:
        """As a file in the conversation, else a line that says why it cannot be had."""
        attachment = media.attachment
        if attachment.size > UPLOAD_LIMIT:
            return await self._excuse(media, "it is larger than the 1 GB that Slack takes", repeat)
        try:
            data = await self._media.read(attachment)
        except MediaMissing as error:
            return await self._excuse(media, str(error), repeat)
        try:
            with slack_errors():
                file = await self._upload(media, data)
        except _Refused as error:
            return await self._excuse(media, str(error), repeat)
        refusal = await self._share(media, file, repeat)
        return await self._excuse(media, refusal, repeat) if refusal else f"{FILE}{file}"

    async def _share(self, media: Media, file: str, repeat: bool) -> str:
        """Why Slack does not show it; empty when it does."""
        with slack_errors(sending=True):
            try:
                await self._api.call(
                    "files.completeUploadExternal",
                    files=[{"id": file, "title": media.attachment.name}],
                    channel_id=self._address.chat,
                    thread_ts=self._address.thread,
                    initial_comment=comment_of(media, repeat=repeat) or None,
                )
            except SlackApiError as error:
                if not is_refusal(error):
                    raise
                return f"Slack refuses it: {explained(error)}"
        return ""

    async def _upload(self, media: Media, data: bytes) -> str:
        """The file's id. Nobody sees it before it is shared. Raises `_Refused`."""
        attachment = media.attachment
        try:
            ticket = await self._api.call(
                "files.getUploadURLExternal",
                filename=attachment.name,
                length=len(data),
                alt_txt=alt_of(media) if attachment.is_picture else None,
            )
            await self._api.upload(ticket["upload_url"], data)
        except SlackApiError as error:
            if not is_refusal(error):
                raise
            raise _Refused(f"Slack refuses it: {explained(error)}") from error
        except aiohttp.ClientResponseError as error:
            if error.status >= 500 or error.status == 429:
                raise
            raise _Refused(f"Slack refuses its bytes ({error.status})") from error
        return str(ticket["file_id"])

    async def _excuse(self, media: Media, reason: str, repeat: bool) -> str:
        return await self._send_text(excuse_of(media, reason), repeat)

    # --- reading back ---

    async def recall(self, reply: Reply, pieces: Sequence[Piece[Content]], ledger: Ledger) -> None:
        """Finds out what became of pieces whose sending was never confirmed, from what stands on the screen.

        Where the app may not read, they stay unknown.
        """
        unknown = [sent for sent in ledger.pieces() if sent.state == "unknown"]
        if not unknown:
            return
        taken = {sent.ref for sent in ledger.pieces()} | {ts for _, ts in self._streams.open}
        contents = {piece.key: piece.content for piece in pieces}
        try:
            with slack_errors():
                shown = [message async for message in self._own_messages(reply.reply_to)]
        except Undeliverable as error:
            log.warning("what is on screen cannot be read back, so something may be shown twice: %s", error)
            return
        for sent in unknown:
            found = _found(key_of(reply.id, sent.key), contents.get(sent.key), shown, taken)
            if found is None:
                await ledger.removed(sent.key)
            else:
                taken.add(found)
                await ledger.sent(sent.key, found, "")

    async def _own_messages(self, since: str | None) -> AsyncIterator[Json]:
        """What the app has said there after the message with that ts."""
        method = "conversations.history" if self._address.thread is None else "conversations.replies"
        cursor = None
        for _ in range(MOST_PAGES):
            page = await self._api.call(
                method,
                channel=self._address.chat,
                ts=self._address.thread,
                oldest=since,
                limit=PAGE,
                cursor=cursor,
                include_all_metadata=True,
            )
            for message in page["messages"]:
                # A thread always comes with its root, which in the app's pane is the app's too.
                if is_own(message, self._bot) and message["ts"] != self._address.thread:
                    yield message
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def _found(key: str, content: Content | None, shown: Iterable[Json], taken: Container[str]) -> str | None:
    """The ref of the message that shows the piece; `content` is None for a status that is over.

    Neither files nor streams that were not stopped carry a key.
    """
    for message in shown:
        told = ((message.get("metadata") or {}).get("event_payload") or {}).get("key")
        if message["ts"] in taken or (told is not None and told != key):
            continue
        if told == key:
            return str(message["ts"])
        files = message.get("files") or ()
        if isinstance(content, Media):
            for file in files:
                alike = (file.get("name"), file.get("size")) == (content.attachment.name, content.attachment.size)
                if alike and f"{FILE}{file['id']}" not in taken:
                    return f"{FILE}{file['id']}"
        elif not files:
            return str(message["ts"])
    return None


class _Refused(Exception):
    """Slack does not take the file; the message says why."""


def _metadata(key: str) -> Json:
    return {"event_type": EVENT_TYPE, "event_payload": {"key": key}}


def _chunks(stream: Stream, text: Text) -> list[Json]:
    """What is to be added to the stream so that it shows the text, as far as that is settled."""
    markdown = text.settled if text.growing else text.markdown
    added = markdown[len(stream.markdown) :] if markdown.startswith(stream.markdown) else ""
    chunks: list[Json] = [{"type": "markdown_text", "text": added}] if added else []
    tasks = [task for task in _tasks(stream, text).values() if stream.tasks.get(task.id) != task]
    return chunks + [
        {"type": "task_update", "id": task.id, "title": task.title, "status": task.status} for task in tasks
    ]


def _tasks(stream: Stream, text: Text) -> dict[str, Task]:
    """Those of the stream and the text: what the text does not name any more is over."""
    named = {task.id: task for task in text.tasks}
    over = {id: replace(task, status="complete") for id, task in stream.tasks.items() if id not in named}
    return over | named


def _grow(stream: Stream, text: Text) -> None:
    """The stream has got its `_chunks`."""
    markdown = text.settled if text.growing else text.markdown
    stream.markdown = markdown if markdown.startswith(stream.markdown) else stream.markdown
    stream.tasks = _tasks(stream, text)
