"""A worker that takes the text out of PDF and office files: the file on stdin, JSON on stdout; it loads the parsers.

It is a process of its own because such files can be made to swell in memory or to keep a parser busy for hours.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from io import BytesIO
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

from agent.files.documents import PARSED_CHARACTERS, SECONDS, Unreadable

MEMORY = 1024**3
"""Bytes of address space."""

UNPACKED = 300_000_000
"""Bytes that the parts of an office file may have together."""

ENOUGH = SECONDS * 2 / 3
"""Seconds after which no further page is begun: what was read by then is better than nothing."""

MOST_COLUMNS = 1000

DAMAGED = "it is damaged or incomplete"
NO_TEXT = "there is no text in it; it may be made of pictures, such as scanned pages"
PASSWORD = "it is protected by a password"
UNKNOWN_LOCK = "it is encrypted in a way that cannot be undone here; please send it without protection"
TOO_MUCH_MEMORY = "reading it takes too much memory"
TOO_MUCH_INSIDE = f"it is packed so tightly that it would swell to more than {UNPACKED // 1_000_000:,} MB"

Kind = Literal["word", "slides", "sheets", "binary sheets"]

_Element = Any  # lxml has no types.

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Section:
    """A page, a slide, a sheet or a part of a text. Its lines are read when they are asked for."""

    heading: str
    lines: Iterable[str]


class _Enough(Exception):
    """No more is taken; the message says why."""


def read(data: bytes, *, characters: int = PARSED_CHARACTERS, seconds: float = ENOUGH) -> str | None:
    """The text of a PDF or an office file, None if it is another kind of archive. Raises `Unreadable`."""
    draft = _Draft(characters, time.monotonic() + seconds)
    try:
        sections = _sections(data)
        if sections is None:
            return None
        for section in sections:
            draft.take(section)
    except _Enough as enough:
        draft.note(f"The rest is left out: {enough}")
    except Unreadable:
        raise
    except Exception as error:  # The edge: the parsers raise whatever hostile bytes lead them to.
        reason = TOO_MUCH_MEMORY if _lacks_memory(error) else DAMAGED
        if not draft.has_words:
            raise Unreadable(reason) from error
        draft.note(f"The rest cannot be read: {reason}")
    if not draft.has_words:
        raise Unreadable(DAMAGED if draft.is_damaged else NO_TEXT)
    return draft.text()


def _lacks_memory(error: Exception) -> bool:
    """lxml calls it an error of syntax, and only its code tells."""
    from lxml.etree import ErrorTypes, XMLSyntaxError  # type: ignore[import-untyped]  # the package has no types

    return isinstance(error, MemoryError) or (
        isinstance(error, XMLSyntaxError) and error.code == ErrorTypes.ERR_NO_MEMORY
    )


class _Draft:
    """The text so far, within its bounds of characters and time."""

    def __init__(self, characters: int, deadline: float) -> None:
        self.is_damaged = False
        self._characters = characters
        self._room = characters - 200
        self._deadline = deadline
        self._lines: list[str] = []
        self._words = 0

    @property
    def has_words(self) -> bool:
        return self._words > 0

    def take(self, section: Section) -> None:
        if section.heading:
            self._add(f"\n{section.heading}\n")
        broken = False
        before = self._words
        try:
            for line in section.lines:
                self._take_line(line)
        except (_Enough, Unreadable, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - the edge: one broken page leaves the others readable
            self.is_damaged = broken = True
            self._add("(the rest of this part is damaged)")
        if section.heading and self._words == before and not broken:
            self._add("(no text)")

    def note(self, words: str) -> None:
        self._lines.append(f"\n[{words}]")

    def text(self) -> str:
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip()[: self._characters]

    def _take_line(self, line: str) -> None:
        if words := _clean(line[: self._room + 1]):
            self._words += 1
            self._add(words)
        elif self._lines and self._lines[-1]:
            self._add("")
        if time.monotonic() > self._deadline:
            raise _Enough("reading it takes too long")

    def _add(self, line: str) -> None:
        self._lines.append(line[: self._room])
        self._room -= len(line) + 1
        if self._room <= 0:
            raise _Enough(f"only the first {self._characters:,} characters are read")


def _clean(line: str) -> str:
    return _UNSAFE.sub(lambda found: "\n" if found[0] in "\r\v\f" else "", line).rstrip() if line else ""


def _sections(data: bytes) -> Iterator[Section] | None:
    if not data.startswith(b"PK"):
        return _pages(data)
    match _office_kind(data):
        case "word":
            return _word(data)
        case "slides":
            return _slides(data)
        case "sheets":
            return _sheets(data)
        case "binary sheets":
            raise Unreadable("it is a binary Excel workbook; please save it as XLSX")
        case None:
            return None


_MAIN_PART = re.compile(
    rb"(wordprocessingml|ms-word|presentationml|ms-powerpoint|spreadsheetml|ms-excel)[\w.-]*\.main\b"
)
_KINDS: dict[bytes, Kind] = {
    b"wordprocessingml": "word",
    b"ms-word": "word",
    b"presentationml": "slides",
    b"ms-powerpoint": "slides",
    b"spreadsheetml": "sheets",
    b"ms-excel": "sheets",
}


def _office_kind(data: bytes) -> Kind | None:
    """What the parts are declared to be (ECMA-376 part 2, 10.1.2.2); None for an archive that declares nothing."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > UNPACKED:
                raise Unreadable(TOO_MUCH_INSIDE)
            if any(part.flag_bits & 1 for part in parts):
                raise Unreadable(PASSWORD)
            if "[Content_Types].xml" not in archive.namelist():
                return None
            declared = _MAIN_PART.search(archive.read("[Content_Types].xml"))
    except BadZipFile as error:
        raise Unreadable(DAMAGED) from error
    if declared is None:
        return None
    return "binary sheets" if b".binary." in declared[0] else _KINDS[declared[1]]


