"""Rewrites office files into the form that libraries read.

Strict Open XML (ISO/IEC 29500-1) becomes Transitional: other namespaces. A file that programs have left with mistakes,
which Office reads all the same, loses what they are in.
"""

from __future__ import annotations

import re
from collections.abc import Container
from io import BytesIO
from posixpath import dirname, normpath
from zipfile import ZIP_DEFLATED, ZipFile

from agent.files.sections import xml

_STRICT = b"http://purl.oclc.org/ooxml/"
_NAMESPACE = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)((?:/\w+)*)")
STYLES = "xl/styles.xml"
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_NUMBER = re.compile(r"\d{1,9}")
_RENAMED = {b"extendedProperties": b"extended-properties", b"customProperties": b"custom-properties"}


def transitional(data: bytes) -> bytes:
    """The same file in Transitional form; the same bytes if it is not Strict."""
    with ZipFile(BytesIO(data)) as archive:
        # The relations of the package name every part's kind.
        if "_rels/.rels" not in archive.namelist() or _STRICT not in archive.read("_rels/.rels"):
            return data
        result = BytesIO()
        with ZipFile(result, "w") as rewritten:
            for part in archive.infolist():
                content = archive.read(part)
                if part.filename.endswith((".xml", ".rels")):
                    content = _NAMESPACE.sub(_transitional_name, content)
                rewritten.writestr(part.filename, content)
    return result.getvalue()


def repaired(data: bytes) -> bytes:
    """The same file without relations to parts that are not there, without what it says of itself (author, dates), and
    with no more of a workbook's styles than which cells are dates. Names of parts have slashes."""
    result = BytesIO()
    with ZipFile(BytesIO(data)) as archive, ZipFile(result, "w", ZIP_DEFLATED) as rewritten:
        named = {part.filename.replace("\\", "/").lstrip("/"): part for part in archive.infolist()}
        parts = {name: part for name, part in named.items() if not name.startswith("docProps/")}
        for name, part in parts.items():
            content = archive.read(part)
            if name.endswith(".rels"):
                content = _to_parts(content, dirname(dirname(name)), parts)
            elif name == STYLES:
                content = _formats(content)
            rewritten.writestr(name, content)
    return result.getvalue()


def _to_parts(relations: bytes, folder: str, parts: Container[str]) -> bytes:
    """The relations of a part in the folder, those to missing parts left out."""
    from lxml import etree  # type: ignore[import-untyped]  # the package has no types

    root = xml(relations)
    for relation in list(root):
        target = relation.get("Target", "")
        real = target[1:] if target.startswith("/") else normpath(f"{folder}/{target}").lstrip("/")
        if relation.get("TargetMode") != "External" and real not in parts:
            root.remove(relation)
    content: bytes = etree.tostring(root)
    return content


def _formats(styles: bytes) -> bytes:
    """The formats of numbers and which cells have them; none if the styles are broken."""
    from lxml import etree

    try:
        root = xml(styles)
    except etree.XMLSyntaxError:
        root = etree.Element("none")
    codes = {each.get("numFmtId", ""): each.get("formatCode", "") for each in root.iter(f"{{{_SHEETS}}}numFmt")}
    cells = [each.get("numFmtId", "") for group in root.iter(f"{{{_SHEETS}}}cellXfs") for each in group]
    made = etree.Element(f"{{{_SHEETS}}}styleSheet", nsmap={None: _SHEETS})
    formats = etree.SubElement(made, f"{{{_SHEETS}}}numFmts")
    for number, code in codes.items():
        if _NUMBER.fullmatch(number):
            etree.SubElement(formats, f"{{{_SHEETS}}}numFmt", numFmtId=number, formatCode=code)
    for path in ("fonts/font", "fills/fill/patternFill", "borders/border", "cellStyleXfs/xf"):
        place = made
        for tag in path.split("/"):
            place = etree.SubElement(place, f"{{{_SHEETS}}}{tag}")
    xfs = etree.SubElement(made, f"{{{_SHEETS}}}cellXfs")
    for number in cells or ["0"]:
        etree.SubElement(xfs, f"{{{_SHEETS}}}xf", numFmtId=number if _NUMBER.fullmatch(number) else "0")
    content: bytes = etree.tostring(made)
    return content


def _transitional_name(found: re.Match[bytes]) -> bytes:
    group, name, rest = found[1], found[2], found[3]
    rest = b"".join(b"/" + _RENAMED.get(each, each) for each in rest.split(b"/") if each)
    return b"http://schemas.openxmlformats.org/%s/2006/%s%s" % (group, _RENAMED.get(name, name), rest)
