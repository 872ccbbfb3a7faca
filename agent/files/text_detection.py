"""Finds the encoding of text that does not name it: byte order marks, UTF-8, UTF-16, and what computers used before.

Older encodings are recognised by what the text would be: Japanese has kana, Korean and Chinese have their common
characters, Russian its common letters. Text that is none of these has no known encoding.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import filetype  # type: ignore[import-untyped]  # the package has no types

from agent.files.encodings import codec_of, declared

_SAMPLE = 65_536
"""Bytes by which an older encoding is recognised."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark is the beginning of it.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_CONTROLS = bytes(sorted({*range(32), 127} - set(b"\0\t\n\r\f\x1b")))
_MAX_CONTROLS = 0.01
"""Share of control characters in text, as in logs of terminals."""

_MAX_NULS = 0.1
"""Share of NULs in text, unless the file's name says that it is text: a log that was cut while it was written begins
with many of them."""

_CYRILLIC = ("cp1251", "koi8-r", "cp866", "iso8859-5")
_COMMON_LETTERS = frozenset("оеаинтсрвлОЕАИНТСРВЛ")
_COMMON_CHARACTERS = frozenset(
    "的一是不了在人有我他这這为為大来來以个個中上们們到说說国國和地也子时時道要就下可你年生会會那后後能对對着著事里裡所去行过過家"
    "十用发發天如然方成者多日都三小二无無同经經法当當起与與好看学學文本字"
)
_COMMON_SYLLABLES = frozenset("이다의는을를가에서하고지한로은기도니사시아어세요해")
_INNER_MARKS = frozenset("\N{RIGHT SINGLE QUOTATION MARK}\N{EN DASH}\N{EM DASH}\N{MIDDLE DOT}\N{SOFT HYPHEN}")
"""What stands between the letters of Western words."""

_ONLY_TURKISH = frozenset("ğışĞİŞ")
_TURKISH = _ONLY_TURKISH | frozenset("çöüâîûÇÖÜÂÎÛ")
_HEBREW = re.compile("[\u05d0-\u05ea]+")
_FINAL_LETTERS = frozenset("\u05da\u05dd\u05df\u05e3\u05e5")
_COMMON_HEBREW = frozenset("\u05d9\u05e8\u05e9\u05ea")

_MIN_LETTERS = 8
"""Of a Hebrew text."""

_MIN_WORD = 3
"""Letters of the longest word of a Cyrillic text: a single one may be a French à."""

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text and how it was encoded; `mark` is its byte order mark."""

    text: str
    codec: str
    mark: bytes = b""

    def encode(self, text: str) -> bytes:
        """Another text in the same encoding. Raises `UnicodeEncodeError`."""
        return self.mark + text.encode(self.codec)


def detect(data: bytes, *, is_named_text: bool = False) -> Decoded | None:
    """The text; None for bytes that are not text, or in an unknown encoding. `is_named_text`: the name says it is."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], codec, mark)
    if b"\0" in data or _controls(data):
        return _utf16(data) or _with_controls(data, is_named_text)
    if b"\x1b$" in data and (found := _strict(data, "iso2022-jp")) is not None:
        return found
    # Text may start like a binary file ("BMW", "MZ"), but binary files are practically never valid UTF-8.
    if (found := _strict(data, "utf-8")) is not None:
        return found
    if filetype.guess(data[:8192]) is not None:
        return None
    named = codec_of(declared(data))
    return (_strict(data, named) if named is not None else None) or _mostly_utf8(data) or _legacy(data)


def _strict(data: bytes, codec: str, mark: bytes = b"") -> Decoded | None:
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else Decoded(text, codec, mark)


def _controls(data: bytes) -> int:
    return len(data) - len(data.translate(None, _CONTROLS))