def _row(cells: Iterable[str]) -> str:
    """A table's row, as Markdown has it; nothing when all of its cells are empty."""
    words = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    while words and not words[-1]:
        words.pop()
    return f"| {' | '.join(words)} |" if words else ""


# PDF


def _pages(data: bytes) -> Iterator[Section]:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable(PASSWORD)
    except (DependencyError, NotImplementedError) as error:
        raise Unreadable(UNKNOWN_LOCK) from error
    count = len(reader.pages)
    for place in range(count):
        yield Section(f"## Page {place + 1} of {count}", _page(reader, place))
    if fields := reader.get_form_text_fields():
        yield Section("## Form fields", (f"{name}: {value}" for name, value in fields.items() if value))


def _page(reader: Any, place: int) -> Iterator[str]:
    from pypdf.errors import DependencyError

    try:
        yield reader.pages[place].extract_text()
    except DependencyError as error:
        raise Unreadable(UNKNOWN_LOCK) from error


# Word. Its library finds the parts; their XML is walked here, as the library passes over tracked insertions, content
# controls, text boxes and notes, and takes quadratic time for a table.

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_GONE = frozenset({_FALLBACK, *(_W + name for name in ("del", "moveFrom", "pPr", "rPr", "instrText", "delText"))})
_CHARACTERS = {_W + "tab": "\t", _W + "br": "\n", _W + "cr": "\n", _W + "noBreakHyphen": "-"}
_MAIN_TYPES = (
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
)


def _word(data: bytes) -> Iterator[Section]:
    from docx.opc.part import PartFactory
    from docx.package import Package
    from docx.parts.document import DocumentPart

    for content_type in _MAIN_TYPES:
        PartFactory.part_type_for[content_type] = DocumentPart
    part = Package.open(BytesIO(data)).main_document_part
    if not isinstance(part, DocumentPart):
        raise Unreadable(DAMAGED)
    styles = {style.style_id: (style.name or "").lower() for style in part.document.styles}
    addresses = {key: relation.target_ref for key, relation in part.rels.items() if relation.is_external}
    text = _WordText(styles, addresses)
    yield Section("", text.blocks(part.element.body))
    others = [(relation.reltype.rpartition("/")[2], relation) for relation in part.rels.values()]
    for kind, heading in (("footnotes", "Footnotes"), ("endnotes", "Endnotes"), ("comments", "Comments")):
        for found, relation in others:
            if found == kind and (notes := list(text.notes(_xml(relation.target_part.blob)))):
                yield Section(f"## {heading}", notes)
    around = [text.blocks(_xml(relation.target_part.blob)) for kind, relation in others if kind in ("header", "footer")]
    if lines := dict.fromkeys(line for blocks in around for line in blocks if line.strip()):
        yield Section("## Headers and footers", lines)


