"""Makes files as people send them: documents of several programs, old encodings, pictures of cameras and browsers.

`python -m tests.files.make FOLDER` writes them into a folder, to be opened with other programs.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from email.message import EmailMessage
from functools import cache
from pathlib import Path

import docx
import openpyxl
import pptx
from docx.opc.packuri import PackURI as WordPackURI
from docx.opc.part import Part as WordPart
from docx.oxml import parse_xml as parse_word
from openpyxl.comments import Comment
from PIL import Image, ImageDraw
from pptx.opc.package import Part as SlidePart
from pptx.opc.packuri import PackURI as SlidePackURI
from pptx.oxml import parse_xml as parse_slide

from tests.agent.test_documents import pdf, saved, sheet, show, word

DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DIAGRAM_TYPE = "application/vnd.openxmlformats-officedocument.drawingml.diagramData+xml"

RUSSIAN = "Имя;Город\nАнна;Москва\nПетр;Новосибирск\n"  # noqa: RUF001 - Cyrillic
CHINESE = "姓名，城市\n我们在北京开会，请大家准时参加。\n"  # noqa: RUF001 - Chinese
TRADITIONAL = "繁體中文，這是一個測試文件。我們在臺北開會，請大家準時參加。\n"  # noqa: RUF001 - Chinese
JAPANESE = "議事録\n会議は東京で行います。よろしくお願いします。\n"
KOREAN = "안녕하세요. 오늘 회의는 서울에서 열립니다. 감사합니다.\n"
GERMAN = "Müller;Köln;5 €\nGroß;Düsseldorf;7 €\n"
POLISH = "Zażółć gęślą jaźń, proszę państwa.\n"


def long_report() -> bytes:
    """Sixty pages, with something to find in the middle."""
    filler = " ".join(["the quarterly figures were discussed at length"] * 60)
    return pdf(*(f"Page {number}. {'The secret is 4711. ' if number == 31 else ''}{filler}" for number in range(1, 61)))


def strict(data: bytes) -> bytes:
    """The file in Strict Open XML, as Office saves it when asked to."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            content = old.read(info)
            for group in (b"wordprocessingml", b"spreadsheetml", b"presentationml", b"drawingml", b"officeDocument"):
                content = content.replace(
                    b"http://schemas.openxmlformats.org/%s/2006/" % group, b"http://purl.oclc.org/ooxml/%s/" % group
                )
            content = content.replace(b"relationships/extended-properties", b"relationships/extendedProperties")
            new.writestr(info.filename, content)
    return result.getvalue()


def diagram(*texts: str) -> bytes:
    points = "".join(
        f'<dgm:pt modelId="{number}"><dgm:t><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></dgm:t></dgm:pt>'
        for number, text in enumerate(texts)
    )
    return (
        f'<dgm:dataModel xmlns:dgm="{DIAGRAM}" xmlns:a="{DRAWING}"><dgm:ptLst>{points}</dgm:ptLst></dgm:dataModel>'
    ).encode()


def graphic(relation: str) -> str:
    return (
        f'<a:graphic xmlns:a="{DRAWING}"><a:graphicData uri="{DIAGRAM}">'
        f'<dgm:relIds xmlns:dgm="{DIAGRAM}" xmlns:r="{RELATIONSHIPS}" r:dm="{relation}"/></a:graphicData></a:graphic>'
    )


def word_with_smartart() -> bytes:
    document = docx.Document()
    document.add_paragraph("Before the diagram")
    part = WordPart(
        WordPackURI("/word/diagrams/data1.xml"), DIAGRAM_TYPE, diagram("Plan", "Build"), document.part.package
    )
    relation = document.part.relate_to(part, f"{RELATIONSHIPS}/diagramData")
    namespaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    )
    inline = f"<wp:inline>{graphic(relation)}</wp:inline>"
    drawing = f"<w:p {namespaces}><w:r><w:drawing>{inline}</w:drawing></w:r></w:p>"
    document.element.body.insert(-1, parse_word(drawing))
    return saved(document.save)


def slides_with_smartart() -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Process"
    uri = SlidePackURI("/ppt/diagrams/data1.xml")
    part = SlidePart(uri, DIAGRAM_TYPE, presentation.part.package, diagram("Plan", "Build"))
    relation = slide.part.relate_to(part, f"{RELATIONSHIPS}/diagramData")
    frame = (
        f'<p:graphicFrame xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" xmlns:a="{DRAWING}">'
        '<p:nvGraphicFramePr><p:cNvPr id="9" name="Diagram"/><p:cNvGraphicFramePr/><p:nvPr/></p:nvGraphicFramePr>'
        '<p:xfrm><a:off x="0" y="0"/><a:ext cx="9" cy="9"/></p:xfrm>'
        f"{graphic(relation)}</p:graphicFrame>"
    )
    slide.shapes._spTree.append(parse_slide(frame))
    slide.notes_slide.notes_text_frame.text = "Speak slowly"
    return saved(presentation.save)


def workbook_with_notes() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Sales"
    book.active.append(["day", 7])
    book.active["B1"].comment = Comment("Is this right?", "Ann")
    book.create_sheet("Other").append(["x"])
    return saved(book.save)


