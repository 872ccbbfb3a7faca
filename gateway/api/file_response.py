"""The bytes of a file as an answer."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from agent.media import Attachment, MediaStore

CACHE_FOREVER = "private, max-age=31536000, immutable"
"""The address of a file has the hash of its bytes."""


class StoredFileResponse(FileResponse):
    """Pictures are displayed, all other files are downloaded: in pieces, the whole file or the range that is asked for.
    The bytes of a file may be anybody's: none of them runs as a page of this server.

    Raises `MediaMissing` and `MediaUnavailable` when it is sent, before anything was.
    """

    def __init__(self, attachment: Attachment, media: MediaStore) -> None:
        disposition = "inline" if attachment.is_picture else "attachment"
        headers = {
            "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(attachment.name, safe='')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": CACHE_FOREVER,
            "ETag": f'"{attachment.hash}"',
        }
        super().__init__("", headers=headers, media_type=attachment.media_type)
        self._attachment = attachment
        self._media = media

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._media.local_file(self._attachment) as path:
            self.path = path
            await super().__call__(scope, receive, send)