def _xml(blob: bytes) -> _Element:
    from lxml import etree  # type: ignore[import-untyped]  # the package has no types

    return etree.fromstring(blob, etree.XMLParser(resolve_entities=False, no_network=True))


@dataclass(frozen=True, slots=True)
class _WordText:
    """What there is to read in Word's XML. `styles` are names by id, `addresses` those of links by relation."""

    styles: dict[str, str]
    addresses: dict[str, str]

    def blocks(self, element: _Element) -> Iterator[str]:
        for child in element:
            if child.tag == _W + "p":
                yield from self._paragraph(child)
            elif child.tag == _W + "tbl":
                yield ""
                yield from (_row(self._cells(row)) for row in child.iter(_W + "tr") if _table_of(row) is child)
                yield ""
            elif child.tag not in _GONE:
                yield from self.blocks(child)

    def notes(self, root: _Element) -> Iterator[str]:
        """Foot- and endnotes under their numbers, comments under their authors."""
        for note in root:
            if note.get(_W + "type") is None:
                author = note.get(_W + "author")
                words = " ".join(line for line in self.blocks(note) if line)
                yield f"{author}: {words}" if author else f"[^{note.get(_W + 'id')}]: {words}"

    def _cells(self, row: _Element) -> Iterator[str]:
        for cell in row.iter(_W + "tc"):
            if _table_of(cell) is _table_of(row):
                yield " ".join(self.blocks(cell))

    def _paragraph(self, paragraph: _Element) -> Iterator[str]:
        boxes: list[_Element] = []
        words = "".join(self._inline(paragraph, boxes)).strip()
        prefix = self._prefix(paragraph)
        around = [] if prefix.endswith("- ") else [""]
        yield from [*around, f"{prefix}{words}" if words else "", *around]
        for box in boxes:
            yield from self.blocks(box)

    def _prefix(self, paragraph: _Element) -> str:
        named = paragraph.find(f"{_W}pPr/{_W}pStyle")
        style = self.styles.get(named.get(_W + "val"), "") if named is not None else ""
        if style == "title":
            return "# "
        if level := re.fullmatch(r"heading (\d)", style):
            return "#" * min(int(level[1]), 6) + " "
        if paragraph.find(f"{_W}pPr/{_W}numPr") is not None or style.startswith(("list bullet", "list number")):
            depth = paragraph.find(f"{_W}pPr/{_W}numPr/{_W}ilvl")
            return "  " * min(_number(depth.get(_W + "val")) if depth is not None else 0, 8) + "- "
        return ""

    def _inline(self, element: _Element, boxes: list[_Element]) -> Iterator[str]:
        for child in element:
            if child.tag in (_W + "t", _MATH_TEXT):
                yield child.text or ""
            elif child.tag in _CHARACTERS:
                yield _CHARACTERS[child.tag]
            elif child.tag in (_W + "footnoteReference", _W + "endnoteReference"):
                yield f"[^{child.get(_W + 'id')}]"
            elif child.tag == _W + "txbxContent":
                boxes.append(child)
            elif child.tag not in _GONE:
                words = "".join(self._inline(child, boxes))
                address = self.addresses.get(child.get(_RELATION)) if child.tag == _W + "hyperlink" else None
                yield f"{words} ({address})" if address and address not in words else words


def _table_of(element: _Element) -> _Element:
    return next(element.iterancestors(_W + "tbl"))


def _number(value: str | None) -> int:
    return int(value) if value is not None and re.fullmatch(r"\d{1,3}", value) else 0


# PowerPoint


