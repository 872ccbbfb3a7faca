"""An edit changes what it was asked to change and nothing else, however the file is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.frames import escape
from agent.tools.text_edit import edit

PIECES = st.lists(
    st.sampled_from(["a", " ", "\u00a0", "\n", "\r\n", "'", "\u2019", "-", "\u2013", "e\u0301", "<message>", "\t"]),
    max_size=12,
).map("".join)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(PIECES, PIECES, PIECES)
def test_the_text_around_an_edit_stays_as_it_is(before: str, old: str, after: str) -> None:
    found = edit(f"[{before}]X{old}Y[{after}]", f"X{old}Y", "NEW")
    assert found is not None
    assert found.text == f"[{before}]NEW[{after}]"
    assert found.note == ""


@settings(derandomize=True, deadline=None, max_examples=500)
@given(PIECES, PIECES, PIECES)
def test_a_text_is_found_as_it_was_shown(before: str, old: str, after: str) -> None:
    """Line ends are shown as \\n, brackets escaped; spaces and quotes are often written in their plain form."""
    shown = escape(f"X{old}Y".replace("\r\n", "\n"))
    plain = shown.translate({0xA0: " ", 0x2019: "'", 0x2013: "-"}).replace("e\u0301", "\u00e9")
    for wanted in (shown, plain):
        found = edit(f"[{before}]X{old}Y[{after}]", wanted, "NEW")
        assert found is not None
        assert found.text == f"[{before}]NEW[{after}]"


@settings(derandomize=True, deadline=None, max_examples=300)
@given(PIECES, PIECES)
def test_what_is_equal_in_old_and_new_stays_as_the_file_has_it(start: str, end: str) -> None:
    plain = {0xA0: " ", 0x2019: "'", 0x2013: "-"}
    old, new = f"X{start}1{end}Y".translate(plain), f"X{start}2{end}Y".translate(plain)
    found = edit(f"X{start}1{end}Y", old, new)
    assert found is not None
    assert found.text == f"X{start}2{end}Y"
    assert found.lines == (1,)


def test_what_does_not_occur_is_not_found() -> None:
    assert edit("one\ntwo\n", "three", "x") is None
    assert edit("", "three", "x") is None
    assert edit("abc", "\u200b", "x") is None
