"""Parts of a document as its readers give them, and what several readers need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Element = Any  # lxml has no types.

DAMAGED = "it is damaged or incomplete"
PASSWORD = "it is protected by a password"

MAX_PICTURES = 10
"""Pictures that are taken from one document."""

MAX_PICTURE_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Section:
    """A page, a slide, a sheet or a part of a text. Its lines are read lazily."""

    heading: str
    lines: Iterable[str]


@dataclass(frozen=True, slots=True)
class TakenPicture:
    """A picture in a document. `name` says where it was, as a file name."""

    name: str
    data: bytes


def table_row(cells: Iterable[str]) -> str:
    """A table row in Markdown; "" if all cells are empty."""
    words = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    while words and not words[-1]:
        words.pop()
    return f"| {' | '.join(words)} |" if words else ""


def xml(blob: bytes) -> Element:
    from lxml import etree  # type: ignore[import-untyped]  # the package has no types

    return etree.fromstring(blob, etree.XMLParser(resolve_entities=False, no_network=True))
