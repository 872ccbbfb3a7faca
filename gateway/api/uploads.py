"""Files that are uploaded: received without being held in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile

from agent.media import Attachment, FileTooLarge, MediaStore
from channels.web.parse import clean_name
from gateway.api.problems import Problem

CHUNK = 256 * 1024
"""Bytes of a file that are in memory at once."""

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "contentMediaType": "application/octet-stream"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The request body of an upload for the API's description."""


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def receive_upload(request: Request, media: MediaStore, name: str) -> Attachment:
    """Stores the one file of the request: the `file` of a form, or else its body, under the `name`. Raises `Problem`,
    and `agent.media.MediaError`."""
    if not is_form(request):
        if not name:
            raise Problem(422, "invalid_request", "name: give the file a name, as in ?name=photo.jpg.")
        return await _store_body(request, media, clean_name(name))
    async with request.form(max_files=1) as form:
        given = form.get("file")
        if not isinstance(given, UploadFile):
            raise Problem(422, "invalid_request", "Send a form with one file, named file.")
        return await store_part(media, given)


async def _store_body(request: Request, media: MediaStore, name: str) -> Attachment:
    try:
        return await media.put_stream(request.stream(), name)
    except FileTooLarge:
        await drop_body(request)
        raise


async def drop_body(request: Request) -> None:
    """Reads what is still to come: a client that is still sending would not get the answer. The limit of requests holds
    here too."""
    async for _ in request.stream():
        pass


async def store_part(media: MediaStore, file: UploadFile) -> Attachment:
    """Stores a file of a form, which is in a temporary file."""
    return await media.put_stream(_chunks(file), clean_name(file.filename))


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK):
        yield chunk
