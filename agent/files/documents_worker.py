"""A worker process that extracts the text of documents: the file on stdin, JSON on stdout.

It is a separate process because such files can be crafted to exhaust memory or to occupy a parser for hours.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from io import BytesIO
from posixpath import normpath
from typing import Any, Literal, TypeVar
from zipfile import BadZipFile, ZipFile

from agent.files.documents import MAX_CHARACTERS, PARSE_TIMEOUT, Unreadable, is_email
from agent.files.email_text import email_sections
from agent.files.notebook_text import notebook_of, notebook_sections
from agent.files.office_package import repaired, transitional
from agent.files.resource_limits import limit_resources
from agent.files.sections import DAMAGED, PASSWORD, Element, Section, TakenPicture, table_row, xml

MAX_MEMORY = 1024**3
"""Bytes of address space."""

MAX_UNPACKED_BYTES = 300_000_000
"""Total size of the unpacked parts of an office file."""

TIME_BUDGET = PARSE_TIMEOUT * 2 / 3
"""Seconds after which no further page is started: a partial text is better than none."""

MAX_COLUMNS = 1000

NO_TEXT = "it contains no text; it may consist of images, such as scanned pages"
UNKNOWN_ENCRYPTION = "it is encrypted in an unsupported way; please send it without protection"
TOO_MUCH_MEMORY = "reading it takes too much memory"
TOO_MUCH_INSIDE = f"it would unpack to more than {MAX_UNPACKED_BYTES // 1_000_000:,} MB"

T = TypeVar("T")

Kind = Literal["word", "slides", "sheets", "binary sheets"]

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Contents:
    text: str
    pictures: tuple[TakenPicture, ...] = ()


class _LimitReached(Exception):
    """The rest is omitted; the message says why."""


def read(data: bytes, *, characters: int = MAX_CHARACTERS, seconds: float = TIME_BUDGET) -> Contents | None:
    """What is in a PDF, an office file, a message or a notebook; None for anything else. Raises `Unreadable`."""
    builder = _TextBuilder(characters, time.monotonic() + seconds)
    pictures: list[TakenPicture] = []
    try:
        sections = _sections(data, pictures)
        if sections is None:
            return None
        for section in sections:
            builder.add(section)
    except _LimitReached as limit:
        builder.note(f"The rest is omitted: {limit}")
    except Unreadable:
        raise
    except Exception as error:  # The edge: parsers raise any error on hostile bytes.
        reason = TOO_MUCH_MEMORY if _is_out_of_memory(error) else DAMAGED
        if not builder.has_text:
            raise Unreadable(reason) from error
        builder.note(f"The rest is not readable: {reason}")
    if not builder.has_text:
        raise Unreadable(DAMAGED if builder.is_damaged else NO_TEXT)
    return Contents(builder.text(), tuple(pictures))


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; lxml reports that as a syntax error with a special code."""
    from lxml.etree import ErrorTypes, XMLSyntaxError  # type: ignore[import-untyped]  # the package has no types

    return isinstance(error, MemoryError) or (
        isinstance(error, XMLSyntaxError) and error.code == ErrorTypes.ERR_NO_MEMORY
    )


