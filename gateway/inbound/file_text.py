"""The text of people's files, for the model: documents are read, voice notes transcribed."""

from __future__ import annotations

import logging

from agent.files.documents import Unreadable, excerpt, text_of
from agent.files.transcription import Transcriber, TranscriptionFailed, is_sound
from agent.media import Attachment, MediaError, MediaStore

log = logging.getLogger(__name__)

NO_TRANSCRIBER = "The voice note {name} cannot be transcribed: no transcription model is configured."


class FileReader:
    """`read` never raises: it says what cannot be read."""

    def __init__(self, media: MediaStore, transcriber: Transcriber | None = None) -> None:
        self._media = media
        self._transcriber = transcriber

    async def read(self, attachment: Attachment) -> str:
        """The file's text with a line before it; "" for a file without text (a picture, an archive)."""
        if attachment.is_picture:
            return ""
        try:
            data = await self._media.read(attachment)
            if is_sound(attachment.media_type):
                return await self._transcribe(data, attachment)
            text = await text_of(data, attachment.media_type, attachment.name)
        except (Unreadable, TranscriptionFailed, MediaError) as error:
            return f"The file {attachment.name} could not be read: {error}."
        except Exception as error:
            log.exception("a file could not be read")
            return f"The file {attachment.name} could not be read: {type(error).__name__}."
        return f"Text of the file {attachment.name}:\n{excerpt(text)}" if text else ""

    async def _transcribe(self, data: bytes, attachment: Attachment) -> str:
        if self._transcriber is None:
            return NO_TRANSCRIBER.format(name=attachment.name)
        text = await self._transcriber.transcribe(data, attachment.name, attachment.media_type)
        return f"Transcript of the voice note {attachment.name}: {text}"
