"""Reads Jupyter notebooks (https://nbformat.readthedocs.io): their cells, the outputs, and the pictures in these."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from agent.files.sections import MAX_PICTURE_BYTES, MAX_PICTURES, Section, TakenPicture

_ANSI_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}

Json = dict[str, Any]


def notebook_of(data: bytes) -> Json | None:
    """The notebook; None if it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("nbformat"), int) else None


def notebook_sections(notebook: Json, pictures: list[TakenPicture]) -> Iterator[Section]:
    """The cells with their outputs. Adds the pictures of a cell to `pictures` when its lines are read."""
    language = _language(notebook)
    for number, cell in enumerate(_cells(notebook), 1):
        yield Section(f"## Cell {number}", _cell(cell, number, language, pictures))


def _language(notebook: Json) -> str:
    metadata = notebook.get("metadata")
    info = metadata.get("language_info") if isinstance(metadata, dict) else None
    return str(info.get("name", "")) if isinstance(info, dict) else ""


def _cells(notebook: Json) -> Iterator[Json]:
    # Until version 4 a notebook had worksheets.
    groups = notebook.get("worksheets") or [notebook]
    for group in groups:
        yield from (cell for cell in group.get("cells", ()) if isinstance(cell, dict))


def _cell(cell: Json, number: int, language: str, pictures: list[TakenPicture]) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell.get("cell_type") == "code":
        yield f"```{language}"
        yield from source.split("\n")
        yield "```"
        for output in cell.get("outputs") or ():
            if isinstance(output, dict):
                yield from _output(output, number, pictures)
    else:
        yield from source.split("\n")
        for data in (cell.get("attachments") or {}).values():
            yield from _picture(data, number, pictures)


def _output(output: Json, number: int, pictures: list[TakenPicture]) -> Iterator[str]:
    match output.get("output_type"):
        case "stream":
            yield "Output:"
            yield from _plain(output.get("text", "")).split("\n")
        case "error" | "pyerr":
            yield f"Error: {output.get('ename')}: {_plain(output.get('evalue', ''))}"
        case _:
            # Until version 4 the data stood in the output itself, with short names.
            data = output.get("data") or {
                "text/plain": output.get("text", ""),
                **{f"image/{kind}": output[kind] for kind in ("png", "jpeg") if kind in output},
            }
            shown = list(_picture(data, number, pictures))
            yield from shown
            if not shown and (text := _plain(data.get("text/markdown") or data.get("text/plain") or "")):
                yield "Output:"
                yield from text.split("\n")


def _picture(data: Json, number: int, pictures: list[TakenPicture]) -> Iterator[str]:
    for media_type, suffix in _PICTURES.items():
        if media_type in data:
            yield _taken(_joined(data[media_type]), f"cell {number}, picture {len(pictures) + 1}.{suffix}", pictures)
            return
    if "image/svg+xml" in data:
        yield "[A picture in SVG, which is not shown]"


def _taken(encoded: str, name: str, pictures: list[TakenPicture]) -> str:
    """The line that stands for the picture."""
    try:
        picture = base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        return "[A damaged picture]"
    if len(pictures) >= MAX_PICTURES or len(picture) > MAX_PICTURE_BYTES:
        return "[A picture that is not shown: there are too many, or it is too large]"
    pictures.append(TakenPicture(name, picture))
    return f"[Picture: {name}]"


def _plain(text: object) -> str:
    return _ANSI_CODES.sub("", _joined(text))


def _joined(text: object) -> str:
    """Texts are strings or lists of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else "" if text is None else str(text)
