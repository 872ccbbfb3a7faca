"""Markdown into a tree and into messages: nothing raises, nothing is too long, no word is lost."""

import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.markdown import (
    Block,
    Code,
    Heading,
    Item,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Span,
    Table,
    aligned,
    columns,
    parse,
    plain,
    split,
)

FENCE = "```"


def text_of(block: Block) -> str:
    match block:
        case Paragraph(spans) | Heading(spans):
            return plain(spans)
        case Code(text, language):
            return f"{language}\n{text}"
        case Quote(blocks):
            return texts_of(blocks)
        case Listing(items):
            return "\n".join(f"{item.marker} {texts_of(item.blocks)}" for item in items)
        case Table():
            return aligned(block)
        case Rule():
            return ""


def texts_of(blocks: Iterable[Block]) -> str:
    return "\n".join(map(text_of, blocks))


def size(block: Block) -> int:
    return len(text_of(block))


def letters(text: str) -> str:
    return "".join(re.findall(r"[a-z]", text))


def test_text_keeps_its_styles_and_line_breaks() -> None:
    [paragraph] = parse("plain **bold *both***\n~~gone~~ `a*b` [site](https://example.org/ü)")
    assert paragraph == Paragraph(
        (
            Span("plain "),
            Span("bold ", bold=True),
            Span("both", bold=True, italic=True),
            Span("\n"),
            Span("gone", strike=True),
            Span(" "),
            Span("a*b", code=True),
            Span(" "),
            Span("site", url="https://example.org/ü"),
        )
    )


def test_lists_keep_their_numbers_and_nesting() -> None:
    [listing] = parse("3. three\n7. seven\n   - inner")
    inner = Listing((Item("•", (Paragraph((Span("inner"),)),)),))
    three, seven = Paragraph((Span("three"),)), Paragraph((Span("seven"),))
    assert listing == Listing((Item("3.", (three,)), Item("7.", (seven, inner))))


def test_a_list_numbered_with_ones_counts() -> None:
    [listing] = parse("1. a\n1. b")
    assert isinstance(listing, Listing)
    assert [item.marker for item in listing.items] == ["1.", "2."]


@pytest.mark.parametrize(
    "markdown",
    [
        pytest.param(f"{FENCE}python\nx = 1", id="an unclosed fence"),
        pytest.param("<script>alert(1)</script>", id="raw HTML"),
        pytest.param("@everyone <!channel> <@U1>", id="mentions of other platforms"),
        pytest.param("[ref]: https://example.org 'title'", id="a link definition"),
        pytest.param("[text](https://example.org 'the title')", id="a link with a title"),
        pytest.param("![alt](https://example.org/a.png 'title')", id="a picture"),
        pytest.param("[x](javascript:alert(1)) [y](data:text/html,hi)", id="addresses that are no links"),
        pytest.param("|a|b|\n|-|-|\n|one|two|three|", id="a row with too many cells"),
        pytest.param("|a|b|\n|-|-|\n|one|", id="a row with too few cells"),
        pytest.param("~~~some words after it\ncode\n~~~", id="a fence with words after it"),
        pytest.param(">" * 100 + " deep", id="deep quotes"),
        pytest.param("- " * 100 + "deep", id="deep lists"),
        pytest.param("[" * 500 + "deep", id="deep brackets"),
        pytest.param("**a *b** c*", id="styles that cross"),
        pytest.param("\\*not bold\\* &lt;", id="escapes"),
        pytest.param("lone \ud83d surrogate \x00 null", id="characters that are none"),
        pytest.param("word" * 1250, id="a word of 5000 letters"),
        pytest.param("# \n\n- \n\n> ", id="empty blocks"),
    ],
)
def test_no_word_of_nasty_markdown_is_lost(markdown: str) -> None:
    shown = letters(texts_of(parse(markdown)))
    expected = letters(re.sub(r"&\w+;", "", markdown))
    assert all(letter in shown for letter in set(expected))
    assert len(shown) >= len(expected)
    messages = split(parse(markdown), 300, size)
    assert letters("".join(map(texts_of, messages))).startswith(shown[:250])


