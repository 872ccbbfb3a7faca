"""Pictures as models accept them: scaled, upright, in a common format. They are decoded in a worker process."""

from __future__ import annotations

import json
from dataclasses import dataclass

import filetype  # type: ignore[import-untyped]  # the package has no types

from agent.worker_process import WorkerFailed, WorkerPool

TIMEOUT = 30.0
"""Seconds to decode and scale a picture."""

_DECODERS = WorkerPool("agent.files.pictures_worker", 2)

_UNSUPPORTED = {
    "image/heic": "HEIC",
    "image/heif": "HEIF",
    "image/jxl": "JPEG XL",
    "image/jxr": "JPEG XR",
    "image/vnd.ms-photo": "JPEG XR",
    "image/vnd.adobe.photoshop": "Photoshop's format",
    "image/x-canon-cr2": "a camera's raw format",
    "image/x-canon-cr3": "a camera's raw format",
    "image/vnd.dwg": "a drawing format (DWG)",
    "image/x-xcf": "GIMP's format",
}


class UnreadablePicture(Exception):
    """The picture cannot be shown to a model; the message tells a person why."""


@dataclass(frozen=True, slots=True)
class ScaledPicture:
    """`data` is None if the picture is accepted as it is. `description` is its format and size, `note` what is
    different in what a model is shown."""

    data: bytes | None
    description: str
    note: str = ""

    @property
    def words(self) -> str:
        return f"{self.description}, {self.note}" if self.note else self.description


async def scale_for_model(data: bytes) -> ScaledPicture:
    """The picture as models accept it. Raises `UnreadablePicture`."""
    if not data:
        raise UnreadablePicture("it is empty")
    if (kind := _UNSUPPORTED.get(filetype.guess_mime(data[:8192]) or "")) is not None:
        raise UnreadablePicture(f"it is in {kind}, which is not supported; please send it as JPEG or PNG")
    try:
        answer = await _DECODERS.run(data, seconds=TIMEOUT)
    except TimeoutError:
        raise UnreadablePicture(f"decoding it timed out after {TIMEOUT:g} s") from None
    except (WorkerFailed, OSError) as error:
        # The error text is a library's or the system's: useful in the traceback, not to a person.
        raise UnreadablePicture("it is too large or too damaged to be decoded") from error
    head, _, scaled = answer.partition(b"\n")
    match json.loads(head):
        case {"description": str(description), "note": str(note)}:
            return ScaledPicture(scaled or None, description, note)
        case {"unreadable": str(reason)}:
            raise UnreadablePicture(reason)
        case _:
            raise UnreadablePicture("it is too damaged to be decoded")
