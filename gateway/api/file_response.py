"""The bytes of a file as an answer."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from agent.media import Attachment

CACHE_FOREVER = "private, max-age=31536000, immutable"
"""The address of a file has the hash of its bytes."""


def file_response(attachment: Attachment, data: bytes) -> Response:
    """Pictures are displayed, all other files are downloaded. The bytes of a file may be anybody's: none of them runs
    as a page of this server."""
    disposition = "inline" if attachment.is_picture else "attachment"
    headers = {
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(attachment.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": CACHE_FOREVER,
    }
    return Response(data, media_type=attachment.media_type, headers=headers)
