"""What is in people's files, for the model: documents are read, voice notes transcribed, pictures made to fit."""

from __future__ import annotations

import logging
from dataclasses import replace

from agent.files.documents import Document, Unreadable, excerpt, read_document
from agent.files.pictures import UnreadablePicture, scale_for_model
from agent.files.transcription import Transcriber, TranscriptionFailed, is_sound
from agent.media import Attachment, MediaError, MediaStore
from agent.tools.received_files import workspace_path
from gateway.inbound.attachments import FileText

log = logging.getLogger(__name__)

NO_TRANSCRIBER = "The voice note {name} cannot be transcribed: no transcription model is configured."
NO_PICTURE = "The picture {name} cannot be shown to the model: {reason}."

_PICTURE_SUFFIXES = frozenset(
    {
        *("jpg", "jpeg", "jpe", "png", "gif", "webp", "avif", "bmp", "tif", "tiff", "heic", "heif", "ico", "jp2"),
        *("jxl", "psd", "cr2", "cr3", "nef", "dng"),
    }
)


class FileReader:
    """`read` never raises: it says what cannot be read."""

    def __init__(self, media: MediaStore, transcriber: Transcriber | None = None) -> None:
        self._media = media
        self._transcriber = transcriber

    async def read(self, attachment: Attachment) -> FileText:
        """The file's text with a line before it, and what was taken from it; nothing for a file such as an archive."""
        try:
            return await self._read(attachment, await self._media.read(attachment))
        except UnreadablePicture as error:
            return FileText(NO_PICTURE.format(name=attachment.name, reason=error), is_unreadable=True)
        except (Unreadable, TranscriptionFailed, MediaError) as error:
            return FileText(f"The file {attachment.name} could not be read: {error}.")
        except Exception as error:
            log.exception("a file could not be read")
            return FileText(f"The file {attachment.name} could not be read: {type(error).__name__}.")

    async def _read(self, attachment: Attachment, data: bytes) -> FileText:
        if is_sound(attachment.media_type):
            return FileText(await self._transcribe(data, attachment))
        if _is_picture(attachment):
            return await self._fit(data, attachment)
        document = await read_document(data, attachment.media_type, attachment.name)
        return FileText() if document is None or not document.text else await self._keep(document, attachment)

    async def _transcribe(self, data: bytes, attachment: Attachment) -> str:
        if self._transcriber is None:
            return NO_TRANSCRIBER.format(name=attachment.name)
        text = await self._transcriber.transcribe(data, attachment.name, attachment.media_type)
        return f"Transcript of the voice note {attachment.name}: {text}"

    async def _fit(self, data: bytes, attachment: Attachment) -> FileText:
        """The picture as models accept it. It is made once, when the picture arrives."""
        picture = await scale_for_model(data)
        if picture.data is None:
            return FileText()
        taken = await self._taken(picture.data, attachment.name, attachment)
        note = f"The picture {attachment.name} is {picture.words}." if picture.note else ""
        return FileText(note, (taken,))

    async def _keep(self, document: Document, attachment: Attachment) -> FileText:
        """The beginning of the text is shown; all of it is beside the file in the workspace, with its pictures."""
        taken: list[Attachment] = []
        where = workspace_path(attachment)
        if document.is_extracted:
            text = await self._taken(document.text.encode(errors="replace"), f"{attachment.name}.md", attachment)
            taken.append(text)
            where = workspace_path(text)
        for picture in document.pictures:
            taken.append(await self._taken(picture.data, f"{attachment.name}, {picture.name}", attachment))
        note = f"Text of the file {attachment.name}:\n{excerpt(document.text, where=where)}"
        return FileText(note, tuple(taken))

    async def _taken(self, data: bytes, name: str, attachment: Attachment) -> Attachment:
        return replace(await self._media.put(data, name), taken_from=attachment.hash)


def _is_picture(attachment: Attachment) -> bool:
    """Whether it is, or says that it is, a picture. Drawings in SVG are text."""
    if attachment.media_type.startswith("image/"):
        return attachment.media_type != "image/svg+xml"
    is_unknown = attachment.media_type == "application/octet-stream"
    return is_unknown and attachment.name.rpartition(".")[2].lower() in _PICTURE_SUFFIXES
