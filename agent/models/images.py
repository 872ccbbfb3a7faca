"""Loads the images of a conversation from the media store, in the form that providers require."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Sequence

import filetype  # type: ignore[import-untyped]  # the package has no types

from agent.context.tokens import MAX_IMAGES
from agent.files.pictures import UnreadablePicture, scale_for_model
from agent.media import Attachment, MediaError, MediaStore
from agent.models.content import LoadedImage, LoadedImages, UnavailableImage, images_in
from agent.transcript import Exchange

MAX_BYTES = 5 * 1024 * 1024 * 3 // 4
"""Of an image. Anthropic takes 5 MB in base64: https://docs.anthropic.com/en/docs/build-with-claude/vision."""

MAX_SIDE = 2000
"""Pixels of an image: what Anthropic takes where there are many (see the same page)."""

MAX_CACHED_CHARACTERS = 32 * 1024 * 1024
"""Of base64, for all conversations together."""


class ImageCache:
    """Encodes each image once as long as it is in use: a conversation sends the same ones in every request."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._cached: OrderedDict[str, LoadedImage | UnavailableImage] = OrderedDict()
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
        try:
            data = await self._media.read(attachment)
            # People's pictures were made to fit when they arrived; those of tools may have any size.
            scaled = await scale_for_model(data) if _is_too_large(attachment) else None
        except MediaError as error:
            return UnavailableImage(str(error))
        except UnreadablePicture as error:
            return self._cache(attachment, UnavailableImage(str(error)))
        if scaled is not None and scaled.data is not None:
            return self._cache(attachment, _encoded(scaled.data, filetype.guess_mime(scaled.data)))
        return self._cache(attachment, _encoded(data, attachment.media_type))

    def _cache(self, attachment: Attachment, image: LoadedImage | UnavailableImage) -> LoadedImage | UnavailableImage:
        self._cached[attachment.hash] = image
        self._characters += _length(image)
        while self._characters > MAX_CACHED_CHARACTERS:
            _, oldest = self._cached.popitem(last=False)
            self._characters -= _length(oldest)
        return image


def _is_too_large(image: Attachment) -> bool:
    return image.size > MAX_BYTES or max(image.width or 0, image.height or 0) > MAX_SIDE


def _encoded(data: bytes, media_type: str) -> LoadedImage:
    return LoadedImage(media_type, base64.b64encode(data).decode())


def _length(image: LoadedImage | UnavailableImage) -> int:
    return len(image.data) if isinstance(image, LoadedImage) else 0


_TOO_OLD = UnavailableImage("only the newest pictures are shown")