def _slides(data: bytes) -> Iterator[Section]:
    from pptx.package import Package

    slides = Package.open(BytesIO(data)).presentation_part.presentation.slides
    for number, slide in enumerate(slides, 1):
        hidden = " (hidden)" if slide.element.get("show") == "0" else ""
        yield Section(f"## Slide {number} of {len(slides)}{hidden}", _slide(slide))


def _slide(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    if title is not None and title.text_frame.text.strip():
        yield f"### {' '.join(title.text_frame.text.split())}"
        yield ""
    for shape in slide.shapes:
        if title is None or shape.shape_id != title.shape_id:
            yield from _shape(shape)
            yield ""
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None and notes.text.strip():
        yield f"Notes: {notes.text.strip()}"


def _shape(shape: Any) -> Iterator[str]:
    from pptx.shapes.group import GroupShape

    if isinstance(shape, GroupShape):
        for inner in shape.shapes:
            yield from _shape(inner)
    elif shape.has_text_frame:
        for paragraph in shape.text_frame.paragraphs:
            bullet = "  " * (paragraph.level - 1) + "- " if paragraph.level else ""
            yield f"{bullet}{paragraph.text}" if paragraph.text.strip() else ""
    elif shape.has_table:
        for row in shape.table.rows:
            yield _row(cell.text for cell in row.cells)
    elif shape.has_chart:
        yield from _chart(shape.chart)


def _chart(chart: Any) -> Iterator[str]:
    if chart.has_title and chart.chart_title.has_text_frame:
        yield f"Chart: {chart.chart_title.text_frame.text}"
    for plot in chart.plots:
        series = list(plot.series)
        yield _row(["", *(one.name for one in series)])
        columns = [list(one.values) for one in series]
        for place, category in enumerate(plot.categories):
            yield _row([str(category), *(_value(column[place]) for column in columns if place < len(column))])


# Excel


def _sheets(data: bytes) -> Iterator[Section]:
    from openpyxl import load_workbook  # type: ignore[import-untyped]  # the package has no types

    # Programs that write workbooks leave out the formulas' values: there the formulas themselves are shown.
    values = load_workbook(BytesIO(data), read_only=True, data_only=True)
    formulas = load_workbook(BytesIO(data), read_only=True)
    for sheet, source in zip(values.worksheets, formulas.worksheets, strict=True):
        hidden = "" if sheet.sheet_state == "visible" else " (hidden)"
        yield Section(f"## Sheet: {sheet.title}{hidden}", _rows(sheet, source))


def _rows(sheet: Any, source: Any) -> Iterator[str]:
    for one in (sheet, source):
        # What a file says of its own size is wrong often enough, and rows would be cut by it.
        one.reset_dimensions()
    rows = zip(sheet.iter_rows(values_only=True), source.iter_rows(values_only=True), strict=True)
    for values, formulas in rows:
        yield _cells(values[:MOST_COLUMNS], formulas[:MOST_COLUMNS]) if values else ""


def _cells(values: Sequence[object], formulas: Sequence[object]) -> str:
    pairs = zip(values, formulas, strict=True)
    return _row(_value(formula if value is None else value) for value, formula in pairs)


def _value(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case datetime() if value.time() == time_of_day():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(" ", "seconds")
        case date() | time_of_day():
            return value.isoformat()
        case float():
            return f"{value:.15g}"
        case str() | int():
            return str(value)
        case _:
            return _formula(value)


def _formula(value: object) -> str:
    from openpyxl.worksheet.formula import ArrayFormula  # type: ignore[import-untyped]  # the package has no types

    return str(value.text) if isinstance(value, ArrayFormula) else str(value)


# As a process of its own


def _bound() -> None:
    """Limits of the system's own, which hold even if nobody is left to end this process."""
    if sys.platform == "win32":
        return
    import resource

    for limit, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, int(2 * SECONDS))):
        # Some systems know the limit but do not let it be set; the caller's own bound on time holds everywhere.
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def main() -> None:
    _bound()
    # The parsers may complain about every byte, and there is nobody to read it.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    answer: dict[str, str | None]
    try:
        answer = {"text": read(sys.stdin.buffer.read())}
    except Unreadable as error:
        answer = {"unreadable": error.reason}
    except MemoryError:
        answer = {"unreadable": TOO_MUCH_MEMORY}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