def test_an_address_that_is_no_web_address_is_no_link() -> None:
    [paragraph] = parse("[x](javascript:alert)")
    assert paragraph == Paragraph((Span("[x](javascript:alert)"),))


def test_tables_are_aligned_by_the_width_of_their_characters() -> None:
    [table] = parse("| a | long head |\n|---|---|\n| 日本 | x |\n| e | [l](https://e.org) |")
    assert isinstance(table, Table)
    head, rule, *rows = aligned(table).splitlines()
    assert head.startswith("a    │ long head")
    assert rule.startswith("──── │ ─────────")
    assert [columns(row.split("│")[0]) for row in rows] == [5, 5]
    assert "l (https://e.org)" in rows[1]


def test_messages_end_between_blocks_and_a_heading_stays_with_its_text() -> None:
    markdown = f"{'a ' * 30}\n\n# Head\n\n{'b ' * 45}"
    first, second = split(parse(markdown), 100, size)
    assert [block.kind for block in first] == ["paragraph"]
    assert [block.kind for block in second] == ["heading", "paragraph"]


def test_a_code_block_that_fits_a_message_is_kept_whole() -> None:
    code = "\n".join(f"line {n}" for n in range(10))
    messages = split(parse(f"{'a ' * 20}\n\n{FENCE}py\n{code}\n{FENCE}"), 100, size)
    assert messages[1] == (Code(code, "py"),)


def test_a_long_code_block_is_cut_between_lines_and_keeps_its_language() -> None:
    lines = [f"line {n}" for n in range(100)]
    blocks = [block for message in split(parse(f"{FENCE}py\n" + "\n".join(lines)), 200, size) for block in message]
    assert all(isinstance(block, Code) and block.language == "py" for block in blocks)
    assert [line for block in blocks if isinstance(block, Code) for line in block.text.split("\n")] == lines


def test_a_long_table_is_cut_between_rows_under_its_head() -> None:
    rows = "\n".join(f"| {n} | value |" for n in range(50))
    blocks = [block for message in split(parse(f"| n | v |\n|---|---|\n{rows}"), 200, size) for block in message]
    assert len(blocks) > 1
    assert all(isinstance(block, Table) and plain(block.head[0]) == "n" for block in blocks)


def test_a_long_list_is_cut_between_items_and_numbers_go_on() -> None:
    messages = split(parse("\n".join(f"{n}. {'word ' * 8}" for n in range(1, 30))), 200, size)
    markers = [
        item.marker for message in messages for block in message if isinstance(block, Listing) for item in block.items
    ]
    assert markers == [f"{n}." for n in range(1, 30)]


def test_letters_drawn_as_one_are_not_torn_apart() -> None:
    family = "👩\u200d👩\u200d👧"
    [message, *_] = split(parse(family * 40), 98, size)
    assert set(text_of(message[0]).split(family)) == {""}


def test_finished_messages_stay_the_same_while_a_text_grows() -> None:
    markdown = "\n\n".join(f"Paragraph {n}: {'word ' * 20}" for n in range(20))
    before: list[tuple[Block, ...]] = []
    for end in range(0, len(markdown), 37):
        now = split(parse(markdown[:end]), 400, size)
        assert now[: len(before) - 1] == before[:-1] or not before
        before = now


MARKUP = [
    *("**", "*", "_", "~~", "`", f"\n{FENCE}", "\n", "\n\n", "> ", "- ", "1. ", "# ", "[", "](", ")", "<", ">", "|"),
    *(
        "\n|-|-|\n",
        "    ",
        "\\",
        "&",
        "&amp;",
        "!",
        "http://",
        "@all",
        "👍🏽",
        "é",
        "---",
        "===",
        ":",
        "\t",
        "\r\n",
        "\ud800",
    ),
]
WORDS = st.from_regex(r"[a-z]{1,9} ?", fullmatch=True)
MARKDOWN = st.lists(st.sampled_from(MARKUP) | WORDS | st.text(max_size=5), max_size=60).map("".join)


@settings(max_examples=500, deadline=None)
@given(MARKDOWN)
def test_no_word_of_any_text_is_lost(markdown: str) -> None:
    shown = letters(texts_of(parse(markdown)))
    # What stands for another sign is no word.
    assert all(word in shown for word in re.findall("[a-z]{2,}", re.sub(r"&\w+;", " ", markdown)))