class _TextBuilder:
    """The text so far, within limits of characters and time."""

    def __init__(self, characters: int, deadline: float) -> None:
        self.is_damaged = False
        self._characters = characters
        self._remaining = characters - 200
        self._deadline = deadline
        self._lines: list[str] = []
        self._text_lines = 0

    @property
    def has_text(self) -> bool:
        return self._text_lines > 0

    def add(self, section: Section) -> None:
        if section.heading:
            self._add(f"\n{section.heading}\n")
        broken = False
        before = self._text_lines
        try:
            for line in section.lines:
                self._add_text(line)
        except (_LimitReached, Unreadable, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - the edge: one broken page leaves the others readable
            self.is_damaged = broken = True
            self._add("(the rest of this part is damaged)")
        if section.heading and self._text_lines == before and not broken:
            self._add("(no text)")

    def note(self, text: str) -> None:
        self._lines.append(f"\n[{text}]")

    def text(self) -> str:
        return re.sub(r"\n{3,}", "\n\n", "\n".join(self._lines)).strip()[: self._characters]

    def _add_text(self, line: str) -> None:
        if text := _clean(line[: self._remaining + 1]):
            self._text_lines += 1
            self._add(text)
        elif self._lines and self._lines[-1]:
            self._add("")
        if time.monotonic() > self._deadline:
            raise _LimitReached("the time limit is reached")

    def _add(self, line: str) -> None:
        self._lines.append(line[: self._remaining])
        self._remaining -= len(line) + 1
        if self._remaining <= 0:
            raise _LimitReached(f"the limit is {self._characters:,} characters")


def _clean(line: str) -> str:
    return _UNSAFE.sub(lambda found: "\n" if found[0] in "\r\v\f" else "", line).rstrip() if line else ""


def _sections(data: bytes, pictures: list[TakenPicture]) -> Iterator[Section] | None:
    if (sections := _document(data)) is not None or data.startswith(b"PK"):
        return sections
    if is_email(data):
        return email_sections(data, _document)
    notebook = notebook_of(data)
    return None if notebook is None else notebook_sections(notebook, pictures)


def _document(data: bytes) -> Iterator[Section] | None:
    """The sections of a PDF or an office file."""
    if b"%PDF-" in data[:1024]:
        return _pages(data)
    if not data.startswith(b"PK"):
        return None
    match _office_kind(data):
        case "word":
            return _word(transitional(data))
        case "slides":
            return _slides(transitional(data))
        case "sheets":
            return _sheets(transitional(data))
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
    """The kind by the declared part types (ECMA-376 part 2, 10.1.2.2); None for an archive without declarations."""
    try:
        with ZipFile(BytesIO(data)) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > MAX_UNPACKED_BYTES:
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


def _opened(data: bytes, load: Callable[[bytes], T]) -> tuple[T, bytes]:
    """What the library makes of an office file, and the file: repaired if it cannot be opened as it is."""
    try:
        return load(data), data
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            raise
        data = repaired(data)
        return load(data), data


# PDF


def _pages(data: bytes) -> Iterator[Section]:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable(PASSWORD)
    except (DependencyError, NotImplementedError) as error:
        raise Unreadable(UNKNOWN_ENCRYPTION) from error
    count = len(reader.pages)
    for index in range(count):
        yield Section(f"## Page {index + 1} of {count}", _page(reader, index))
    if fields := reader.get_form_text_fields():
        yield Section("## Form fields", (f"{name}: {value}" for name, value in fields.items() if value))


def _page(reader: Any, index: int) -> Iterator[str]:
    from pypdf.errors import DependencyError

    try:
        yield reader.pages[index].extract_text()
    except DependencyError as error:
        raise Unreadable(UNKNOWN_ENCRYPTION) from error


# Word. The library finds the parts; we walk their XML, because the library ignores tracked insertions, content
# controls, text boxes and notes, and takes quadratic time for a table.

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_DIAGRAM_RELATIONS = _DIAGRAM + "relIds"
_DIAGRAM_DATA = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}dm"
_IGNORED = frozenset({_FALLBACK, *(_W + name for name in ("del", "moveFrom", "pPr", "rPr", "instrText", "delText"))})
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
    package, _ = _opened(data, lambda data: Package.open(BytesIO(data)))
    part = package.main_document_part
    if not isinstance(part, DocumentPart):
        raise Unreadable(DAMAGED)
    addresses = {key: relation.target_ref for key, relation in part.rels.items() if relation.is_external}
    others = [(relation.reltype.rpartition("/")[2], relation) for relation in part.rels.values()]
    styles = {key: name for kind, relation in others if kind == "styles" for key, name in _styles(relation)}
    text = _WordText(styles, addresses, _diagrams(part.rels.items()))
    yield Section("", text.blocks(part.element.body))
    for kind, heading in (("footnotes", "Footnotes"), ("endnotes", "Endnotes"), ("comments", "Comments")):
        for found, relation in others:
            if found == kind and (notes := list(text.notes(xml(relation.target_part.blob)))):
                yield Section(f"## {heading}", notes)
    around = [text.blocks(xml(relation.target_part.blob)) for kind, relation in others if kind in ("header", "footer")]
    if lines := dict.fromkeys(line for blocks in around for line in blocks if line.strip()):
        yield Section("## Headers and footers", lines)


def _styles(relation: Any) -> Iterator[tuple[str, str]]:
    """The id and the name of each style."""
    for style in xml(relation.target_part.blob).iter(_W + "style"):
        name = style.find(_W + "name")
        yield style.get(_W + "styleId", ""), "" if name is None else name.get(_W + "val", "").lower()


