"""The pictures of a conversation, read from the media store in the form in which providers want them."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Sequence

from agent.context.tokens import MOST_PICTURES
from agent.media import Attachment, MediaError, MediaStore
from agent.models.content import LoadedImages, Picture, UnavailableImage, pictures
from agent.transcript import Exchange

LARGEST = 5 * 1024 * 1024 * 3 // 4
"""Bytes of a picture. Anthropic takes 5 MB in base64: https://docs.anthropic.com/en/docs/build-with-claude/vision."""

KEPT = 32 * 1024 * 1024
"""Characters of base64 kept from one request to the next, for all conversations together."""


class ImageCache:
    """Encodes each picture once as long as it is in use: a conversation shows the same ones in every request."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._encoded: OrderedDict[str, Picture] = OrderedDict()
        self._characters = 0

    async def of(self, transcript: Sequence[Exchange]) -> LoadedImages:
        shown: dict[str, Picture | UnavailableImage] = {}
        for attachment in reversed(pictures(transcript)):
            if attachment.hash not in shown:
                shown[attachment.hash] = await self._look(attachment) if len(shown) < MOST_PICTURES else _TOO_OLD
        return shown

    async def _look(self, attachment: Attachment) -> Picture | UnavailableImage:
        known = self._encoded.get(attachment.hash)
        if known is not None:
            self._encoded.move_to_end(attachment.hash)
            return known
        if attachment.size > LARGEST:
            return UnavailableImage(f"it has {attachment.size:,} bytes, more than the {LARGEST:,} a model can take")
        try:
            data = await self._media.read(attachment)
        except MediaError as error:
            return UnavailableImage(str(error))
        return self._keep(attachment, Picture(attachment.media_type, base64.b64encode(data).decode()))

    def _keep(self, attachment: Attachment, picture: Picture) -> Picture:
        self._encoded[attachment.hash] = picture
        self._characters += len(picture.data)
        while self._characters > KEPT:
            _, oldest = self._encoded.popitem(last=False)
            self._characters -= len(oldest.data)
        return picture


_TOO_OLD = UnavailableImage("there are newer ones")