@settings(max_examples=500, deadline=None)
@given(MARKDOWN, st.integers(80, 400))
def test_no_message_of_any_text_is_too_long_and_nothing_is_cut_away(markdown: str, limit: int) -> None:
    blocks = parse(markdown)
    messages = split(blocks, limit, size)
    assert all(len(texts_of(message)) <= limit for message in messages)
    whole, cut = letters(texts_of(blocks)), letters("".join(map(texts_of, messages)))
    # Tables repeat their heads and code its language.
    assert cut == whole or re.search(r"\||`{3}", markdown)


def spans(markdown: str) -> tuple[Span, ...]:
    [paragraph] = parse(markdown)
    assert isinstance(paragraph, Paragraph)
    return paragraph.spans


@pytest.mark.parametrize(
    ("bold", "after"),
    [
        ("标题：", "正文"),  # noqa: RUF001
        ("「重要」", "です"),
        ("“引用”", "后"),
        ('"标题"', "正文"),
        ("강조(예)", "는"),
        ("结束。", "then"),
    ],
)
def test_bold_text_ends_beside_text_without_spaces(bold: str, after: str) -> None:
    assert spans(f"前**{bold}**{after}") == (Span("前"), Span(bold, bold=True), Span(after))


@pytest.mark.parametrize("text", ["2 ** 3 ** 4", "a_b_c", "**not closed", "x ** y。"])
def test_what_is_no_emphasis_stays_as_it_is(text: str) -> None:
    assert spans(text) == (Span(text),)


@pytest.mark.parametrize(
    "formula", [r"\(a^2 * b^2 * c\)", r"\[x_1 * y_2 * z\]", "$$a_1*b*c_1$$", r"$a\,b_1$", r"\(\frac{1}{2}\)"]
)
def test_formulas_are_code_as_written(formula: str) -> None:
    assert spans(f"So {formula}, then.") == (Span("So "), Span(formula, code=True), Span(", then."))


@pytest.mark.parametrize("formula", ["$$\na_1 * b\n= c\n$$", "\\[\n\\sum_{i=1}^n i\n\\]", "$$x*y*z$$"])
def test_a_formula_with_lines_of_its_own_is_a_block(formula: str) -> None:
    assert parse(f"So\n{formula}\nthen.") == (
        Paragraph((Span("So"),)),
        Code(formula, "latex"),
        Paragraph((Span("then."),)),
    )


@pytest.mark.parametrize(
    "text", ["from $5 to $10", "$ 5 and $ 6", "US$5,000 or 5$", "$$", r"\( not closed", "$5 = 5$5"]
)
def test_prices_are_no_formulas(text: str) -> None:
    assert all(not span.code for span in spans(text))


def test_spaces_of_latex_keep_their_backslashes() -> None:
    assert spans(r"5\,km, \*not italic\*") == (Span(r"5\,km, *not italic*"),)


def test_entities_are_decoded_once() -> None:
    assert spans("a &amp; b &amp;lt; `&amp;`") == (Span("a & b &lt; "), Span("&amp;", code=True))


def test_a_fence_inside_a_fence_of_markdown_stays_inside() -> None:
    inner = f"# Title\n\n{FENCE}python\nx = 1\n{FENCE}\n\nmore"
    assert parse(f"{FENCE}markdown\n{inner}\n{FENCE}\nafter") == (Code(inner, "markdown"), Paragraph((Span("after"),)))


def test_a_fence_of_markdown_ends_at_the_first_fence_where_the_fences_are_not_even() -> None:
    assert parse(f"{FENCE}md\ntext\n{FENCE}\nafter") == (Code("text", "md"), Paragraph((Span("after"),)))


def test_a_cell_has_the_lines_that_are_written_as_html() -> None:
    [table] = parse("| a | b |\n|---|---|\n| x<br>y | `<br>` |\n| z<br/>w | 2 |")
    assert isinstance(table, Table)
    assert aligned(table).splitlines() == ["a │ b", "─ │ ────", "x │ <br>", "y │", "z │ 2", "w │"]
