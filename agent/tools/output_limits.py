"""Tool results too long for a model: their beginning and end for it, all of it in a file that it can read."""

from __future__ import annotations

from collections.abc import Iterable

from agent.log import CallEnded, Entry
from agent.media import Attachment, MediaError, MediaStore
from agent.tools.received_files import workspace_path
from agent.transcript import Exchange, Results

LONGEST = 24_000
"""Characters of a result that a model is shown whole."""

HEAD = 12_000
TAIL = 6_000

PAGED = ("read_file-", "fetch_url-")
"""Results of tools that give what is long in parts and say how to read on; a part is not cut again."""

_LINE_END = 1_000
"""Characters of the head that are given up for its ending with a line."""


async def truncate_result(text: str, name: str, media: MediaStore) -> tuple[str, Attachment | None]:
    """The text as a model is shown it, and where all of it is kept if that is not all.

    `name` is the tool's name and the call's id with a hyphen between them.
    """
    if len(text) <= LONGEST or name.startswith(PAGED):
        return text, None
    head, tail = _head(text), text[-TAIL:]
    gap = f"… {len(text) - len(head) - len(tail):,} characters are left out here"
    try:
        full = await media.put(text.encode(errors="replace"), f"{name}.txt")
    except MediaError as error:
        return f"{head}\n[{gap}, and could not be kept: {error}]\n{tail}", None
    where = f"all of it is in the workspace as {workspace_path(full)}; read_file reads on there with {_offset(head)}"
    return f"{head}\n[{gap}; {where}]\n{tail}", full


def full_results(conversation: Iterable[Entry | Exchange]) -> list[Attachment]:
    """The files of results that were too long, oldest first, each once, to be laid out like what people sent."""
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
    end = text.rfind("\n", HEAD - _LINE_END, HEAD)
    return text[:HEAD] if end < 0 else text[: end + 1]


def _offset(head: str) -> str:
    """Where the head ends, in the words of read_file."""
    line, within = 1 + head.count("\n"), len(head) - (head.rfind("\n") + 1)
    return f"offset={line}, start={within}" if within else f"offset={line}"