@dataclass(frozen=True, slots=True)
class _WordText:
    """The readable text in Word's XML. `styles` are names by id, `addresses` are link targets by relation, and so are
    `diagrams`, the lines of SmartArt."""

    styles: dict[str, str]
    addresses: dict[str, str]
    diagrams: dict[str, list[str]]

    def blocks(self, element: Element) -> Iterator[str]:
        for child in element:
            if child.tag == _W + "p":
                yield from self._paragraph(child)
            elif child.tag == _W + "tbl":
                yield ""
                yield from (table_row(self._cells(row)) for row in child.iter(_W + "tr") if _table_of(row) is child)
                yield ""
            elif child.tag not in _IGNORED:
                yield from self.blocks(child)

    def notes(self, root: Element) -> Iterator[str]:
        """Footnotes and endnotes with their numbers, comments with their authors."""
        for note in root:
            if note.get(_W + "type") is None:
                author = note.get(_W + "author")
                words = " ".join(line for line in self.blocks(note) if line)
                yield f"{author}: {words}" if author else f"[^{note.get(_W + 'id')}]: {words}"

    def _cells(self, row: Element) -> Iterator[str]:
        for cell in row.iter(_W + "tc"):
            if _table_of(cell) is _table_of(row):
                yield " ".join(self.blocks(cell))

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        boxes: list[Element | list[str]] = []
        words = "".join(self._inline(paragraph, boxes)).strip()
        prefix = self._prefix(paragraph)
        around = [] if prefix.endswith("- ") else [""]
        yield from [*around, f"{prefix}{words}" if words else "", *around]
        for box in boxes:
            yield from box if isinstance(box, list) else self.blocks(box)

    def _prefix(self, paragraph: Element) -> str:
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

    def _inline(self, element: Element, boxes: list[Element | list[str]]) -> Iterator[str]:
        for child in element:
            if child.tag in (_W + "t", _MATH_TEXT):
                yield child.text or ""
            elif child.tag in _CHARACTERS:
                yield _CHARACTERS[child.tag]
            elif child.tag in (_W + "footnoteReference", _W + "endnoteReference"):
                yield f"[^{child.get(_W + 'id')}]"
            elif child.tag == _W + "txbxContent":
                boxes.append(child)
            elif child.tag == _DIAGRAM_RELATIONS:
                boxes.append(self.diagrams.get(child.get(_DIAGRAM_DATA), []))
            elif child.tag not in _IGNORED:
                words = "".join(self._inline(child, boxes))
                address = self.addresses.get(child.get(_RELATION)) if child.tag == _W + "hyperlink" else None
                yield f"{words} ({address})" if address and address not in words else words


def _diagrams(relations: Iterable[tuple[str, Any]]) -> dict[str, list[str]]:
    kinds = ((key, each) for key, each in relations if each.reltype.endswith("/diagramData") and not each.is_external)
    return {key: list(_diagram_lines(each.target_part.blob)) for key, each in kinds}


def _diagram_lines(blob: bytes) -> Iterator[str]:
    """The texts of a SmartArt diagram (its data part: ECMA-376 part 1, 21.4.2)."""
    for point in xml(blob).iter(_DIAGRAM + "pt"):
        for paragraph in point.iter(_DRAWING + "p"):
            if words := "".join(text.text or "" for text in paragraph.iter(_DRAWING + "t")).strip():
                yield f"- {words}"


def _table_of(element: Element) -> Element:
    return next(element.iterancestors(_W + "tbl"))


def _number(value: str | None) -> int:
    return int(value) if value is not None and re.fullmatch(r"\d{1,3}", value) else 0


# PowerPoint


def _slides(data: bytes) -> Iterator[Section]:
    from pptx.package import Package

    package, _ = _opened(data, lambda data: Package.open(BytesIO(data)))
    slides = package.presentation_part.presentation.slides
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
            yield table_row(cell.text for cell in row.cells)
    elif shape.has_chart:
        yield from _chart(shape.chart)
    else:
        for diagram in shape.element.iter(_DIAGRAM_RELATIONS):
            yield from _diagram_lines(shape.part.related_part(diagram.get(_DIAGRAM_DATA)).blob)


