"""Turns Strict Open XML (ISO/IEC 29500-1) into Transitional, the form that libraries read: other namespaces."""

from __future__ import annotations

import re
from io import BytesIO
from zipfile import ZipFile

_STRICT = b"http://purl.oclc.org/ooxml/"
_NAMESPACE = re.compile(rb"http://purl\.oclc\.org/ooxml/(\w+)/(\w+)((?:/\w+)*)")
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


def _transitional_name(found: re.Match[bytes]) -> bytes:
    group, name, rest = found[1], found[2], found[3]
    rest = b"".join(b"/" + _RENAMED.get(each, each) for each in rest.split(b"/") if each)
    return b"http://schemas.openxmlformats.org/%s/2006/%s%s" % (group, _RENAMED.get(name, name), rest)
