"""Documents of all kinds, real and hostile, as text."""

import asyncio
import io
import random
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import accumulate

import docx
import openpyxl
import pptx
import psutil
import pytest
from docx.opc.constants import CONTENT_TYPE, NAMESPACE, RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches
from pypdf import PdfReader, PdfWriter

from agent.files import documents_worker
from agent.files.documents import Unreadable, excerpt, read_document

PATIENCE = 60
PDF = "application/pdf"
BINARY = "application/octet-stream"
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


async def read(data: bytes, name: str = "file", media_type: str = BINARY) -> str | None:
    async with asyncio.timeout(PATIENCE):
        found = await read_document(data, media_type, name, seconds=PATIENCE - 5)
        return None if found is None else found.text


async def refusal(data: bytes, name: str = "file", media_type: str = BINARY) -> str:
    with pytest.raises(Unreadable) as caught:
        await read(data, name, media_type)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


# Makers


def pdf_of(contents: Sequence[bytes], packed: bool = False, field: bytes = b"") -> bytes:
    """A PDF by hand: a page for each content stream, and perhaps a form with one field."""
    kids = " ".join(f"{4 + 2 * place} 0 R" for place in range(len(contents)))
    form = b" /AcroForm <</Fields [%d 0 R]>>" % (4 + 2 * len(contents)) if field else b""
    bodies = [
        b"<</Type /Catalog /Pages 2 0 R%s>>" % form,
        f"<</Type /Pages /Kids [{kids}] /Count {len(contents)}>>".encode(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    for place, content in enumerate(contents):
        page = f"<</Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * place} 0 R"
        bodies.append(f"{page} /Resources <</Font <</F1 3 0 R>>>>>>".encode())
        stream = zlib.compress(content) if packed else content
        packing = "/Filter /FlateDecode " if packed else ""
        bodies.append(f"<<{packing}/Length {len(stream)}>>\nstream\n".encode() + stream + b"\nendstream")
    bodies += [field] if field else []
    objects = [b"%%PDF-1.4\n"[1:]] + [b"%d 0 obj\n%s\nendobj\n" % pair for pair in enumerate(bodies, 1)]
    places = list(accumulate(len(one) for one in objects))
    table = b"".join(b"%010d 00000 n \n" % place for place in places[:-1])
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d /Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n"
    return b"".join(objects) + end % (len(objects), table, len(objects), places[-1])


def shown(text: str) -> bytes:
    return b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1")


def pdf(*pages: str) -> bytes:
    return pdf_of([shown(page) if page else b"" for page in pages])


def locked_pdf(password: str, algorithm: str = "RC4-128") -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("The secret is out"))))
    writer.encrypt(password, "owner", algorithm=algorithm)
    return saved(writer.write)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    data = io.BytesIO()
    save(data)
    return data.getvalue()


def word(*paragraphs: str) -> bytes:
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    return saved(document.save)