def _chart(chart: Any) -> Iterator[str]:
    if chart.has_title and chart.chart_title.has_text_frame:
        yield f"Chart: {chart.chart_title.text_frame.text}"
    for plot in chart.plots:
        series = list(plot.series)
        yield table_row(["", *(one.name for one in series)])
        columns = [list(one.values) for one in series]
        for index, category in enumerate(plot.categories):
            yield table_row([str(category), *(_value(column[index]) for column in columns if index < len(column))])


# Excel


def _sheets(data: bytes) -> Iterator[Section]:
    from openpyxl import load_workbook  # type: ignore[import-untyped]  # the package has no types

    # Workbooks written by programs have no values of formulas: then the formulas themselves are shown.
    values, data = _opened(data, lambda data: load_workbook(BytesIO(data), read_only=True, data_only=True))
    formulas = load_workbook(BytesIO(data), read_only=True)
    notes = _notes(data)
    for sheet, source in zip(values.worksheets, formulas.worksheets, strict=True):
        hidden = "" if sheet.sheet_state == "visible" else " (hidden)"
        yield Section(f"## Sheet: {sheet.title}{hidden}", _rows(sheet, source))
        if found := notes.get(sheet.title):
            yield Section(f"### Notes of {sheet.title}", found)


_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATIONSHIP = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"


def _notes(data: bytes) -> dict[str, list[str]]:
    """The notes of cells by sheet. The library does not read them in the mode that reads large workbooks."""
    with ZipFile(BytesIO(data)) as archive:
        names = frozenset(archive.namelist())
        if not any("comments" in name for name in names):
            return {}
        relations = dict(_relations(archive, names, "xl/workbook.xml"))
        sheets = xml(archive.read("xl/workbook.xml")).iter(_S + "sheet")
        paths = {sheet.get("name"): relations.get(sheet.get(_RELATION), ("", ""))[1] for sheet in sheets}
        return {
            title: [
                line
                for kind, target in dict(_relations(archive, names, path)).values()
                if kind == "comments"
                for line in _sheet_notes(xml(archive.read(target)))
            ]
            for title, path in paths.items()
        }


def _relations(archive: ZipFile, names: frozenset[str], part: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """The id, kind and target of the part's relations to other parts of the file."""
    folder, _, name = part.rpartition("/")
    path = f"{folder}/_rels/{name}.rels"
    if path not in names:
        return
    for relation in xml(archive.read(path)).iter(_RELATIONSHIP):
        target = relation.get("Target", "")
        real = target[1:] if target.startswith("/") else normpath(f"{folder}/{target}")
        if real in names:
            yield relation.get("Id"), (relation.get("Type", "").rpartition("/")[2], real)


def _sheet_notes(root: Element) -> Iterator[str]:
    authors = [author.text or "" for author in root.iter(_S + "author")]
    for note in root.iter(_S + "comment"):
        number = _number(note.get("authorId"))
        author = authors[number] if number < len(authors) else ""
        words = " ".join("".join(text.text or "" for text in note.iter(_S + "t")).split())
        yield (
            f"{note.get('ref')}: {words}"
            if not author or words.startswith(author)
            else (f"{note.get('ref')}: {author}: {words}")
        )


def _rows(sheet: Any, source: Any) -> Iterator[str]:
    for one in (sheet, source):
        # The declared dimensions are often wrong, and would truncate rows.
        one.reset_dimensions()
    rows = zip(sheet.iter_rows(values_only=True), source.iter_rows(values_only=True), strict=True)
    for values, formulas in rows:
        yield _cells(values[:MAX_COLUMNS], formulas[:MAX_COLUMNS]) if values else ""


def _cells(values: Sequence[object], formulas: Sequence[object]) -> str:
    pairs = zip(values, formulas, strict=True)
    return table_row(_value(formula if value is None else value) for value, formula in pairs)


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


# The process


def _sent(picture: TakenPicture) -> dict[str, str]:
    return {"name": picture.name, "data": base64.b64encode(picture.data).decode()}


def main() -> None:
    limit_resources(memory=MAX_MEMORY, processor_seconds=int(2 * PARSE_TIMEOUT))
    # Parsers may log warnings for every byte, and nobody reads them.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    answer: dict[str, object]
    try:
        contents = read(sys.stdin.buffer.read())
        answer = {} if contents is None else {"text": contents.text, "pictures": list(map(_sent, contents.pictures))}
    except Unreadable as error:
        answer = {"unreadable": error.reason}
    except MemoryError:
        answer = {"unreadable": TOO_MUCH_MEMORY}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
