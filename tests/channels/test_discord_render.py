"""Replies as Discord messages: within its limits, saying what was said and nothing else, stable while they grow."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.discord.render import Content, Media, Text, box, components, render, utf16
from channels.reply import ApprovalDecision, CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.sync import Piece
from tests.channels.test_markdown import MARKDOWN

FENCE = "```"
GAP = "\u200b"
PNG = Attachment("a" * 64, "chart.png", "image/png", 5000, 640, 480)


def reply(*segments: Segment, status: str = "", done: bool = False, id: str = "run-1", parked: bool = False) -> Reply:
    return Reply(id, Address("discord", "9", "7"), "1", segments, status, done, parked)


def texts(pieces: tuple[Piece[Content], ...]) -> list[tuple[str, str, list[str]]]:
    return [
        (piece.key, piece.content.markdown, [button.data for button in piece.content.buttons])
        for piece in pieces
        if isinstance(piece.content, Text)
    ]


def chunks(markdown: str) -> tuple[str, ...]:
    """The messages of one finished text."""
    return tuple(written for _, written, _ in texts(render(reply(TextSegment("t1", markdown), done=True))))


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("hello", "hello"),
        ("**bold** *it* ~~no~~ `x_y`", "**bold** *it* ~~no~~ `x_y`"),
        ("***both*** **a***b*", f"***both*** **a**{GAP}*b*"),
        ("# Head `code`", "# Head `code`"),
        ("#### Deep", "**Deep**"),
        ("a\n\nb\nc", "a\n\nb\nc"),
        (f"{FENCE}py\nx = 1\n{FENCE}", f"{FENCE}py\nx = 1\n{FENCE}"),
        (f"{FENCE}\nx", f"{FENCE}\nx\n{FENCE}"),
        (f"{FENCE}{FENCE}\na\n{FENCE}\nb\n{FENCE}{FENCE}", f"{FENCE}\na\n`{GAP}``\nb\n{FENCE}"),
        ("`` a`b ``", "`` a`b ``"),
        ("> a\n> > b", f"> a\n> {GAP}\n> ▏b"),
        ("> # a", "> **a**"),
        ("- a\n  - b\n\n    more\n- c", "- a\n  - b\n    more\n- c"),
        ("2. a\n3. b", "2. a\n3. b"),
        ("2. a\n\ntext", "2. a\n\ntext"),
        (f"- a\n  {FENCE}\n  x\n  {FENCE}", f"- a\n{FENCE}\nx\n{FENCE}"),
        ("[l](https://e.org/?a=1&b=2)", "[l](<https://e.org/?a=1&b=2>)"),
        ("[l](https://e.org/a_(b))", "[l](<https://e.org/a_%28b%29>)"),
        ("[https://good.org](https://bad.org)", "https://good.org (https://bad.org)"),
        ("[l](notes.md)", "l (notes.md)"),
        ("see https://e.org/a_b_c and a_b_c", "see https://e.org/a_b_c and a\\_b\\_c"),
        ("2 \\* 3 \\_x\\_ \\|\\|y\\|\\| \\[z\\](u)", "2 \\* 3 \\_x\\_ \\|\\|y\\|\\| \\[z\\](u)"),
        ("\\# no\n\\> no\n\\- no\n1\\. no\n-# no", "\\# no\n\\> no\n\\- no\n1\\. no\n\\-# no"),
        ("@everyone @here you@everyone.org", f"@{GAP}everyone @{GAP}here you@{GAP}everyone.org"),
        (
            "<@1> <@&2> <#3> <:x:4> <a:x:4> <t:5> </stop:6>",
            f"<{GAP}@1> <{GAP}@&2> <{GAP}#3> <{GAP}:x:4> <{GAP}a:x:4> <{GAP}t:5> <{GAP}/stop:6>",
        ),
        ("a < b <c> </p>", "a < b <c> </p>"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", f"{FENCE}\na │ b\n─ │ ─\n1 │ 2\n{FENCE}"),
        ("---", "———"),
    ],
)
def test_markdown_becomes_discords(markdown: str, written: str) -> None:
    assert chunks(markdown) == (written,)


def test_a_list_that_skips_numbers_keeps_them_as_text() -> None:
    assert chunks("1. a\n5. b") == ("1\\. a\n5\\. b",)


@pytest.mark.parametrize("blank", ["", " \n\t", "\u200b\u2060", "\u3164", "&nbsp;", f"{FENCE}\n\n{FENCE}", "# "])
def test_what_discord_would_take_for_an_empty_message_is_none(blank: str) -> None:
    assert chunks(blank) == ()
    assert render(reply(TextSegment("t1", blank, open=True))) == ()


def test_a_long_text_ends_its_messages_between_paragraphs() -> None:
    parts = chunks("\n\n".join(f"{n} " + "word " * 70 for n in range(12)))
    assert len(parts) == 3
    assert all(part.endswith(("word", "word ")) for part in parts)


def test_emoji_and_escapes_count_as_they_are_written() -> None:
    for letter in ("👍", "\\*"):
        parts = chunks(letter * 2000)
        assert "".join(parts) == letter * 2000
        assert max(map(utf16, parts)) <= 1750


def test_a_fence_over_the_limit_is_opened_again_in_its_language() -> None:
    parts = chunks(f"{FENCE}py\n" + "\n".join(f"line = {n}" for n in range(400)))
    assert len(parts) > 2
    assert all(part.startswith(f"{FENCE}py\nline") and part.endswith(f"\n{FENCE}") for part in parts)


def test_finished_messages_are_not_touched_while_a_text_grows() -> None:
    markdown = "\n\n".join(f"**{n}** {'word ' * 50}" for n in range(30))
    before: dict[str, str] = {}
    for end in range(250, len(markdown), 250):
        pieces = render(reply(TextSegment("t1", markdown[:end], open=True)))
        now = {piece.key: piece.digest for piece in pieces}
        finished = list(before)[:-1]
        assert [now[key] for key in finished] == [before[key] for key in finished]
        before = now


def test_an_open_text_carries_the_status_and_the_stop_button() -> None:
    shown = texts(render(reply(TextSegment("t1", "So far", open=True), status="shell: ls *.py")))
    assert shown == [("t1/0", "So far\n-# ⏳ shell: ls \\*.py", ["stop:run-1"])]
    assert texts(render(reply(TextSegment("t1", "So far", open=True)))) == [("t1/0", "So far", ["stop:run-1"])]


def test_the_status_is_a_message_of_its_own_after_a_picture_and_before_any_text() -> None:
    own = ("status", "-# ⏳ shell: ls", ["stop:run-1"])
    assert texts(render(reply(CallSegment("c1", "shell", "shell: ls", "running"), status="shell: ls"))) == [own]
    assert texts(render(reply(TextSegment("t1", "Look:"), MediaSegment("m1", PNG), status="shell: ls"))) == [
        ("t1/0", "Look:", []),
        own,
    ]


def test_a_finished_or_parked_reply_has_no_stop_button() -> None:
    assert texts(render(reply(TextSegment("t1", "All"), status="x", done=True))) == [("t1/0", "All", [])]
    assert texts(render(reply(TextSegment("t1", "All"), parked=True))) == [("t1/0", "All", [])]


def test_an_id_that_no_button_can_carry_leaves_the_button_out() -> None:
    assert texts(render(reply(TextSegment("t1", "hi", open=True), id="x" * 99))) == [("t1/0", "hi", [])]


def test_a_nonce_is_the_same_for_the_same_piece_and_another_for_every_other() -> None:
    def nonces(id: str, *segments: Segment, status: str = "") -> list[str]:
        return [piece.content.nonce for piece in render(reply(*segments, id=id, status=status))]

    first = nonces("run-1", TextSegment("t1", "a"), MediaSegment("m1", PNG), status="x")
    assert nonces("run-1", TextSegment("t1", "other"), MediaSegment("m1", PNG), status="y") == first
    everything = [*first, *nonces("run-2", TextSegment("t1", "a"), MediaSegment("m1", PNG), status="x")]
    everything += nonces("run-1", status="x")
    assert len(set(everything)) == len(everything) == 7
    assert all(0 < len(nonce) <= 25 for nonce in everything)


def test_interrupted_text_says_so_at_its_end() -> None:
    assert texts(render(reply(TextSegment("t1", "I was", interrupted=True), done=True))) == [
        ("t1/0", "I was\n\n*⏸ interrupted*", [])
    ]


def test_steps_with_only_calls_between_them_are_one_text_and_what_is_anew_is_another() -> None:
    call = CallSegment("c1", "shell", "shell: ls", "done")
    steps = (
        TextSegment("t1", "I look."),
        call,
        TextSegment("t2", "I saw."),
        TextSegment("t3", "So:", new_message=True),
    )
    assert texts(render(reply(*steps, done=True))) == [("t1/0", "I look.\n\nI saw.", []), ("t3/0", "So:", [])]


def test_a_fence_left_open_in_one_text_does_not_swallow_the_next() -> None:
    steps = (TextSegment("t1", f"{FENCE}\nx", interrupted=True), TextSegment("t2", "**y**"))
    assert texts(render(reply(*steps, done=True)))[0][1] == f"{FENCE}\nx\n{FENCE}\n\n*⏸ interrupted*\n\n**y**"


def test_a_question_has_a_button_for_each_option() -> None:
    question = QuestionSegment("q:4f0c_3_0", "**Tea?**", ("yes", "no", "later"))
    [shown] = texts(render(reply(question, parked=True)))
    assert shown == ("q:4f0c_3_0/0", "**Tea?**", [f"answer:q:4f0c_3_0:{n}" for n in range(3)])


def test_a_closed_question_shows_its_answer_and_no_buttons() -> None:
    question = QuestionSegment("q:1", "Tea?", ("yes", "no"), open=False, answer="yes, *please*")
    assert texts(render(reply(question, done=True))) == [("q:1/0", "Tea?\n-# → yes, \\*please\\*", [])]
    assert texts(render(reply(QuestionSegment("q:1", "Tea?", ("yes",), open=False), done=True)))[0][2] == []


def test_questions_and_approvals_are_boxes_in_the_colour_of_their_state() -> None:
    def shown(**fields: Any) -> Text:
        [piece] = render(reply(QuestionSegment("q:1", "Run `make`?", ("Allow", "Deny"), **fields), parked=True))
        assert isinstance(piece.content, Text)
        return piece.content

    asked = shown()
    assert asked.accent is not None
    assert box(asked, asked.accent) == {
        "type": 17,
        "accent_color": asked.accent,
        "components": [{"type": 10, "content": "Run `make`?"}, *components(asked.buttons)],
    }
    decisions: list[ApprovalDecision] = ["allowed", "denied", "undecided"]
    ended = [shown(open=False, decision=decision).accent for decision in decisions]
    assert len({asked.accent, *ended}) == 4
    [words] = render(reply(TextSegment("t1", "hello"), done=True))
    assert isinstance(words.content, Text)
    assert words.content.accent is None


def test_an_open_question_keeps_its_buttons_beside_a_status() -> None:
    shown = texts(render(reply(QuestionSegment("q:1", "Tea?", ("yes",)), status="waits")))
    assert [(key, carried) for key, _, carried in shown] == [("q:1/0", ["answer:q:1:0"]), ("status", ["stop:run-1"])]


def test_options_that_do_not_fit_a_button_are_written_out() -> None:
    [piece] = render(reply(QuestionSegment("q:1", "Which?", ("x" * 200, "b")), parked=True))
    assert isinstance(piece.content, Text)
    assert piece.content.markdown == f"Which?\n\n1. {'x' * 200}\n2. b"
    assert [len(button.label) for button in piece.content.buttons] == [73, 1]
    [many] = render(reply(QuestionSegment("q:1", "Which?", tuple(map(str, range(40)))), parked=True))
    assert isinstance(many.content, Text)
    assert "40. 39" in many.content.markdown
    assert [len(row["components"]) for row in components(many.content.buttons)] == [5] * 5
    [keyless] = render(reply(QuestionSegment("q" * 99, "Which?", ("a", "b")), parked=True))
    assert isinstance(keyless.content, Text)
    assert (keyless.content.markdown, keyless.content.buttons) == ("Which?\n\n1. a\n2. b", ())


def test_pictures_stand_where_they_were_made() -> None:
    pieces = render(reply(TextSegment("t1", "a"), MediaSegment("m1", PNG, "1 * 2"), TextSegment("t2", "b")))
    assert [piece.key for piece in pieces] == ["t1/0", "m1", "t2/0"]
    assert isinstance(pieces[1].content, Media)
    assert (pieces[1].content.caption, pieces[1].content.alt) == ("1 \\* 2", "1 * 2")
    assert not pieces[1].editable


def test_a_picture_without_caption_is_described_by_its_name() -> None:
    [piece] = render(reply(MediaSegment("m1", PNG), done=True))
    assert isinstance(piece.content, Media)
    assert (piece.content.caption, piece.content.alt) == ("", "chart.png")


def test_a_long_caption_follows_its_picture_as_text() -> None:
    pieces = render(reply(MediaSegment("m1", PNG, "**word** " + "word " * 500), done=True))
    assert [piece.key for piece in pieces] == ["m1", "m1/0", "m1/1"]
    assert isinstance(pieces[0].content, Media)
    assert len(pieces[0].content.alt) <= 1024
    assert texts(pieces)[0][1].startswith("**word** word")


# --- whatever is written ---------------------------------------------------------------------------------------------


def outside_of_code(written: str) -> str:
    """What Discord would read as markup: its fences first, then its marks of code, skipping what is escaped."""
    return re.sub(r"```.*?```|(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", written, flags=re.DOTALL)


def checked(written: str) -> None:
    assert 1 <= utf16(written) <= 2000
    assert written.count(FENCE) % 2 == 0
    read = outside_of_code(written)
    assert not re.search(r"@(everyone|here)|<@[!&]?\d+>|<#\d+>|<a?:\w+:\d+>|</[^>]*:\d+>", read)
    for url in re.findall(r"(?<!\\)\]\(<?([^)\s>]*)", read):
        assert url.startswith(("http://", "https://"))


@settings(max_examples=300, deadline=None)
@given(MARKDOWN, st.integers(1, 60), st.booleans())
def test_any_reply_is_within_discords_limits_and_says_all(markdown: str, times: int, interrupted: bool) -> None:
    markdown = markdown * times
    segment = TextSegment("t1", markdown, open=not interrupted, interrupted=interrupted)
    shown = ""
    for _, written, _ in texts(render(reply(segment, status=markdown[:500]))):
        checked(written)
        shown += written
    letters = "".join(re.findall("[a-z]", shown))
    assert all(word in letters for word in re.findall("[a-z]{2,}", markdown.replace("&amp;", " ")))


BITS = [*"*_~`|[]()<>#@!&:/\\-+.1 \nab", "everyone", "here", "<@1>", "```", "https://e.org/"]
NASTY = st.lists(st.sampled_from(BITS), max_size=60).map("".join)


@settings(max_examples=400, deadline=None)
@given(NASTY)
def test_nothing_that_is_written_mentions_anybody(markdown: str) -> None:
    for written in chunks(markdown):
        checked(written)


STEPS = st.lists(st.sampled_from(["text", "long", "cut", "call", "picture", "question"]), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_a_turn_does_its_messages_only_grow_and_say_all_once_in_order(steps: list[str]) -> None:
    segments: list[Segment] = []
    before: dict[str, str] = {}
    for number, step in enumerate(steps):
        segments.append(segment_of(step, number))
        now = {piece.key: piece.digest for piece in render(reply(*segments, status="working"))}
        assert list(now)[: len(before)] == list(before)
        # The last message alone may change: it loses its status.
        finished = list(before)[:-1]
        assert [now[key] for key in finished] == [before[key] for key in finished]
        before = {key: digest for key, digest in now.items() if key != "status"}
    done = render(reply(*segments, done=True))
    assert said(done) == [word for segment in segments for word in words_of(segment)]
    assert all(piece.key != "status" for piece in done)


def segment_of(step: str, number: int) -> Segment:
    match step:
        case "call":
            return CallSegment(f"c{number}", "shell", "shell: ls", "done")
        case "picture":
            return MediaSegment(f"m{number}", PNG, f"m{number}")
        case "question":
            return QuestionSegment(f"q:{number}", f"n{number}", ("a", "b"), open=False, answer=f"w{number}x0")
        case _:
            words = " ".join(f"w{number}x{n}" for n in range(300 if step == "long" else 2))
            return TextSegment(f"t{number}", words, interrupted=step == "cut")


def words_of(segment: Segment) -> list[str]:
    match segment:
        case TextSegment():
            mark = ["interrupted"] if segment.interrupted else []
            return [*segment.markdown.split(), *mark]
        case MediaSegment():
            return [segment.caption]
        case QuestionSegment():
            return [segment.question, segment.answer]
        case CallSegment():
            return []


def said(pieces: tuple[Piece[Content], ...]) -> list[str]:
    contents = [piece.content for piece in pieces]
    shown = "\n".join(content.markdown if isinstance(content, Text) else content.caption for content in contents)
    return re.findall(r"[wnm]\d+(?:x\d+)?|interrupted", shown)


def test_a_button_is_within_discords_limits() -> None:
    question = QuestionSegment("q:1", "Tea?", ("", "  ", "👍" * 100, "x" * 200))
    cards: list[Any] = [
        card
        for piece in render(reply(question, parked=True))
        if isinstance(piece.content, Text)
        for row in components(piece.content.buttons)
        for card in row["components"]
    ]
    assert all(1 <= len(card["label"]) <= 80 and 1 <= len(card["custom_id"]) <= 100 for card in cards)
    assert len(cards) == 4
