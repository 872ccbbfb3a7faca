"""Replies as Telegram messages: within its limits, in HTML that it can read, stable while they grow."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.sync import Piece
from channels.telegram.render import Button, Content, Media, Text, render, repeated, unformatted, utf16
from tests.channels.test_markdown import MARKDOWN
from tests.servers.telegram import parse_html

FENCE = "```"
PNG = Attachment("a" * 64, "chart.png", "image/png", 5000, 640, 480)


def reply(*segments: Segment, status: str = "", done: bool = False, parked: bool = False, id: str = "run-1") -> Reply:
    return Reply(id, Address("telegram", "9", "7"), "1", segments, status, done, parked)


def texts(pieces: tuple[Piece[Content], ...]) -> list[tuple[str, str, str]]:
    """Key, HTML and what the buttons carry of each."""
    return [
        (piece.key, piece.content.html, " ".join(button.data for button in piece.content.buttons))
        for piece in pieces
        if isinstance(piece.content, Text)
    ]


def chunks(markdown: str) -> tuple[str, ...]:
    """The messages of one finished text."""
    return tuple(html for _, html, _ in texts(render(reply(TextSegment("t1", markdown), done=True))))


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("hello", "hello"),
        ("**bold** *it* ~~no~~ `x<y`", "<b>bold</b> <i>it</i> <s>no</s> <code>x&lt;y</code>"),
        ("# Head `code`", "<b>Head </b><code>code</code>"),
        ("a\n\nb\nc", "a\n\nb\nc"),
        (f'{FENCE}py\nx = "<"\n{FENCE}', '<pre><code class="language-py">x = "&lt;"</code></pre>'),
        (f"{FENCE}\nx", "<pre>x</pre>"),
        ("> a\n> > b", "<blockquote>a\n\n▏b</blockquote>"),
        (f"> {'a' * 600}", f"<blockquote>{'a' * 600}</blockquote>"),
        (f"> {'a' * 601}", f"<blockquote expandable>{'a' * 601}</blockquote>"),
        ("- a\n  - b\n\n    more\n- c", "• a\n   • b\n      more\n• c"),
        ("2. a\n3. b", "2. a\n3. b"),
        ('[l](https://e.org/?a=1&b="2")', '<a href="https://e.org/?a=1&amp;b=&quot;2&quot;">l</a>'),
        ("[l](javascript:x)", "[l](javascript:x)"),
        ("[l](notes.md) <http://localhost:80/x>", "l (notes.md) http://localhost:80/x"),
        ("<script>x</script> & @all", "&lt;script&gt;x&lt;/script&gt; &amp; @all"),
        ("| a | b |\n|---|---|\n| <1> | 2 |", "<pre>a   │ b\n─── │ ─\n&lt;1&gt; │ 2</pre>"),
        ("---", "———"),
    ],
)
def test_markdown_becomes_telegrams_html(markdown: str, html: str) -> None:
    assert chunks(markdown) == (html,)
    parse_html(html)


@pytest.mark.parametrize("blank", ["", " \n\t", "\u200b\u2060", "\u3164", "&nbsp;", f"{FENCE}\n\n{FENCE}", "# "])
def test_what_telegram_would_take_for_an_empty_message_is_none(blank: str) -> None:
    assert chunks(blank) == ()
    assert render(reply(TextSegment("t1", blank, open=True))) == ()


def test_a_long_text_ends_its_messages_between_paragraphs() -> None:
    parts = chunks("\n\n".join(f"{n} " + "word " * 150 for n in range(12)))
    assert len(parts) == 3
    assert all(part.endswith(("word", "word ")) for part in parts)
    assert all(utf16(unformatted(part)) <= 3700 for part in parts)


def test_emoji_count_twice_as_they_do_for_telegram() -> None:
    parts = chunks("👍" * 4000)
    assert "".join(parts) == "👍" * 4000
    assert max(map(utf16, parts)) <= 3700


def test_a_word_of_5000_letters_loses_none() -> None:
    assert "".join(chunks("x" * 5000)) == "x" * 5000


def test_a_fence_over_the_limit_is_opened_again_in_its_language() -> None:
    parts = chunks(f"{FENCE}py\n" + "\n".join(f"line = {n}" for n in range(800)))
    assert len(parts) > 2
    assert all(
        part.startswith('<pre><code class="language-py">line') and part.endswith("</code></pre>") for part in parts
    )


def test_finished_messages_are_not_touched_while_a_text_grows() -> None:
    markdown = "\n\n".join(f"**{n}** {'word ' * 100}" for n in range(30))
    before: dict[str, str] = {}
    for end in range(500, len(markdown), 500):
        pieces = render(reply(TextSegment("t1", markdown[:end], open=True)))
        now = {piece.key: piece.digest for piece in pieces}
        finished = list(before)[:-1]
        assert [now[key] for key in finished] == [before[key] for key in finished]
        before = now


def test_an_open_text_carries_the_status_and_the_stop_button() -> None:
    shown = texts(render(reply(TextSegment("t1", "So far", open=True), status="shell: ls <x>")))
    assert shown == [("t1/0", "So far\n\n<i>⏳ shell: ls &lt;x&gt;</i>", "stop:run-1")]
    assert texts(render(reply(TextSegment("t1", "So far", open=True)))) == [("t1/0", "So far", "stop:run-1")]


def test_the_status_stands_at_the_end_of_the_text_before_its_call() -> None:
    call = CallSegment("c1", "shell", "shell: ls", "running")
    assert texts(render(reply(TextSegment("t1", "Look:"), call, status="shell: ls"))) == [
        ("t1/0", "Look:\n\n<i>⏳ shell: ls</i>", "stop:run-1")
    ]


def test_the_status_is_a_message_of_its_own_after_a_picture_and_before_any_text() -> None:
    own = ("status", "<i>⏳ shell: ls</i>", "stop:run-1")
    assert texts(render(reply(CallSegment("c1", "shell", "shell: ls", "running"), status="shell: ls"))) == [own]
    assert texts(render(reply(TextSegment("t1", "Look:"), MediaSegment("m1", PNG), status="shell: ls"))) == [
        ("t1/0", "Look:", ""),
        own,
    ]


def test_a_finished_reply_has_no_status_and_no_button() -> None:
    assert texts(render(reply(TextSegment("t1", "All", open=True), status="x", done=True))) == [("t1/0", "All", "")]


def test_an_id_that_no_button_can_carry_leaves_the_button_out() -> None:
    assert texts(render(reply(TextSegment("t1", "hi", open=True), id="x" * 60))) == [("t1/0", "hi", "")]


def test_a_parked_reply_has_no_stop_button() -> None:
    assert texts(render(reply(TextSegment("t1", "Well"), parked=True))) == [("t1/0", "Well", "")]


def test_an_open_question_is_a_message_of_its_own_with_a_button_for_each_option() -> None:
    asked = QuestionSegment("q:1_0", "**Which** one?", ("red", "blue & green"))
    pieces = render(reply(TextSegment("t1", "Well."), asked, parked=True))
    assert [piece.key for piece in pieces] == ["t1/0", "q:1_0/0"]
    buttons = (Button("red", "answer:q:1_0:0"), Button("blue & green", "answer:q:1_0:1"))
    assert pieces[1].content == Text("<b>Which</b> one?", buttons)
    assert not pieces[1].editable
    [(_, _, data)] = texts(render(reply(asked)))
    assert data == "answer:q:1_0:0 answer:q:1_0:1 stop:run-1"


def test_an_answered_question_has_no_buttons_and_says_what_was_chosen() -> None:
    asked = QuestionSegment("q:1_0", "Which one?", ("red", "blue"), open=False, answer="blue <x>")
    assert texts(render(reply(asked, TextSegment("t2", "Blue it is."), done=True))) == [
        ("q:1_0/0", "Which one?\n\n<i>→ blue &lt;x&gt;</i>", ""),
        ("t2/0", "Blue it is.", ""),
    ]
    assert texts(render(reply(replace(asked, answer=""), done=True))) == [("q:1_0/0", "Which one?", "")]


def test_an_option_too_long_for_a_button_is_cut_there_and_listed_above() -> None:
    [piece] = render(reply(QuestionSegment("q:1_0", "Which?", ("👍" * 40, "no", " ")), parked=True))
    listed = f"1. {'👍' * 40}\n2. no\n3.  "
    labels = (f"{'👍' * 29}…", "no", "3")
    buttons = tuple(Button(label, f"answer:q:1_0:{n}") for n, label in enumerate(labels))
    assert piece.content == Text(f"Which?\n\n{listed}", buttons)


def test_options_that_no_button_can_carry_are_listed_to_be_typed() -> None:
    [piece] = render(reply(QuestionSegment("q:" + "x" * 60, "Which?", ("yes", "no")), parked=True))
    assert piece.content == Text("Which?\n\n1. yes\n2. no")


def test_a_question_that_shows_nothing_still_has_its_options() -> None:
    [piece] = render(reply(QuestionSegment("q:1_0", "\u200b", ("yes",)), parked=True))
    assert piece.content == Text("❓", (Button("yes", "answer:q:1_0:0"),))


def test_interrupted_text_says_so_at_its_end() -> None:
    assert texts(render(reply(TextSegment("t1", "I was", interrupted=True), done=True))) == [
        ("t1/0", "I was\n\n<i>⏸ interrupted</i>", "")
    ]


def test_steps_with_only_calls_between_them_are_one_text_under_the_first_ones_key() -> None:
    call = CallSegment("c1", "shell", "shell: ls", "done")
    steps = (TextSegment("t1", "I look."), call, TextSegment("t2", "I saw."), TextSegment("n1", "_Cut off._"))
    assert texts(render(reply(*steps, TextSegment("end", "Bye"), done=True))) == [
        ("t1/0", "I look.\n\nI saw.\n\n<i>Cut off.</i>\n\nBye", "")
    ]


def test_an_interruption_is_marked_where_it_was() -> None:
    steps = (TextSegment("t1", "One two", interrupted=True), TextSegment("t2", "Five", open=True))
    assert texts(render(reply(*steps))) == [("t1/0", "One two\n\n<i>⏸ interrupted</i>\n\nFive", "stop:run-1")]


def test_many_interruptions_stay_within_the_limit() -> None:
    steps = [TextSegment(f"t{n}", f"w{n:03}", interrupted=True) for n in range(400)]
    shown = texts(render(reply(*steps, done=True)))
    assert all(utf16(unformatted(html)) <= 3700 for _, html, _ in shown)
    said = re.findall(r"w\d{3}|interrupted", " ".join(html for _, html, _ in shown))
    assert said == [word for n in range(400) for word in (f"w{n:03}", "interrupted")]


def test_a_fence_left_open_in_one_text_does_not_swallow_the_next() -> None:
    steps = (TextSegment("t1", f"{FENCE}\nx", interrupted=True), TextSegment("t2", "**y**"))
    assert texts(render(reply(*steps, done=True))) == [("t1/0", "<pre>x</pre>\n\n<i>⏸ interrupted</i>\n\n<b>y</b>", "")]


def test_a_text_that_shows_nothing_leaves_no_gap_and_no_mark() -> None:
    steps = (TextSegment("t1", "\u200b", interrupted=True), TextSegment("t2", "a"), TextSegment("t3", "# "))
    assert texts(render(reply(*steps, done=True))) == [("t1/0", "a", "")]


def test_finished_messages_are_not_touched_while_steps_follow() -> None:
    steps: list[Segment] = []
    before: dict[str, str] = {}
    for number in range(1, 60):
        steps += [
            TextSegment(f"t{number}", f"**{number}** {'word ' * 40}"),
            CallSegment(f"c{number}", "x", "x", "done"),
        ]
        now = {piece.key: piece.digest for piece in render(reply(*steps, status="x"))}
        assert list(now)[: len(before)] == list(before)
        finished = list(before)[:-1]
        assert [now[key] for key in finished] == [before[key] for key in finished]
        before = now
    assert list(before) == [f"t1/{number}" for number in range(4)]


def test_pictures_stand_where_they_were_made() -> None:
    pieces = render(reply(TextSegment("t1", "a"), MediaSegment("m1", PNG, "1 < 2"), TextSegment("t2", "b")))
    assert [piece.key for piece in pieces] == ["t1/0", "m1", "t2/0"]
    assert pieces[1].content == Media(PNG, "1 &lt; 2")
    assert not pieces[1].editable


def test_a_caption_is_formatted() -> None:
    [piece] = render(reply(MediaSegment("m1", PNG, " first **one** of `a<b`\n[more](https://e.org) "), done=True))
    assert piece.content == Media(PNG, 'first <b>one</b> of <code>a&lt;b</code>\n<a href="https://e.org">more</a>')


def test_a_captions_length_is_that_of_the_text_that_it_shows() -> None:
    [piece] = render(reply(MediaSegment("m1", PNG, f"**{'x' * 898}** &"), done=True))
    assert piece.content == Media(PNG, f"<b>{'x' * 898}</b> &amp;")


def test_a_long_caption_follows_its_picture_as_text() -> None:
    pieces = render(reply(MediaSegment("m1", PNG, "**word** " + "word " * 1000), done=True))
    assert [piece.key for piece in pieces] == ["m1", "m1/0", "m1/1"]
    assert pieces[0].content == Media(PNG, "")
    assert texts(pieces)[0][1].startswith("<b>word</b> word")


@pytest.mark.parametrize(
    ("changes", "photo"),
    [
        ({}, True),
        ({"media_type": "image/gif"}, False),
        ({"size": 11_000_000}, False),
        ({"width": 9000, "height": 2000}, False),
        ({"width": 2100, "height": 100}, False),
        ({"media_type": "application/pdf"}, False),
    ],
)
def test_only_what_telegram_takes_as_a_photo_is_sent_as_one(changes: dict[str, Any], photo: bool) -> None:
    fields = {"hash": "a", "name": "x", "media_type": "image/png", "size": 10, "width": 640, "height": 480} | changes
    assert Media(Attachment(**fields)).is_photo is photo


@settings(max_examples=300, deadline=None)
@given(MARKDOWN, st.integers(1, 60), st.booleans())
def test_any_reply_is_within_telegrams_limits_and_readable_to_it(markdown: str, times: int, interrupted: bool) -> None:
    markdown = markdown * times
    segment = TextSegment("t1", markdown, open=not interrupted, interrupted=interrupted)
    shown = ""
    for _, html, _ in texts(render(reply(segment, status=markdown[:500]))):
        plain, _ = parse_html(repeated(html))
        assert 1 <= utf16(plain) <= 4096
        shown += plain
    letters = "".join(re.findall("[a-z]", shown))
    assert all(word in letters for word in re.findall("[a-z]{2,}", markdown.replace("&amp;", " ")))


STEPS = st.lists(st.sampled_from(["text", "long", "cut", "call", "picture", "notice"]), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
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
        case "notice":
            return TextSegment(f"n{number}", f"_n{number}_")
        case _:
            words = " ".join(f"w{number}x{n}" for n in range(300 if step == "long" else 2))
            return TextSegment(f"t{number}", words, interrupted=step == "cut")


def words_of(segment: Segment) -> list[str]:
    match segment:
        case TextSegment():
            mark = ["interrupted"] if segment.interrupted else []
            return [*segment.markdown.replace("_", "").split(), *mark]
        case MediaSegment():
            return [segment.caption]
        case CallSegment() | QuestionSegment():
            return []


def said(pieces: tuple[Piece[Content], ...]) -> list[str]:
    contents = [piece.content for piece in pieces]
    shown = "\n".join(content.html if isinstance(content, Text) else content.caption for content in contents)
    return re.findall(r"[wnm]\d+(?:x\d+)?|interrupted", unformatted(shown))