def mail() -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "Zoë <zoe@example.org>", "ann@example.org"
    message["Subject"], message["Date"] = "Grüße, 你好", "Mon, 02 Feb 2026 10:00:00 +0100"
    message.set_content("Schöne Grüße\n\nanbei der Bericht.\n", cte="quoted-printable")
    message.add_alternative("<p>Schöne <b>Grüße</b></p>", subtype="html")
    message.add_attachment(pdf("The figures"), maintype="application", subtype="pdf", filename="bericht März.pdf")
    message.add_attachment("a;b\n1;2\n", filename="data.csv")
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "bob@example.org", "Inner"
    inner.set_content("The inner words")
    message.add_attachment(inner)
    return message.as_bytes()


def changed(data: bytes, change: Callable[[str, bytes], tuple[str, bytes]]) -> bytes:
    """The archive with each member as `change` makes it."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for info in old.infolist():
            new.writestr(*change(info.filename, old.read(info)))
    return result.getvalue()


def word_with_lost_picture() -> bytes:
    """Programs that take pictures out leave the relation to them."""
    lost = f'<Relationship Id="rId99" Type="{RELATIONSHIPS}/image" Target="NULL"/></Relationships>'.encode()
    return changed(
        word("Words beside a lost picture"),
        lambda name, data: (name, data.replace(b"</Relationships>", lost) if "document.xml.rels" in name else data),
    )


def workbook_of_a_program() -> bytes:
    """With fills that are empty and a date that is none, as programs write that are not Office."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["due", date(2026, 3, 4)])

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if name == "xl/styles.xml":
            data = re.sub(rb"<fills.*?</fills>", b'<fills count="1"><fill/></fills>', data, flags=re.DOTALL)
        elif name == "docProps/core.xml":
            data = re.sub(rb"\d{4}-\d\d-\d\dT", b"0000-00-00T", data)
        return name, data

    return changed(saved(book.save), change)


def workbook_of_windows() -> bytes:
    return changed(sheet(["Cell of Windows", 7]), lambda name, data: (name.replace("/", "\\"), data))


def mail_of(kind: str, *body: str) -> bytes:
    return "\n".join(
        ["From: ann@example.org", "To: bob@example.org", "MIME-Version: 1.0", f"Content-Type: {kind}", "", *body]
    ).encode()


def invitation() -> bytes:
    return mail_of("text/calendar; method=REQUEST; charset=utf-8", "BEGIN:VCALENDAR", "SUMMARY:Launch", "END:VCALENDAR")


def mail_with_empty_text() -> bytes:
    """The words are in the page only, as some programs send it."""
    return mail_of(
        "multipart/alternative; boundary=B",
        *("--B", "Content-Type: text/plain; charset=utf-8", "", " "),
        *("--B", "Content-Type: text/html; charset=utf-8", "", "<p>Only in the page</p>", "--B--"),
    )


def signed_mail() -> bytes:
    return mail_of(
        "multipart/signed; protocol=application/pgp-signature; boundary=A",
        *("--A", "Content-Type: multipart/mixed; boundary=B", ""),
        *("--B", "Content-Type: text/plain; charset=utf-8", "", "Signed words"),
        *("--B", "Content-Type: text/csv; name=a.csv", "Content-Disposition: attachment; filename=a.csv", "", "a;b"),
        *("--B--", "--A", "Content-Type: application/pgp-signature; name=signature.asc", "", "xx", "--A--"),
    )


def bounce() -> bytes:
    return mail_of(
        "multipart/report; report-type=delivery-status; boundary=A",
        *("--A", "Content-Type: text/plain; charset=utf-8", "", "It could not be delivered."),
        *("--A", "Content-Type: message/delivery-status", "", "Reporting-MTA: dns; example.org", ""),
        *("Final-Recipient: rfc822; bob@example.org", "Status: 5.1.1", "--A--"),
    )


def latin_mail() -> bytes:
    """The headers do not say in which encoding they are."""
    text = "From: Jürgen Müller <j@example.org>\nTo: ann@example.org\nSubject: Grüße aus Köln\n\nSchöne Grüße"
    return text.encode("cp1252")


