"""Limits of tool results: the model gets the beginning and the end of a long one, and all of it as a file."""

from __future__ import annotations

from collections.abc import Iterable

from agent.log import CallEnded, Entry
from agent.media import Attachment, MediaError, MediaStore
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Results

MAX_RESULT_LENGTH = 24_000
"""Characters of a result that a model gets in full."""

HEAD_LENGTH = 12_000
TAIL_LENGTH = 6_000

PAGED = ("read_file-", "fetch_url-")
"""Results of tools that return a long text in parts and say how to read on; a part is not truncated again."""

_LINE_END_TOLERANCE = 1_000
"""Characters by which the head may be shortened to end at a line end."""


async def truncate_result(text: str, name: str, media: MediaStore) -> tuple[str, Attachment | None]:
    """The text as the model gets it, and the file with the full text if it was truncated.

    `name` is the tool's name and the call's id, joined by a hyphen.
    """
    if len(text) <= MAX_RESULT_LENGTH or name.startswith(PAGED):
        return text, None
    head, tail = _head(text), text[-TAIL_LENGTH:]
    gap = f"… {len(text) - len(head) - len(tail):,} characters are left out here"
    try:
        full = await media.put(text.encode(errors="replace"), f"{name}.txt")
    except MediaError as error:
        return f"{head}\n[{gap}, and could not be stored: {error}]\n{tail}", None
    where = f"the full text is in the workspace as {workspace_path(full)}; read on with read_file, {_offset(head)}"
    return f"{head}\n[{gap}; {where}]\n{tail}", full


def full_results(conversation: Iterable[Entry | Exchange]) -> list[Attachment]:
    """The files with the full text of truncated results, oldest first, each once."""
    found: dict[str, Attachment] = {}
    for item in conversation:
        match item:
            case CallEnded(full=full) if full is not None:
                found[full.hash] = full
            case Results(results=results):
                found |= {result.full.hash: result.full for result in results if result.full is not None}
            case _:
                pass
    return list(found.values())


def _head(text: str) -> str:
    end = text.rfind("\n", HEAD_LENGTH - _LINE_END_TOLERANCE, HEAD_LENGTH)
    return text[:HEAD_LENGTH] if end < 0 else text[: end + 1]


def _offset(head: str) -> str:
    """The end of the head, as arguments of read_file."""
    line, within = 1 + head.count("\n"), len(head) - (head.rfind("\n") + 1)
    return f"offset={line}, start={within}" if within else f"offset={line}"