def _utf16(data: bytes) -> Decoded | None:
    """UTF-16 without a byte order mark: every character must be one of a script in use, which other bytes are not."""
    for codec in ("utf-16-le", "utf-16-be"):
        found = _strict(data, codec)
        if found is not None and len(found.text) >= 4:
            sample = found.text[:_SAMPLE]
            # Spaces, digits or line ends are in every text.
            if (
                any(map(str.isascii, sample))
                and all(map(_is_written, sample))
                and _share(map(_is_in_use, sample)) >= 0.9
            ):
                return found
    return None


def _is_written(char: str) -> bool:
    return char in "\t\n\r\f" or unicodedata.category(char) not in ("Cc", "Cn", "Co", "Cs")


def _is_in_use(char: str) -> bool:
    """Whether it is Latin, Greek, Cyrillic, Hebrew, Arabic, Thai, Japanese, Chinese, Korean or an emoji."""
    return (
        char < "\u0700"
        or "\u0e00" <= char < "\u0e80"
        or "\u2000" <= char < "\u2700"
        or "\u3000" <= char < "\u3100"
        or "\u4e00" <= char < "\ua000"
        or "\uac00" <= char < "\ud7a4"
        or "\uff00" <= char < "\uffe7"
        or char > "\uffff"
    )


def _with_controls(data: bytes, is_named_text: bool) -> Decoded | None:
    """Text with some NULs or control characters, which are left out, as in logs."""
    nuls = data.count(0)
    # Programs and archives may consist of little else, and their beginning tells.
    if filetype.guess(data[:8192]) is not None or not (is_named_text or nuls <= _MAX_NULS * len(data)):
        return None
    text = data.translate(None, b"\0")
    if not text or _controls(text) > _MAX_CONTROLS * len(text):
        return None
    return _strict(text.translate(None, _CONTROLS), "utf-8") or _mostly_utf8(text.translate(None, _CONTROLS))


def _mostly_utf8(data: bytes) -> Decoded | None:
    """UTF-8 with some invalid bytes, as in logs: most of the non-ASCII characters must be valid."""
    text = data.decode("utf-8", errors="replace")
    invalid = text.count("\N{REPLACEMENT CHARACTER}")
    valid = len(text) - invalid - len(text.encode("ascii", errors="ignore"))
    return Decoded(text, "utf-8") if valid > 4 * invalid else None


def _legacy(data: bytes) -> Decoded | None:
    sample = data[:_SAMPLE]
    found = _japanese(sample) or _korean(sample) or _hebrew(sample)
    found = found or _cyrillic(sample) or _chinese(sample) or _latin(sample)
    if found is None:
        return None
    return _strict(data, found) or Decoded(data.decode(found, errors="replace"), found)


