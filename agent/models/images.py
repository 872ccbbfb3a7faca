"""Loads the images of a conversation from the media store, in the form that providers require."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Sequence

from agent.context.tokens import MAX_IMAGES
from agent.media import Attachment, MediaError, MediaStore
from agent.models.content import LoadedImage, LoadedImages, UnavailableImage, images_in
from agent.transcript import Exchange

MAX_BYTES = 5 * 1024 * 1024 * 3 // 4
"""Of an image. Anthropic takes 5 MB in base64: https://docs.anthropic.com/en/docs/build-with-claude/vision."""

MAX_CACHED_CHARACTERS = 32 * 1024 * 1024
"""Of base64, for all conversations together."""


class ImageCache:
    """Encodes each image once as long as it is in use: a conversation sends the same ones in every request."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._cached: OrderedDict[str, LoadedImage] = OrderedDict()
        self._characters = 0

    async def load(self, transcript: Sequence[Exchange]) -> LoadedImages:
        """The images of the conversation by their hash; only the newest ones are loaded."""
        shown: dict[str, LoadedImage | UnavailableImage] = {}
        for attachment in reversed(images_in(transcript)):
            if attachment.hash not in shown:
                shown[attachment.hash] = await self._load(attachment) if len(shown) < MAX_IMAGES else _TOO_OLD
        return shown

    async def _load(self, attachment: Attachment) -> LoadedImage | UnavailableImage:
        cached = self._cached.get(attachment.hash)
        if cached is not None:
            self._cached.move_to_end(attachment.hash)
            return cached
        if attachment.size > MAX_BYTES:
            return UnavailableImage(
                f"it has {attachment.size:,} bytes, more than the {MAX_BYTES:,} that a model accepts"
            )
        try:
            data = await self._media.read(attachment)
        except MediaError as error:
            return UnavailableImage(str(error))
        return self._cache(attachment, LoadedImage(attachment.media_type, base64.b64encode(data).decode()))

    def _cache(self, attachment: Attachment, image: LoadedImage) -> LoadedImage:
        self._cached[attachment.hash] = image
        self._characters += len(image.data)
        while self._characters > MAX_CACHED_CHARACTERS:
            _, oldest = self._cached.popitem(last=False)
            self._characters -= len(oldest.data)
        return image


_TOO_OLD = UnavailableImage("only the newest pictures are shown")
