"""Reading: what people's files say, in words for the model."""

from __future__ import annotations

import logging

from agent.files.documents import Unreadable, excerpt, text_of
from agent.files.transcription import TranscriptionFailed, Transcriber, is_sound
from agent.media import Attachment, MediaError, MediaStore

log = logging.getLogger(__name__)

NOT_HEARD = "The voice note {name} cannot be listened to: no transcription model is configured."


class FileReader:
    """`read` never raises: what cannot be read is said so."""

    def __init__(self, media: MediaStore, transcriber: Transcriber | None = None) -> None:
        self._media = media
        self._transcriber = transcriber

    async def read(self, attachment: Attachment) -> str:
        """What the file says; "" when there is nothing to say of it (a picture, an archive)."""
        if attachment.is_picture:
            return ""
        try:
            data = await self._media.read(attachment)
            if is_sound(attachment.media_type):
                return await self._read_inbox(data, attachment)
            text = await text_of(data, attachment.media_type, attachment.name)
        except (Unreadable, TranscriptionFailed, MediaError) as error:
            return f"The file {attachment.name} could not be read: {error}."
        except Exception as error:
            log.exception("a file could not be read")
            return f"The file {attachment.name} could not be read: {type(error).__name__}."
        return f"The file {attachment.name} says:\n{excerpt(text)}" if text else ""

    async def _read_inbox(self, data: bytes, attachment: Attachment) -> str:
        if self._transcriber is None:
            return NOT_HEARD.format(name=attachment.name)
        said = await self._transcriber.transcribe(data, attachment.name, attachment.media_type)
        return f"The voice note {attachment.name} says: {said}"
