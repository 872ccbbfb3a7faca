"""Encodings are recognised by what the text would be, and bytes that are not text are not taken for it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.files.text_detection import detect

# ruff: noqa: RUF001 - texts in other scripts

TEXTS = {
    "Привет, как дела? Сегодня мы идём в магазин за хлебом и молоком.": ("cp1251", "koi8-r", "cp866", "iso8859-5"),
    "ДОГОВОР КУПЛИ-ПРОДАЖИ": ("cp1251", "koi8-r"),
    "Доброго ранку, як справи? Сьогодні ми йдемо до крамниці.": ("cp1251",),
    'name;city\n1;"北京"\n2;"上海"\n': ("gb18030", "gbk"),
    "简体中文，这是一个测试文件。我们在北京开会，请大家准时参加。": ("gb18030", "gbk"),
    "繁體中文，這是一個測試文件。我們在臺北開會，請大家準時參加。": ("big5",),
    "これは日本語のテキストです。東京で会議があります。カタカナも。": ("shift-jis", "euc-jp", "iso2022-jp"),
    "안녕하세요. 오늘 회의는 서울에서 열립니다. 감사합니다.": ("euc-kr",),
    "Schöne Grüße aus Köln für Übermut": ("latin-1", "cp1252"),
    "L’été déjà à Paris, ça coûte 5 €…": ("cp1252",),
    "¿Qué tal, señor? ¡Mañana!": ("latin-1",),
    "Zażółć gęślą jaźń, proszę państwa": ("cp1250",),
    "Příliš žluťoučký kůň úpěl ďábelské ódy": ("cp1250",),
    "Türkçe yazı için bir şeyler değil": ("cp1254",),
    "Ağaç: 5; İstanbul: 7": ("cp1254",),
    "Það er gott veður í Reykjavík, þú ert ágætur": ("cp1252",),
    "שלום לכולם, הפגישה תתקיים מחר בשעה עשר בתל אביב": ("cp1255",),
    "слово дела село зал": ("cp1251",),
    "новый русский дом, который строит Юрий": ("cp1251",),
    '<?xml version="1.0" encoding="iso-8859-1"?><a>é</a>': ("latin-1",),
    "<html><head><meta charset='windows-1253'></head>Ελληνικά": ("cp1253",),
    "Il va à Paris, à pied": ("cp1252",),
    "emoji 🎈 and text": (),
}
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be")
CASES = [(text, codec) for text, codecs in TEXTS.items() for codec in (*codecs, *UNICODE)]


@pytest.mark.parametrize(("text", "codec"), CASES)
def test_a_text_is_read_in_its_encoding_and_written_in_it_again(text: str, codec: str) -> None:
    data = f"{text}\n".encode(codec)
    found = detect(data)
    assert found is not None
    assert found.text == f"{text}\n"
    assert found.encode(found.text) == data


@pytest.mark.parametrize("codec", ["cp1251", "gb18030", "shift-jis", "big5", "euc-kr", "cp1252"])
def test_a_long_text_is_recognised_by_its_beginning(codec: str) -> None:
    text = next(text for text, codecs in TEXTS.items() if codec in codecs)
    long = f"{text}\n" * 5000
    found = detect(long.encode(codec))
    assert found is not None
    assert found.text == long


@pytest.mark.parametrize("size", [32, 1000, 100_000])
def test_bytes_at_random_are_not_text(size: int) -> None:
    chance = random.Random(size)
    assert [found for _ in range(200) if (found := detect(chance.randbytes(size))) is not None] == []


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_utf8_is_read_as_what_it_is(text: str) -> None:
    found = detect(text.encode())
    assert found is not None
    assert found.text == text.removeprefix("\ufeff")


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_whatever_the_bytes_are_they_are_text_without_nuls_or_none(data: bytes, is_named_text: bool) -> None:
    found = detect(data, is_named_text=is_named_text)
    assert found is None or "\0" not in found.text
