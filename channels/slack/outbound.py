"""Shows a reply in one channel, direct message or thread."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import Ledger, Refused, RetryLater, ServerFailed, Undeliverable
from channels.reply import Reply
from channels.slack import limits
from channels.slack.api import Api, error_code, is_rate_limit, is_refusal, slack_errors
from channels.slack.content import Json
from channels.slack.parse import Bot, is_own
from channels.slack.render import (
    NOTICE,
    Content,
    Media,
    Task,
    Text,
    alt_of,
    blocks_of,
    comment_of,
    fallback_of,
    key_of,
    notice_of,
    plain_blocks_of,
    without_formatting,
)
from channels.sync import Piece

log = logging.getLogger(__name__)

FILE = "file:"
"""Prefix of the ref of a file: Slack does not say at once which message contains it."""

EVENT_TYPE = "interject_piece"
"""Type of the metadata by which a message is recognised."""

PAGE = 200
MAX_PAGES = 10

_BLOCK_ERRORS = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long")
_NOT_EDITABLE = ("message_not_found", "cant_update_message", "edit_window_closed", "cant_edit_message")
_NOT_DELETABLE = ("message_not_found", "cant_delete_message", "file_not_found", "file_deleted", "cant_delete_file")
_UNSUPPORTED = ("unknown_method", "missing_scope", "not_allowed_token_type", "method_not_supported_for_channel_type")


@dataclass(slots=True)
class Stream:
    """A message that is being streamed: the Markdown and tasks sent so far."""

    markdown: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)


@dataclass(slots=True)
class Streams:
    """The streams that this process started and did not stop, by channel and ts. `usable`: Slack allows streaming."""

    usable: bool = True
    open: dict[tuple[str, str], Stream] = field(default_factory=dict)


class ChatTarget:
    """A `channels.sync.Target`.

    `recipient`: whether a growing text may be streamed, and for whom: the asker's id, "" in direct messages, None: not.
    A stream can only be appended to and has no buttons, so it is used where Slack shows its own stop button.
    """

    def __init__(
        self, api: Api, media: MediaStore, bot: Bot, address: Address, streams: Streams, recipient: str | None
    ) -> None:
        self._api = api
        self._media = media
        self._bot = bot
        self._address = address
        self._streams = streams
        self._recipient = recipient

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
        """A stream whose text turns out to change is stopped; the message is edited from then on."""
        if not isinstance(content, Text):
            return True
        stream = self._streams.open.get((self._address.chat, ref))
        if stream is not None and await self._continue_stream(ref, stream, content):
            return True
        with slack_errors():
            try:
                await self._update(ref, content, repeat)
            except SlackApiError as error:
                if not is_refusal(error, *_NOT_EDITABLE):
                    raise
                log.info("a message is sent again: %s", error_code(error))
                return False
        return True

    async def delete(self, ref: str) -> None:
        with slack_errors():
            try:
                if ref.startswith(FILE):
                    await self._api.call("files.delete", file=ref.removeprefix(FILE))
                    return
                await self._delete_message(ref)
            except SlackApiError as error:
                if not is_refusal(error, *_NOT_DELETABLE):
                    raise
                log.info("a message is not deleted: %s", error_code(error))

    def simpler(self, content: Content) -> Sequence[Content]:
        return without_formatting(content) if isinstance(content, Text) else ()

    def notice(self, content: Content, reason: str) -> Content:
        return notice_of(content, reason)

    async def _delete_message(self, ref: str) -> None:
        if (self._address.chat, ref) in self._streams.open:
            await self._stop_stream(ref)
        try:
            await self._api.call("chat.delete", channel=self._address.chat, ts=ref)
        except SlackApiError as error:
            if not is_refusal(error, "cant_delete_message"):
                raise
            # An earlier process may have started a stream.
            await self._stop_stream(ref)
            await self._api.call("chat.delete", channel=self._address.chat, ts=ref)

    # --- texts ---

    async def _send_text(self, text: Text, repeat: bool) -> str:
        with slack_errors(sending=True):
            if not repeat and (ts := await self._start_stream(text)):
                return ts
            target: Json = {"channel": self._address.chat, "thread_ts": self._address.thread}
            options = {"unfurl_links": False, "unfurl_media": False, "metadata": _metadata(text.key)}
            answer = await self._write("chat.postMessage", text, repeat, **target, **options)
            return str(answer["ts"])

    async def _update(self, ref: str, text: Text, repeat: bool) -> None:
        target: Json = {"channel": self._address.chat, "ts": ref, "metadata": _metadata(text.key)}
        try:
            await self._write("chat.update", text, repeat, **target)
        except SlackApiError as error:
            if not is_refusal(error, "streaming_state_conflict"):
                raise
            # An earlier process started a stream.
            await self._stop_stream(ref)
            await self._write("chat.update", text, repeat, **target)

    async def _write(self, method: str, text: Text, repeat: bool, **target: object) -> Json:
        fallback = fallback_of(text)
        try:
            return await self._api.call(method, text=fallback, blocks=blocks_of(text, repeat=repeat), **target)
        except SlackApiError as error:
            if not is_refusal(error, *_BLOCK_ERRORS):
                raise
            log.warning("Slack rejects the formatting (%s), the text is sent as plain text", error_code(error))
            return await self._api.call(method, text=fallback, blocks=plain_blocks_of(text, repeat=repeat), **target)

    # --- streams ---

    async def _start_stream(self, text: Text) -> str | None:
        """The ts of the new stream's message; None when it cannot be streamed."""
        if self._recipient is None or not self._streams.usable or not text.growing or self._address.thread is None:
            return None
        stream, chunks = Stream(), _chunks(Stream(), text)
        recipient = {"recipient_team_id": self._bot.team, "recipient_user_id": self._recipient}
        try:
            answer = await self._api.call(
                "chat.startStream",
                channel=self._address.chat,
                thread_ts=self._address.thread,
                chunks=chunks or None,
                **(recipient if self._recipient else {}),
            )
        except SlackApiError as error:
            if not (is_refusal(error) or is_refusal(error, *_UNSUPPORTED)):
                raise
            log.info("a text is not streamed: %s", error_code(error))
            self._streams.usable = error_code(error) not in _UNSUPPORTED
            return None
        _appended(stream, text)
        ts = str(answer["ts"])
        self._streams.open[self._address.chat, ts] = stream
        return ts

    async def _continue_stream(self, ref: str, stream: Stream, text: Text) -> bool:
        """Whether the message shows the text now. If not, it is no stream any more and must be edited."""
        extends = text.markdown.startswith(stream.markdown)
        if text.growing and extends:
            chunks = _chunks(stream, text)
            with slack_errors():
                if chunks and not await self._call_stream("chat.appendStream", ref, chunks=chunks):
                    return False
            _appended(stream, text)
            return True
        as_streamed = extends and not text.buttons and not text.status and NOTICE not in stream.tasks
        with slack_errors():
            chunks = _chunks(stream, text) if extends else []
            stopped = await self._call_stream(
                "chat.stopStream", ref, chunks=chunks or None, metadata=_metadata(text.key)
            )
        self._streams.open.pop((self._address.chat, ref), None)
        return stopped and as_streamed

    async def _call_stream(self, method: str, ref: str, **arguments: object) -> bool:
        """Whether Slack accepted the call. After any failure, the message's content is unknown."""
        try:
            await self._api.call(method, channel=self._address.chat, ts=ref, **arguments)
        except SlackApiError as error:
            if not is_rate_limit(error):
                self._streams.open.pop((self._address.chat, ref), None)
            if not is_refusal(error):
                raise
            log.info("a stream is abandoned: %s", error_code(error))
            return False
        except (SlackClientError, aiohttp.ClientError, TimeoutError, OSError):
            self._streams.open.pop((self._address.chat, ref), None)
            raise
        return True

    async def _stop_stream(self, ref: str) -> None:
        """Stops the stream, if the message is one."""
        self._streams.open.pop((self._address.chat, ref), None)
        try:
            await self._api.call("chat.stopStream", channel=self._address.chat, ts=ref)
        except SlackApiError as error:
            if not is_refusal(error):
                raise
            log.debug("a stream is not stopped: %s", error_code(error))

    # --- files ---

    async def _send_media(self, media: Media, repeat: bool) -> str:
        """As a file in the conversation."""
        if media.attachment.size > limits.FILE_BYTES:
            raise Refused("it is larger than the 1 GB that Slack accepts")
        try:
            data = await self._media.read(media.attachment)
        except MediaMissing as error:
            raise Refused(str(error)) from error
        with slack_errors():
            file = await self._upload(media, data)
        with slack_errors(sending=True):
            await self._share(media, file, repeat)
        return f"{FILE}{file}"

    async def _share(self, media: Media, file: str, repeat: bool) -> None:
        await self._api.call(
            "files.completeUploadExternal",
            files=[{"id": file, "title": media.attachment.name}],
            channel_id=self._address.chat,
            thread_ts=self._address.thread,
            initial_comment=comment_of(media, repeat=repeat) or None,
        )

    async def _upload(self, media: Media, data: bytes) -> str:
        """The file's id. It is invisible until it is shared."""
        attachment = media.attachment
        ticket = await self._api.call(
            "files.getUploadURLExternal",
            filename=attachment.name,
            length=len(data),
            alt_txt=alt_of(media) if attachment.is_picture else None,
        )
        try:
            await self._api.upload(ticket["upload_url"], data)
        except aiohttp.ClientResponseError as error:
            if error.status == 429:
                raise RetryLater(float(error.headers["Retry-After"] if error.headers else 1)) from error
            if error.status >= 500:
                raise
            raise Refused(f"Slack rejects the upload ({error.status})") from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            # Slack itself has just answered: only its server for uploads cannot be reached.
            raise ServerFailed(f"Slack's server for uploads is not reachable: {error}") from error
        return str(ticket["file_id"])

    # --- recovery ---

    async def resolve_unknown(self, reply: Reply, pieces: Sequence[Piece[Content]], ledger: Ledger) -> None:
        """Looks up pieces whose sending was never confirmed, among the messages in the chat.

        Where the app may not read messages, they stay unknown.
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
            log.warning("the chat cannot be read, so something may be shown twice: %s", error)
            return
        for sent in unknown:
            found = _found(key_of(reply.id, sent.key), contents.get(sent.key), shown, taken)
            if found is None:
                await ledger.removed(sent.key)
            else:
                taken.add(found)
                await ledger.sent(sent.key, found, "")

    async def _own_messages(self, since: str | None) -> AsyncIterator[Json]:
        """The app's messages there after the message with that ts."""
        method = "conversations.history" if self._address.thread is None else "conversations.replies"
        cursor = None
        for _ in range(MAX_PAGES):
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
                # A thread always includes its root, which in the app's pane is the app's own message.
                if is_own(message, self._bot) and message["ts"] != self._address.thread:
                    yield message
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return


