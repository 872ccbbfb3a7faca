"""Shows a reply in one channel or thread."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from secrets import token_hex
from typing import Any, assert_never

import discord
from discord.http import Route

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import Refused
from channels.discord import limits
from channels.discord.api import NO_MENTIONS, Rest, discord_errors
from channels.discord.interactions import Interactions, original
from channels.discord.parse import Json
from channels.discord.render import (
    Content,
    Media,
    Text,
    box,
    components,
    notice,
    utf16,
    without_formatting,
)

log = logging.getLogger(__name__)

REQUEST_BYTES = limits.REQUEST_BYTES - 1024 * 1024
"""Of all files of a message; the rest is for what surrounds them in the request."""

_SUPPRESS_EMBEDS = 1 << 2
_COMPONENTS_V2 = 1 << 15
"""SUPPRESS_EMBEDS, IS_COMPONENTS_V2: https://discord.com/developers/docs/resources/message#message-object-message-flags"""


_UNKNOWN_MESSAGE = 10008
_MAY_NOT_REPLY = 160002
"""The bot may not read the channel's history."""


class ChatTarget:
    """A `channels.sync.Target`. In groups the reply quotes the message that it answers.

    A second attempt needs no repeat note: Discord shows a message with the same nonce once.
    """

    def __init__(
        self, rest: Rest, media: MediaStore, interactions: Interactions, address: Address, reply_to: str | None
    ) -> None:
        self._rest = rest
        self._media = media
        self._interactions = interactions
        self._address = address
        self._reply_to = reply_to
        self._albums = True

    def batch_size(self, contents: Sequence[Content]) -> int:
        pictures = [content for content in contents[: limits.FILES] if isinstance(content, Media)]
        if not self._albums or len(pictures) < 2 or pictures[0] is not contents[0]:
            return 1
        count = 0
        for count in range(1, len(pictures) + 1):
            batch = pictures[: count + 1]
            sizes = [media.attachment.size for media in batch]
            if (
                count == len(pictures)
                or contents[count] is not pictures[count]
                or not all(media.attachment.is_picture for media in batch)
                or max(sizes) > limits.FILE_BYTES
                or sum(sizes) > REQUEST_BYTES
                or utf16(_captions(batch)) > limits.CONTENT
            ):
                break
        return count

    async def send(self, contents: Sequence[Content], *, first: bool, repeat: bool) -> Sequence[str]:
        with discord_errors(sending=True):
            album = [content for content in contents if isinstance(content, Media)]
            if len(album) > 1:
                if (ref := await self._send_album(album, first)) is not None:
                    return [ref] * len(album)
                log.info("pictures are sent separately")
                self._albums = False
            match contents[0]:
                case Text():
                    return [await self._write(contents[0], first, repeat)]
                case Media():
                    return [await self._send_media(contents[0], first, repeat)]
                case _:
                    assert_never(contents[0])

    async def edit(self, ref: str, content: Content, *, repeat: bool) -> bool:
        if not isinstance(content, Text):
            return True
        with discord_errors():
            try:
                await self._rest.request(self._message("PATCH", ref), json=_new_body(content))
            except discord.NotFound as error:
                if error.code != _UNKNOWN_MESSAGE:
                    raise
                log.info("a message is sent again: %s", error)
                return False
        return True

    async def delete(self, ref: str) -> None:
        with discord_errors():
            try:
                await self._rest.request(self._message("DELETE", ref))
            except (discord.NotFound, discord.Forbidden) as error:
                log.info("a message is not deleted: %s", error)

    def simpler(self, content: Content) -> Sequence[Content]:
        return without_formatting(content) if isinstance(content, Text) else ()

    def notice(self, content: Content, reason: str) -> Content:
        return notice(content, reason)

    def _message(self, method: str, ref: str) -> Route:
        path = "/channels/{channel_id}/messages/{message_id}"
        return Route(method, path, channel_id=self._address.chat, message_id=ref)

    async def _write(self, text: Text, first: bool, repeat: bool) -> str:
        ref = await self._create(_body(text), text.nonce, first)
        if repeat:
            # The first attempt may have arrived with an older text.
            await self._rest.request(self._message("PATCH", ref), json=_new_body(text))
        return ref

    async def _send_media(self, media: Media, first: bool, repeat: bool) -> str:
        if media.attachment.size > limits.FILE_BYTES:
            raise Refused("it is larger than the 10 MB that Discord accepts")
        try:
            return await self._upload([media], first)
        except MediaMissing as error:
            raise Refused(str(error)) from error

    async def _send_album(self, files: Sequence[Media], first: bool) -> str | None:
        """None when a file is not available or Discord rejects them; then nothing was sent."""
        try:
            return await self._upload(files, first)
        except MediaMissing as error:
            log.info("a file is not available: %s", error)
        except discord.HTTPException as error:
            if error.status not in (400, 413):
                raise
            log.info("files are rejected: %s", error)
        return None

    async def _upload(self, files: Sequence[Media], first: bool) -> str:
        data = [await self._media.read(media.attachment) for media in files]
        body = _body(Text(_captions(files))) | {
            "attachments": [
                {"id": number, "filename": media.attachment.name, "description": media.alt[: limits.ALT_TEXT]}
                for number, media in enumerate(files)
            ]
        }
        return await self._create(body, files[0].nonce, first, list(zip(files, data, strict=True)))

    async def _create(self, body: Json, nonce: str, first: bool, files: Sequence[tuple[Media, bytes]] = ()) -> str:
        """The id of the new message, or of an existing one with the same nonce."""
        if first and (ref := await self._answer_interaction(body, files)) is not None:
            return ref
        body = body | {"nonce": nonce, "enforce_nonce": True}
        if first and self._reply_to and self._address.kind == "group":
            body["message_reference"] = {"message_id": self._reply_to, "fail_if_not_exists": False}
        route = Route("POST", "/channels/{channel_id}/messages", channel_id=self._address.chat)
        try:
            return _ref(await self._call(route, body, files))
        except discord.NotFound as error:
            if error.code != _UNKNOWN_MESSAGE:
                raise
        except discord.HTTPException as error:
            if error.code != _MAY_NOT_REPLY:
                raise
            log.info("an answer is sent without a reference: %s", error)
            body.pop("message_reference", None)
            return _ref(await self._call(route, body, files))
        # The message with this nonce was deleted a moment ago: send it as a new one.
        return _ref(await self._call(route, body | {"nonce": token_hex(12)}, files))

    async def _answer_interaction(self, body: Json, files: Sequence[tuple[Media, bytes]]) -> str | None:
        """Replaces the "thinking…" of a command; None when no interaction expects the message."""
        if self._reply_to is None or (pending := await self._interactions.find(self._reply_to)) is None:
            return None
        ref = None
        try:
            ref = _ref(await self._call(original("PATCH", pending), body, files))
        except discord.HTTPException as error:
            if error.status not in (401, 403, 404):
                raise
            log.info("an answer is sent as an ordinary message: %s", error)
        self._interactions.answered(self._reply_to)
        return ref

    async def _call(self, route: Route, body: Json, files: Sequence[tuple[Media, bytes]]) -> Any:
        if not files:
            return await self._rest.request(route, json=body)
        form = [{"name": "payload_json", "value": json.dumps(body), "content_type": "application/json"}]
        parts = [
            {"name": f"files[{n}]", "value": data, "filename": media.attachment.name, "content_type": _type(media)}
            for n, (media, data) in enumerate(files)
        ]
        return await self._rest.request(route, form=[*form, *parts])


def _body(text: Text) -> Json:
    if text.accent is not None:
        boxed = [box(text, text.accent)]
        return {"components": boxed, "flags": _COMPONENTS_V2, "allowed_mentions": NO_MENTIONS}
    return {
        "content": text.markdown,
        "components": components(text.buttons),
        "flags": _SUPPRESS_EMBEDS,
        "allowed_mentions": NO_MENTIONS,
    }


def _new_body(text: Text) -> Json:
    """For a message that may have had content, which one in a box may not have."""
    return _body(text) if text.accent is None else {"content": None, **_body(text)}


def _captions(files: Sequence[Media]) -> str:
    return "\n\n".join(filter(None, (media.caption for media in files)))


def _type(media: Media) -> str:
    return media.attachment.media_type


def _ref(message: Json) -> str:
    return str(message["id"])
