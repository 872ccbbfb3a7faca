"""Shows a reply in one chat or topic."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, assert_never

from telegram import Bot, InputFile, InputMediaPhoto
from telegram.error import BadRequest

from agent.media import MediaMissing, MediaStore
from channels.address import Address
from channels.channel import Refused
from channels.telegram import limits
from channels.telegram.api import call, chat_parameters, error_contains, telegram_errors
from channels.telegram.parse import Json
from channels.telegram.render import (
    Content,
    Media,
    Text,
    notice,
    repeated,
    unformatted,
    without_formatting,
)

log = logging.getLogger(__name__)


class ChatTarget:
    """A `channels.sync.Target`. In groups the reply quotes the message that it answers."""

    def __init__(self, api: Bot, media: MediaStore, address: Address, reply_to: str | None) -> None:
        self._api = api
        self._media = media
        self._address = address
        self._reply_to = reply_to if address.kind == "group" else None
        self._albums = True

    def batch_size(self, contents: Sequence[Content]) -> int:
        photos = 0
        for content in contents[: limits.ALBUM]:
            if not (isinstance(content, Media) and content.is_photo):
                break
            photos += 1
        return max(photos, 1) if self._albums else 1

    async def send(self, contents: Sequence[Content], *, first: bool, repeat: bool) -> Sequence[str]:
        chat = chat_parameters(self._address)
        if first and self._reply_to:
            chat["reply_parameters"] = {"message_id": int(self._reply_to), "allow_sending_without_reply": True}
        with telegram_errors(sending=True):
            album = [content for content in contents if isinstance(content, Media)]
            if len(album) > 1 and (refs := await self._send_album(album, chat, repeat)):
                return refs
            return [await self._send_one(contents[0], chat, repeat)]

    async def edit(self, ref: str, content: Content, *, repeat: bool) -> bool:
        if not isinstance(content, Text):
            return True
        if self._is_elsewhere(ref):
            return False
        with telegram_errors():
            try:
                await self._write("editMessageText", content, self._message(ref), repeat)
            except BadRequest as error:
                if error_contains(error, "message to edit not found", "message can't be edited", "MESSAGE_ID_INVALID"):
                    log.info("a message is sent again: %s", error)
                    return False
                if not error_contains(error, "message is not modified"):
                    raise
        return True

    async def delete(self, ref: str) -> None:
        if self._is_elsewhere(ref):
            return
        with telegram_errors():
            try:
                await call(self._api, "deleteMessage", **self._message(ref))
            except BadRequest as error:
                log.info("a message is not deleted: %s", error)

    def simpler(self, content: Content) -> Sequence[Content]:
        return without_formatting(content) if isinstance(content, Text) else ()

    def notice(self, content: Content, reason: str) -> Content:
        return notice(content, reason)

    def _is_elsewhere(self, ref: str) -> bool:
        """Whether the message is in the group that this supergroup was before: it cannot be reached there any more."""
        chat, _, _ = ref.rpartition("/")
        return chat not in ("", self._address.chat)

    def _message(self, ref: str) -> Json:
        return {"chat_id": self._address.chat, "message_id": ref.rpartition("/")[2]}

    async def _send_one(self, content: Content, chat: Json, repeat: bool) -> str:
        match content:
            case Text():
                return _ref(await self._write("sendMessage", content, chat, repeat))
            case Media():
                return await self._send_media(content, chat, repeat)
            case _:
                assert_never(content)

    async def _write(self, method: str, text: Text, chat: Json, repeat: bool) -> Any:
        html = repeated(text.html) if repeat else text.html
        parameters = {**chat, "link_preview_options": {"is_disabled": True}}
        if text.buttons:
            rows = [[{"text": button.label, "callback_data": button.data}] for button in text.buttons]
            parameters["reply_markup"] = {"inline_keyboard": rows}
        try:
            return await call(self._api, method, text=html, parse_mode="HTML", **parameters)
        except BadRequest as error:
            if not error_contains(error, "can't parse entities"):
                raise
            log.warning("Telegram rejects the formatting, the text is sent as plain text: %s", error)
            return await call(self._api, method, text=unformatted(html), **parameters)

    async def _send_media(self, media: Media, chat: Json, repeat: bool) -> str:
        """As a photo, else as a file."""
        attachment = media.attachment
        if attachment.size > limits.FILE_BYTES:
            raise Refused("it is larger than the 50 MB that Telegram accepts")
        try:
            data = await self._media.read(attachment)
        except MediaMissing as error:
            raise Refused(str(error)) from error
        if media.is_photo:
            try:
                return await self._upload("photo", media, data, chat, repeat)
            except BadRequest as error:
                log.info("%s is rejected as a photo: %s", attachment.name, error)
        return await self._upload("document", media, data, chat, repeat)

    async def _upload(
        self, kind: Literal["photo", "document"], media: Media, data: bytes, chat: Json, repeat: bool
    ) -> str:
        file = InputFile(data, filename=media.attachment.name)
        caption = {"caption": _caption(media, repeat), "parse_mode": "HTML"}
        return _ref(await call(self._api, f"send{kind.title()}", **{kind: file}, **caption, **chat))

    async def _send_album(self, album: Sequence[Media], chat: Json, repeat: bool) -> Sequence[str]:
        """Empty when a picture is not available or Telegram rejects the album; then nothing was sent."""
        try:
            items = [
                InputMediaPhoto(
                    InputFile(await self._media.read(media.attachment), filename=media.attachment.name, attach=True),
                    caption=_caption(media, repeat and number == 0),
                    parse_mode="HTML",
                )
                for number, media in enumerate(album)
            ]
            return [_ref(message) for message in await call(self._api, "sendMediaGroup", media=items, **chat)]
        except (BadRequest, MediaMissing) as error:
            log.info("an album is sent as separate pictures: %s", error)
            self._albums = False
            return ()


def _ref(message: Json) -> str:
    """With the chat: the messages of a group are not those of the supergroup that it may become."""
    return f"{message['chat']['id']}/{message['message_id']}"


def _caption(media: Media, repeat: bool) -> str:
    return repeated(media.caption) if repeat else media.caption