def _found(key: str, content: Content | None, shown: Iterable[Json], taken: Container[str]) -> str | None:
    """The ref of the message that shows the piece; `content` is None for an outdated status.

    Files, and streams that were not stopped, have no key.
    """
    for message in shown:
        found_key = ((message.get("metadata") or {}).get("event_payload") or {}).get("key")
        if message["ts"] in taken or (found_key is not None and found_key != key):
            continue
        if found_key == key:
            return str(message["ts"])
        files = message.get("files") or ()
        if isinstance(content, Media):
            for file in files:
                same = (file.get("name"), file.get("size")) == (content.attachment.name, content.attachment.size)
                if same and f"{FILE}{file['id']}" not in taken:
                    return f"{FILE}{file['id']}"
        elif not files:
            return str(message["ts"])
    return None


def _metadata(key: str) -> Json:
    return {"event_type": EVENT_TYPE, "event_payload": {"key": key}}


def _chunks(stream: Stream, text: Text) -> list[Json]:
    """The chunks to append so that the stream shows the text, as far as that is settled."""
    markdown = text.settled if text.growing else text.markdown
    added = markdown[len(stream.markdown) :] if markdown.startswith(stream.markdown) else ""
    chunks: list[Json] = [{"type": "markdown_text", "text": added}] if added else []
    tasks = [task for task in _tasks(stream, text).values() if stream.tasks.get(task.id) != task]
    return chunks + [
        {"type": "task_update", "id": task.id, "title": task.title, "status": task.status} for task in tasks
    ]


def _tasks(stream: Stream, text: Text) -> dict[str, Task]:
    """Tasks of the stream and the text: those that the text no longer names are complete."""
    named = {task.id: task for task in text.tasks}
    finished = {id: replace(task, status="complete") for id, task in stream.tasks.items() if id not in named}
    return finished | named


def _appended(stream: Stream, text: Text) -> None:
    """The stream's `_chunks` were sent."""
    markdown = text.settled if text.growing else text.markdown
    stream.markdown = markdown if markdown.startswith(stream.markdown) else stream.markdown
    stream.tasks = _tasks(stream, text)
