"""Results that hooks and programs supply, as results of calls: their files go into the media store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from agent.files.pictures import UnreadablePicture, scale_for_model
from agent.gate import one_line
from agent.log import CallEnded
from agent.media import Attachment, MediaStore, NewFile, UnusableFile
from agent.tool_result import MAX_SUPPLIED_FILES, SuppliedResult

MAX_NAME_LENGTH = 120


async def supplied_end(
    call_id: str, given: SuppliedResult, media: MediaStore, mask: Callable[[str], str], *, final: bool = False
) -> CallEnded:
    """The end of the call, free of the secrets that `mask` knows. `final`: the tool's results are final.

    Raises `UnusableFile` for too many files, an empty one and an image that is none, and what the store raises.
    """
    count = len(given.files) + len(given.images)
    if count > MAX_SUPPLIED_FILES:
        raise UnusableFile(f"a result may have {MAX_SUPPLIED_FILES} files and images, not {count}")
    return CallEnded(
        call_id,
        "failed" if given.failed else "done",
        mask(given.text),
        tuple([await _stored(file, media) for file in given.files]),
        tuple([await _shown_to_model(file, media) for file in given.images]),
        mask(given.caption),
        mask(given.for_user),
        final=given.final or (final and not given.failed),
        silent=given.silent,
    )


async def _stored(file: NewFile, media: MediaStore) -> Attachment:
    name = _clean_name(file.name)
    if not file.data:
        raise UnusableFile(f"{name} is empty")
    return await media.put(file.data, name)


async def _shown_to_model(file: NewFile, media: MediaStore) -> Attachment:
    """The picture, no larger than models accept."""
    name = _clean_name(file.name)
    try:
        scaled = await scale_for_model(file.data)
    except UnreadablePicture as error:
        raise UnusableFile(f"{name} cannot be shown to the model as a picture: {error}") from error
    return await media.put(scaled.data or file.data, name)


def _clean_name(name: str) -> str:
    """A name without folders and control characters; never empty."""
    last = PurePosixPath(one_line(name, limit=4 * MAX_NAME_LENGTH).replace("\\", "/")).name.strip(" .")
    suffix = PurePosixPath(last).suffix[:16]
    return (last if len(last) <= MAX_NAME_LENGTH else last[: MAX_NAME_LENGTH - len(suffix)] + suffix) or "file"