def old_mail() -> bytes:
    body = base64.encodebytes("Привет, Анна! Договор готов.".encode("koi8-r"))
    return (
        b"From: =?koi8-r?B?8MXU0g==?= <p@example.org>\r\nSubject: =?koi8-r?B?5M/Hz9fP0g==?=\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    )


def html_mail() -> bytes:
    return (
        b"From: shop@example.org\nSubject: Order\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n"
        b"<html><head><style>p{}</style></head><body><p>Your order <b>7</b></p></body></html>"
    )


def notebook() -> bytes:
    code = {
        "cell_type": "code",
        "source": ["plot(sales)\n", "print('done')"],
        "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["\x1b[32mdone\x1b[0m\n"]},
            {
                "output_type": "display_data",
                "data": {"image/png": base64.b64encode(plot()).decode(), "text/plain": "x"},
            },
            {"output_type": "error", "ename": "ValueError", "evalue": "bad value", "traceback": []},
        ],
    }
    text = {"cell_type": "markdown", "source": ["# Sales\n", "by month"]}
    info = {"metadata": {"language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps({"cells": [text, code], **info}).encode()


def plot() -> bytes:
    return picture("PNG", (320, 200))


def picture(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    """Stripes from dark on the left to light on the right."""
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    for step in range(16):
        left, right = size[0] * step // 16, size[0] * (step + 1) // 16
        draw.rectangle((left, 0, right, size[1]), fill=step * 17)
    return saved(lambda file: image.convert(mode).save(file, kind, **options))


def photo() -> bytes:
    """More than 6 MB, as of a good camera."""
    noise = Image.frombytes("RGB", (4000, 3000), random.Random(1).randbytes(4000 * 3000 * 3))
    return saved(lambda file: noise.save(file, "JPEG", quality=75))


def rotated() -> bytes:
    """Lies on its side; EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture("JPEG", (300, 200), exif=exif)


def sixteen_bit() -> bytes:
    values = b"".join((column * 200).to_bytes(2, "little") for _ in range(100) for column in range(320))
    return saved(lambda file: Image.frombytes("I;16", (320, 100), values).save(file, "PNG"))


def animated() -> bytes:
    frames = [Image.new("RGB", (100, 80), color) for color in ("red", "green", "blue")]
    return saved(lambda file: frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100))


def fax() -> bytes:
    pages = [Image.new("L", (100, 140), color) for color in (255, 128, 0)]
    return saved(lambda file: pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:]))


def log_with_nuls() -> bytes:
    """A log that was cut to nothing while a program went on writing at its old place."""
    return bytes(4000) + b"".join(b"2026-01-02 line %d\n" % number for number in range(100))


def archive(**members: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return data.getvalue()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
OUTLOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)

MAKERS: dict[str, Callable[[], bytes]] = {
    "report.pdf": long_report,
    "strict.docx": lambda: strict(word("Strict words")),
    "strict.xlsx": lambda: strict(sheet(["Strict cell", 7])),
    "strict.pptx": lambda: strict(show("Strict slide")),
    "smartart.docx": word_with_smartart,
    "smartart.pptx": slides_with_smartart,
    "notes.xlsx": workbook_with_notes,
    "mail.eml": mail,
    "old mail.eml": old_mail,
    "html mail.eml": html_mail,
    "lost picture.docx": word_with_lost_picture,
    "program.xlsx": workbook_of_a_program,
    "windows.xlsx": workbook_of_windows,
    "invitation.eml": invitation,
    "empty text.eml": mail_with_empty_text,
    "signed.eml": signed_mail,
    "bounce.eml": bounce,
    "latin.eml": latin_mail,
    "marked.eml": lambda: b"\xef\xbb\xbf" + html_mail(),
    "sales.ipynb": notebook,
    "server.log": log_with_nuls,
    "people.csv": lambda: RUSSIAN.encode("cp1251"),
    "people koi8.txt": lambda: RUSSIAN.encode("koi8-r"),
    "people dos.txt": lambda: RUSSIAN.encode("cp866"),
    "meeting.txt": lambda: CHINESE.encode("gb18030"),
    "taipei.txt": lambda: TRADITIONAL.encode("big5"),
    "minutes.txt": lambda: JAPANESE.encode("shift-jis"),
    "minutes unix.txt": lambda: JAPANESE.encode("euc-jp"),
    "seoul.txt": lambda: KOREAN.encode("euc-kr"),
    "kunden.csv": lambda: GERMAN.encode("cp1252"),
    "polski.txt": lambda: POLISH.encode("cp1250"),
    "notepad.txt": lambda: RUSSIAN.encode("utf-16-le"),
    "unicode.txt": lambda: JAPANESE.encode("utf-16-be"),
    "wide.png": lambda: picture("PNG", (9000, 60)),
    "photo.jpg": photo,
    "rotated.jpg": rotated,
    "cut short.jpg": lambda: picture("JPEG", (1200, 900), quality=95)[:9000],
    "print.jpg": lambda: picture("JPEG", (300, 200), "CMYK"),
    "scan.png": sixteen_bit,
    "animated.gif": animated,
    "web.avif": lambda: picture("AVIF", (300, 200)),
    "web.webp": lambda: picture("WEBP", (300, 200)),
    "bad exif.webp": lambda: picture("WEBP", (300, 200), exif=b"Exif\0\0garbage"),
    "fax.tiff": fax,
    "scan.tiff": lambda: picture("TIFF", (300, 200)),
    "old.bmp": lambda: picture("BMP", (300, 200)),
    "phone.heic": lambda: HEIC,
    "broken.jpg": lambda: b"\xff\xd8\xff\xe0" + bytes(100),
    "letter.msg": lambda: OUTLOOK,
    "text.pages": lambda: archive(Index="x"),
}


@cache
def made(name: str) -> bytes:
    return MAKERS[name]()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in MAKERS:
        (folder / name).write_bytes(made(name))


if __name__ == "__main__":
    main()