def sheet(*rows: Sequence[object]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(list(row))
    return saved(book.save)


def show(*titles: str) -> bytes:
    presentation = pptx.Presentation()
    for title in titles:
        presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = title
    return saved(presentation.save)


def archive(**members: bytes | str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as members_of:
        for name, content in members.items():
            members_of.writestr(name.replace("__", "."), content)
    return data.getvalue()


def changed(data: bytes, member: str, change: Callable[[bytes], bytes]) -> bytes:
    """The archive with one member's content replaced."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, change(content) if info.filename == member else content)
    return result.getvalue()


def picture() -> bytes:
    return saved(lambda file: Image.new("RGB", (4, 4)).save(file, "PNG"))


# Text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Grüße, 世界 🎈".encode(), "Grüße, 世界 🎈"),
        ("Grüße".encode("utf-8-sig"), "Grüße"),
        ("Grüße, 世界".encode("utf-16"), "Grüße, 世界"),
        (b"\xfe\xff" + "Grüße".encode("utf-16-be"), "Grüße"),
        ("Schöne Grüße aus Köln".encode("latin-1"), "Schöne Grüße aus Köln"),
        ("She said “five €…”".encode("cp1252"), "She said “five €…”"),
        ("Привет, как дела? ".encode() * 9 + b"\xff.", "Привет, как дела? " * 9 + "\N{REPLACEMENT CHARACTER}."),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
        (b"\x1b[31mred\x1b[0m and plain", "red and plain"),
        (b"BMW is a car", "BMW is a car"),
        (b'{"a": [1, 2]}', '{"a": [1, 2]}'),
        (b"<svg/>", "<svg/>"),
    ],
)
async def test_text_is_read_in_its_encoding(data: bytes, text: str) -> None:
    assert await read(data) == text


@pytest.mark.parametrize("name", ["table.csv", "notes.md", "main.rs", "Makefile", "data.json", "scan.pdf", "x.docx"])
async def test_text_is_text_whatever_its_name_is(name: str) -> None:
    assert await read(b"a,b\n1,2\n", name) == "a,b\n1,2\n"


async def test_long_text_is_given_whole() -> None:
    assert await read(b"line\n" * 1_000_000) == "line\n" * 1_000_000


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (picture(), "picture.png"),
        (picture(), "really-a-picture.pdf"),
        (picture(), "really-a-picture.txt"),
        (b"OggS\0\2" + bytes(100), "note.ogg"),
        (archive(a__txt="text"), "things.zip"),
        (b"\x7fELF\2\1\1" + bytes(100), "program"),
        (bytes(range(256)), "unknown.bin"),
        ("Καλημέρα, τι κάνεις;".encode("cp1253"), "unknown"),
        (b"abc\0def", "unknown"),
        (b"\xff\xfea", "half a character"),
    ],
)
async def test_what_is_no_document_has_no_text(data: bytes, name: str) -> None:
    assert await read(data, name) is None


# Documents


async def test_a_pdf_is_read_page_by_page() -> None:
    assert await read(pdf("First words", "", "Last words"), "a.pdf", PDF) == (
        "## Page 1 of 3\n\nFirst words\n\n## Page 2 of 3\n\n(no text)\n\n## Page 3 of 3\n\nLast words"
    )


async def test_a_pdf_is_known_by_its_bytes_even_behind_others() -> None:
    assert "Hello" in (await read(pdf("Hello"), "no-suffix") or "")
    assert "Hello" in (await read(b"junk before it\n" + pdf("Hello"), "a.pdf") or "")


async def test_the_fields_of_a_filled_form_are_read() -> None:
    field = b"<</FT /Tx /T (Name) /V (Ann Example)>>"

    text = await read(pdf_of([shown("Please fill in")], field=field), "form.pdf") or ""
    assert text.endswith("Please fill in\n\n## Form fields\n\nName: Ann Example")


async def test_a_pdf_of_a_drawing_program_is_read() -> None:
    figure = Figure()
    figure.text(0.1, 0.5, "Grüße from a chart")

    assert "Grüße from a chart" in (await read(saved(lambda file: figure.savefig(file, format="pdf"))) or "")


async def test_a_word_document_keeps_headings_lists_links_and_tables() -> None:
    document = docx.Document()
    document.add_heading("Report", 0)
    document.add_heading("Results", 1)
    document.add_paragraph("Good ones.")
    document.add_paragraph("first", "List Bullet")
    document.add_paragraph("second", "List Number")
    table = document.add_table(2, 2)
    for cell, words in zip((cell for row in table.rows for cell in row.cells), ("A", "B|C", "1\n2", ""), strict=True):
        cell.text = words
    document.add_paragraph("The end.")
    document.sections[0].header.paragraphs[0].text = "Letterhead"

    assert await read(saved(document.save), "report.docx") == (
        "# Report\n\n# Results\n\nGood ones.\n\n- first\n- second\n\n| A | B\\|C |\n| 1 2 |\n\nThe end.\n\n"
        "## Headers and footers\n\nLetterhead"
    )


async def test_tracked_changes_content_controls_and_text_boxes_are_read_as_they_stand() -> None:
    document = docx.Document()
    for xml in (
        "<w:p {}><w:r><w:t>Kept, </w:t></w:r><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>removed</w:delText></w:r></w:del></w:p>",
        "<w:sdt {}><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        "<w:p {}><w:r><w:t>Outside</w:t></w:r><w:r><w:pict><w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p>"
        "</w:txbxContent></w:pict></w:r></w:p>",
    ):
        document.element.body.insert(-1, parse_xml(xml.format(WORD)))

    assert await read(saved(document.save)) == "Kept, added\n\nIn a control\n\nOutside\n\nIn a box"


async def test_links_comments_and_footnotes_of_a_word_document_are_read() -> None:
    document = docx.Document()
    link = document.part.relate_to("https://example.org/", RELATIONSHIP_TYPE.HYPERLINK, is_external=True)
    document.element.body.insert(
        -1,
        parse_xml(
            f'<w:p {WORD} xmlns:r="{NAMESPACE.OFC_RELATIONSHIPS}"><w:r><w:t xml:space="preserve">See </w:t></w:r>'
            f'<w:hyperlink r:id="{link}"><w:r><w:t>our page</w:t></w:r></w:hyperlink>'
            '<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        ),
    )
    document.add_comment(document.add_paragraph("Odd.").runs, "Is it?", author="Bob")
    notes = (
        f'<w:footnotes {WORD}><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>Since 1999.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    part = Part(PackURI("/word/footnotes.xml"), CONTENT_TYPE.WML_FOOTNOTES, notes.encode(), document.part.package)
    document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)

    assert await read(saved(document.save)) == (
        "See our page (https://example.org/)[^2]\n\nOdd.\n\n## Footnotes\n\n[^2]: Since 1999.\n\n"
        "## Comments\n\nBob: Is it?"
    )


async def test_a_presentation_is_read_slide_by_slide_with_tables_charts_and_notes() -> None:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Plan"
    body = slide.placeholders[1].text_frame
    body.text = "First"
    inner = body.add_paragraph()
    inner.text, inner.level = "detail", 1
    slide.notes_slide.notes_text_frame.text = "Speak slowly"
    other = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = other.shapes.add_table(1, 2, *(Inches(1),) * 4).table
    table.cell(0, 0).text, table.cell(0, 1).text = "a", "b"
    data = CategoryChartData()
    data.categories = ["east", "west"]
    data.add_series("sales", (1.5, 2))
    other.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *(Inches(1),) * 4, data)
    group = other.shapes.add_group_shape()
    group.shapes.add_textbox(*(Inches(1),) * 4).text_frame.text = "grouped"

    assert await read(saved(presentation.save), "plan.pptx") == (
        "## Slide 1 of 2\n\n### Plan\n\nFirst\n- detail\n\nNotes: Speak slowly\n\n"
        "## Slide 2 of 2\n\n| a | b |\n\n|  | sales |\n| east | 1.5 |\n| west | 2 |\n\ngrouped"
    )


async def test_a_workbook_is_read_sheet_by_sheet() -> None:
    book = openpyxl.Workbook()
    book.active.title = "Sales"
    book.active.append(["day", "amount", "paid"])
    book.active.append([date(2026, 1, 2), 1.1, True])
    book.active.append([datetime(2026, 1, 2, 3, 4), 12, None])  # noqa: DTZ001 - a cell has no time zone
    book.active.append(["sum", "=SUM(B2:B3)"])
    hidden = book.create_sheet("Secret")
    hidden["C3"] = "a | b\nc"
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")

    assert await read(saved(book.save), "sales.xlsx") == (
        "## Sheet: Sales\n\n| day | amount | paid |\n| 2026-01-02 | 1.1 | TRUE |\n| 2026-01-02 03:04:00 | 12 |\n"
        "| sum | =SUM(B2:B3) |\n\n## Sheet: Secret (hidden)\n\n|  |  | a \\| b c |\n\n## Sheet: Empty\n\n(no text)"
    )


async def test_a_workbook_that_is_wrong_about_its_size_is_read_whole() -> None:
    data = changed(
        sheet(["a", "b"], ["c", "d"]), "xl/worksheets/sheet1.xml", lambda xml: xml.replace(b'"A1:B2"', b'"A1"')
    )

    assert (await read(data) or "").endswith("| a | b |\n| c | d |")


@pytest.mark.parametrize(
    ("old", "new", "make"),
    [
        (b"vnd.openxmlformats-officedocument.wordprocessingml.document", b"vnd.ms-word.document.macroEnabled", word),
        (b"wordprocessingml.document.main", b"wordprocessingml.template.main", word),
        (b"presentationml.presentation.main", b"presentationml.slideshow.main", show),
        (b"vnd.openxmlformats-officedocument.spreadsheetml.sheet", b"vnd.ms-excel.sheet.macroEnabled", sheet),
    ],
)
async def test_templates_shows_and_files_with_macros_are_read_too(
    old: bytes, new: bytes, make: Callable[..., bytes]
) -> None:
    data = make("Hello") if make is not sheet else sheet(["Hello"])
    assert "Hello" in (await read(changed(data, "[Content_Types].xml", lambda xml: xml.replace(old, new))) or "")


# Files that cannot be read


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.txt", "a"])
async def test_an_empty_file_is_called_empty(name: str) -> None:
    assert await refusal(b"", name) == "it is empty"


@pytest.mark.parametrize("data", [pdf("", ""), word(), sheet(), show()], ids=["pdf", "docx", "xlsx", "pptx"])
async def test_a_document_without_text_may_be_made_of_pictures(data: bytes) -> None:
    assert "no text" in await refusal(data)


async def test_a_pdf_with_a_password_says_so() -> None:
    assert await refusal(locked_pdf("word"), "a.pdf") == "it is protected by a password"


async def test_a_pdf_that_only_forbids_printing_is_read() -> None:
    assert "The secret is out" in (await read(locked_pdf("")) or "")


async def test_an_office_file_with_a_password_says_so() -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600)
    assert await refusal(data, "a.xlsx") == "it is protected by a password"


async def test_old_and_foreign_formats_say_what_to_do() -> None:
    old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1200)
    assert "old Office format" in await refusal(old, "letter.doc")
    assert "RTF" in await refusal(b"{\\rtf1 Hello}", "letter.rtf")
    assert await read(old, "setup.msi") is None


@pytest.mark.parametrize(
    ("name", "data"), [("a.docx", word("Hello")), ("a.xlsx", sheet(["Hello"])), ("a.pptx", show("Hello"))]
)
async def test_half_of_an_office_file_is_damaged(name: str, data: bytes) -> None:
    assert "damaged" in await refusal(data[: len(data) // 2], name)


async def test_half_of_a_pdf_is_damaged() -> None:
    data = pdf("First words", "Last words")
    assert "damaged" in await refusal(data[: data.index(b"Last")])
    assert "damaged" in await refusal(data[:30], "a.pdf")


async def test_a_pdf_without_its_table_of_objects_is_read() -> None:
    data = pdf("Hello")
    assert "Hello" in (await read(data.replace(b"startxref\n", b"startxref\n9")) or "")


async def test_a_document_that_is_really_another_archive_is_not_what_it_says() -> None:
    assert "not a Word document" in await refusal(archive(a__txt="text"), "a.docx")
    assert "not a Word document" in await refusal(archive(**{"[Content_Types]__xml": "<Types/>"}), "a.docx")
    assert await read(archive(**{"[Content_Types]__xml": "<Types/>"}), "a.zip") is None


async def test_a_workbook_with_the_name_of_a_document_is_read_all_the_same() -> None:
    assert "| Hello |" in (await read(sheet(["Hello"]), "a.docx") or "")


async def test_bytes_that_are_not_what_name_or_type_say_are_refused() -> None:
    assert "not a PDF" in await refusal(bytes(range(256)), "a.pdf")
    assert "not a PDF" in await refusal(bytes(range(256)), "a", PDF)
    assert "UTF-8" in await refusal("Καλημέρα, τι κάνεις;".encode("cp1253"), "letter.txt")


async def test_a_pdf_locked_in_a_way_we_cannot_undo_is_not_called_damaged() -> None:
    data = locked_pdf("").replace(b"/Filter /Standard", b"/Filter /Homemade")
    assert b"Homemade" in data

    assert "encrypted" in await refusal(data)


async def test_a_pdf_that_is_only_protected_against_printing_is_read() -> None:
    assert "The secret is out" in await read(locked_pdf("", "AES-256"))


async def test_one_broken_page_leaves_the_others_readable() -> None:
    data = pdf("Broken", "Last words").replace(b"5 0 obj\n<<", b"5 0 obj\n<</Filter /Nonsense ")

    assert await read(data) == "## Page 1 of 2\n\n(the rest of this part is damaged)\n\n## Page 2 of 2\n\nLast words"


# Files made to harm


def members_of_a_bomb() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(word("Hello"))) as real:
        return {name: real.read(name) for name in real.namelist()}


async def test_an_archive_that_would_swell_is_not_unpacked() -> None:
    members = members_of_a_bomb() | {f"word/media/{number}.bin": bytes(31_000_000) for number in range(10)}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for name, content in members.items():
            bomb.writestr(name, content)

    assert "unpack to more than" in await refusal(data.getvalue(), "a.docx")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound a process's memory")
async def test_a_document_that_takes_too_much_memory_is_given_up() -> None:
    paragraphs = b"<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 3_000_000
    data = changed(word("Hello"), "word/document.xml", lambda xml: xml.replace(b"<w:sectPr", paragraphs + b"<w:sectPr"))

    assert "too much memory" in await refusal(data, "a.docx")


async def test_a_pdf_whose_page_swells_is_given_up_or_cut() -> None:
    data = pdf_of([shown("Hello") + b" " * 200_000_000], packed=True)
    assert len(data) < 1_000_000

    with pytest.raises(Unreadable):
        await read(data, "a.pdf")


async def test_a_sheet_with_a_cell_at_its_far_end_is_read() -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "near", "far"

    text = await read(saved(book.save)) or ""
    assert "| near |" in text
    assert len(text) < 10_000


async def test_a_thousand_pages_are_read() -> None:
    text = await read(pdf(*(f"This is page {number}" for number in range(1, 1001))), "long.pdf") or ""

    assert "## Page 1 of 1000\n\nThis is page 1\n" in text
    assert text.endswith("## Page 1000 of 1000\n\nThis is page 1000")


async def test_long_documents_are_cut_and_say_so() -> None:
    text = await read(word(*("A line of forty characters, more or less" * 20 for _ in range(4000)))) or ""

    assert len(text) <= 2_000_000
    assert text.endswith("[The rest is omitted: the limit is 2,000,000 characters]")


def test_a_slow_document_is_read_as_far_as_its_time_goes() -> None:
    contents = documents_worker.read(pdf("First words", "Last words"), seconds=0)

    assert contents is not None
    assert contents.text == "## Page 1 of 2\n\nFirst words\n\n[The rest is omitted: the time limit is reached]"


@pytest.mark.parametrize("depth", [50, 100_000])
async def test_deeply_nested_tables_end_in_text_or_in_words(depth: int) -> None:
    opening, closing = "<w:tbl><w:tr><w:tc>", "</w:tc></w:tr></w:tbl>"
    body = f"<w:p><w:r><w:t>top</w:t></w:r></w:p>{opening * depth}<w:p/>{closing * depth}".encode()
    data = changed(word("Hello"), "word/document.xml", lambda xml: xml.replace(b"<w:sectPr", body + b"<w:sectPr"))

    if depth == 50:
        assert "top" in (await read(data) or "")
    else:
        assert "damaged" in await refusal(data)


@pytest.mark.parametrize("nest", [b"[", b"<<", b"("])
async def test_a_deeply_nested_page_leaves_the_others_readable(nest: bytes) -> None:
    assert "Last words" in (await read(pdf_of([nest * 100_000, shown("Last words")])) or "")


async def test_a_pdf_that_nests_or_chases_its_own_tail_is_damaged() -> None:
    data = pdf("Hello")
    assert "damaged" in await refusal(data.replace(b"/Kids [4 0 R", b"/Kids [2 0 R"))
    assert "damaged" in await refusal(data.replace(b"/MediaBox ", b"/MediaBox " + b"[" * 100_000))


async def test_a_pdf_that_lies_about_its_pages_is_read() -> None:
    assert "Hello" in (await read(pdf("Hello").replace(b"/Count 1", b"/Count 999999999")) or "")


async def test_entities_are_not_unfolded() -> None:
    laughs = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'
    text = "<w:p><w:r><w:t>Hello &b; &f;</w:t></w:r></w:p>"

    def poisoned(xml: bytes) -> bytes:
        return xml.replace(b"<w:document", laughs.encode() + b"<w:document", 1).replace(
            b"<w:sectPr", text.encode() + b"<w:sectPr"
        )

    assert await read(changed(word(), "word/document.xml", poisoned)) == "Hello"


async def test_reading_ends_when_its_time_is_over() -> None:
    with pytest.raises(Unreadable, match=r"timed out after 0\.01 s"):
        await read_document(endless_pdf(), PDF, "a.pdf", seconds=0.01)

    assert workers() == []


async def test_cancelling_ends_the_parser_at_once() -> None:
    reading = asyncio.create_task(read(endless_pdf(), "a.pdf"))
    async with asyncio.timeout(PATIENCE):
        while not workers():  # noqa: ASYNC110 - a process that starts wakes nobody
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    assert workers() == []


async def test_several_documents_are_read_at_the_same_time() -> None:
    texts = await asyncio.gather(*(read(pdf(f"Number {number}")) for number in range(4)))
    assert [f"Number {number}" in (text or "") for number, text in enumerate(texts)] == [True] * 4


def endless_pdf() -> bytes:
    return pdf_of([b"BT /F1 12 Tf 72 720 Td " + b"(word) Tj " * 3_000_000 + b"ET"] * 3, packed=True)


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return documents_worker.__name__ in process.cmdline()
    except psutil.NoSuchProcess:
        return False


# Bytes of any kind


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.binary(max_size=2000),
    st.sampled_from(["", "a.pdf", "a.docx", "a.txt", "a.png"]),
    st.sampled_from([b"", b"\xff\xfe", b"{\\rtf", b"MZ"]),
)
@example(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.doc", b"")
async def test_any_bytes_are_text_none_or_unreadable(data: bytes, name: str, start: bytes) -> None:
    with suppress(Unreadable):
        await read(start + data, name)


@settings(derandomize=True, deadline=None, max_examples=8)
@given(st.binary(min_size=1, max_size=2000), st.sampled_from([b"%PDF-1.7\n", b"PK\x03\x04[Content_Types].xml"]))
async def test_any_bytes_that_begin_like_a_document_are_unreadable(data: bytes, start: bytes) -> None:
    with pytest.raises(Unreadable):
        await read(start + data)


WHOLE = [pdf("Hello", "world"), word("Hello"), sheet(["Hello", 1]), show("Hello")]
INNER = [
    (WHOLE[1], "word/document.xml"),
    (WHOLE[2], "xl/worksheets/sheet1.xml"),
    (WHOLE[2], "xl/workbook.xml"),
    (WHOLE[3], "ppt/slides/slide1.xml"),
    (WHOLE[3], "ppt/_rels/presentation.xml.rels"),
]


def harmed(data: bytes, chance: random.Random, count: int) -> bytes:
    """Some bytes are changed, and a piece is doubled or missing."""
    harmed = bytearray(data)
    for _ in range(count):
        harmed[chance.randrange(len(harmed))] = chance.randrange(256)
    start = chance.randrange(len(harmed))
    piece = harmed[start : start + chance.randrange(100)]
    return bytes(harmed.replace(piece, piece * chance.randrange(3), 1))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.sampled_from(WHOLE), st.randoms(use_true_random=False), st.integers(0, 20))
def test_a_harmed_document_is_read_or_unreadable(data: bytes, chance: random.Random, count: int) -> None:
    with suppress(Unreadable):
        assert documents_worker.read(data[:4] + harmed(data[4:], chance, count)) != ""


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(INNER), st.randoms(use_true_random=False), st.integers(0, 3))
def test_a_document_with_a_harmed_part_is_read_or_unreadable(
    place: tuple[bytes, str], chance: random.Random, count: int
) -> None:
    data, member = place
    with suppress(Unreadable):
        assert documents_worker.read(changed(data, member, lambda xml: harmed(xml, chance, count))) != ""


# Excerpts


def test_a_short_text_is_its_own_excerpt() -> None:
    assert excerpt("a" * 20_000) == "a" * 20_000


def test_an_excerpt_is_cut_between_paragraphs_and_says_how_much_is_missing() -> None:
    text = "\n\n".join(f"Paragraph {number} with some words.\nAnd a second line." for number in range(100))
    head, note, tail = (
        excerpt(text, 1000).split("\n\n[…")[0],
        excerpt(text, 1000),
        excerpt(text, 1000).split("…]\n\n")[1],
    )

    assert text.startswith(head + "\n\n")
    assert text.endswith("\n\n" + tail)
    assert f"[… {len(text) - len(head) - len(tail):,} characters omitted …]" in note


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(alphabet="ab \n\té", min_size=150, max_size=2000), st.integers(100, 400))
def test_an_excerpt_is_the_beginning_and_the_end_and_never_too_long(text: str, limit: int) -> None:
    short = excerpt(text, limit)

    assert len(short) <= limit
    if short != text:
        head, _, rest = short.rpartition("\n\n[… ")
        count, _, tail = rest.partition(" characters omitted …]\n\n")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert int(count.replace(",", "")) == len(text) - len(head) - len(tail)