def _decoded(sample: bytes, codec: str) -> str | None:
    """The sample, whose last character may be cut."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(sample, final=False)
    except UnicodeDecodeError:
        return None


def _japanese(sample: bytes) -> str | None:
    for codec in ("cp932", "euc-jp"):
        others = _not_ascii(_decoded(sample, codec))
        # Bytes of other encodings are often half-width kana in Shift-JIS; text rarely has them.
        if _share("\u3040" <= each < "\u3100" for each in others) >= 0.15 and _share(map(_is_cjk, others)) >= 0.95:
            return codec
    return None


def _korean(sample: bytes) -> str | None:
    others = _not_ascii(_decoded(sample, "cp949"))
    is_korean = _share("\uac00" <= each < "\ud7a4" for each in others) >= 0.9
    return "cp949" if is_korean and _share(each in _COMMON_SYLLABLES for each in others) >= 0.15 else None


def _hebrew(sample: bytes) -> str | None:
    """Its final letters end words only, and its most common letters are rare ones of Russian."""
    words = [word for word in _WORD.findall(_decoded(sample, "cp1255") or "") if not word.isascii()]
    letters = "".join(words)
    fits = all(_HEBREW.fullmatch(word) is not None and _FINAL_LETTERS.isdisjoint(word[:-1]) for word in words)
    is_hebrew = fits and len(letters) >= _MIN_LETTERS
    return "cp1255" if is_hebrew and _share(each in _COMMON_HEBREW for each in letters) >= 0.12 else None


def _cyrillic(sample: bytes) -> str | None:
    scores = {codec: _cyrillic_score(_decoded(sample, codec) or "") for codec in _CYRILLIC}
    best = max(scores, key=lambda codec: scores[codec])
    return best if scores[best] >= 0.45 else None


def _cyrillic_score(text: str) -> float:
    """The share of the most common letters; 0 for what looks like no words."""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    letters = "".join(words)
    pure = _share(all("\u0400" <= each < "\u0500" for each in word) for word in words)
    cased = _share(word.islower() or word.isupper() or word.istitle() for word in words)
    if (
        max(map(len, words), default=0) < _MIN_WORD
        or pure < 0.9
        or cased < 0.9
        or len(letters) < 0.85 * len(_not_ascii(text))
    ):
        return 0.0
    return _share(each in _COMMON_LETTERS for each in letters)


def _chinese(sample: bytes) -> str | None:
    """The one with more common characters, if most are among those that every text uses."""
    simplified = _chinese_score(_decoded(sample, "gb18030"), "gb2312", 0xB0, 0xD7)
    traditional = _chinese_score(_decoded(sample, "big5hkscs"), "big5", 0xA4, 0xC6)
    if not (simplified or traditional):
        return None
    return "gb18030" if simplified >= traditional else "big5hkscs"


def _chinese_score(text: str | None, codec: str, first: int, last: int) -> float:
    """The share of common characters. In both encodings those in use come first (level 1)."""
    others = _not_ascii(text)
    han = [each for each in others if "\u3400" <= each < "\ua000"]
    level_one = _share(first <= each.encode(codec, "ignore")[:1].ljust(1)[0] <= last for each in han)
    if _share(map(_is_cjk, others)) < 0.95 or level_one < 0.85:
        return 0.0
    return 0.01 + _share(each in _COMMON_CHARACTERS for each in han)


def _latin(sample: bytes) -> str | None:
    """A Western or Central European encoding, if most of it is ASCII. Windows' encodings have Latin-1's characters."""
    if len(sample.decode("ascii", errors="ignore")) < 0.5 * len(sample):
        return None
    scores = {codec: _latin_score(_decoded(sample, codec)) for codec in ("cp1252", "cp1250")}
    best = max(scores, key=lambda codec: scores[codec])
    if scores[best] < 0.7:
        return None
    others = {each for each in _not_ascii(_decoded(sample, "cp1254")) if each.isalpha()}
    return "cp1254" if others <= _TURKISH and others & _ONLY_TURKISH else best


def _latin_score(text: str | None) -> float:
    """The share of letters and punctuation that could stand where they do; signs like ¿ and ³ do not within words."""
    if not text:
        return 0.0
    fits = 0
    others = [place for place, each in enumerate(text) if not each.isascii()]
    for place in others:
        before, here, after = text[place - 1 : place], text[place], text[place + 1 : place + 2]
        if here.isalpha():
            # A capital within a word of small letters is a small letter of another encoding.
            fits += not (here.isupper() and before.islower() and after.islower()) and here not in "ªºµ"
        else:
            fits += not (before.isalpha() and after.isalpha()) or here in _INNER_MARKS
    return fits / len(others) if others else 1.0


def _not_ascii(text: str | None) -> list[str]:
    return [each for each in text or "" if not each.isascii()]


def _is_cjk(char: str) -> bool:
    return (
        "\u3000" <= char < "\u3100"
        or "\u3400" <= char < "\ua000"
        or "\uff01" <= char < "\uff61"
        or unicodedata.category(char)[0] in "PSN"
    )


def _share(truths: Iterable[bool]) -> float:
    """0 if there are none."""
    total = fitting = 0
    for truth in truths:
        total += 1
        fitting += truth
    return fitting / total if total else 0.0
