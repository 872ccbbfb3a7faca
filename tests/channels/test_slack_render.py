"""Replies as Slack messages: within its limits, in Markdown that it reads as meant, stable while they grow."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.markdown import parse
from channels.reply import CallSegment, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.slack.markup import settled, write
from channels.slack.render import (
    Button,
    Content,
    Media,
    Task,
    Text,
    blocks_of,
    fallback_of,
    plain_blocks_of,
    render,
)
from channels.sync import Piece
from tests.channels.test_markdown import MARKDOWN

FENCE = "```"
ZERO = "\u200b"
PNG = Attachment("a" * 64, "chart.png", "image/png", 5000, 640, 480)


def reply(*segments: Segment, status: str = "", done: bool = False, parked: bool = False) -> Reply:
    return Reply("run-1", Address("slack", "U1", "C1", "1.0"), "1.0", segments, status, done, parked)


def texts(pieces: tuple[Piece[Content], ...]) -> list[tuple[str, str, str]]:
    """Key, Markdown, and what follows it."""
    return [
        (
            piece.key,
            piece.content.markdown,
            " ".join([piece.content.status, *(button.data for button in piece.content.buttons)]).strip(),
        )
        for piece in pieces
        if isinstance(piece.content, Text)
    ]


def chunks(markdown: str) -> tuple[str, ...]:
    """The messages of one finished text."""
    return tuple(shown for _, shown, _ in texts(render(reply(TextSegment("t1", markdown), done=True))))


@pytest.mark.parametrize(
    "markdown",
    [
        "hello",
        "**bold** *it* ~~no~~ `x<y`",
        "***both***",
        "# Head `code`",
        "a\n\nb\nc",
        f"{FENCE}py\nx = 1\n{FENCE}",
        "> a\n>\n> > b",
        "- a\n  - b\n\n    more\n- c",
        "2. a\n3. b",
        "- a\n\n  ```\n  x\n  ```",
        "[l](https://e.org/?a=1&b=2)",
        "<https://e.org>"[1:-1],
        "| a | b |\n| --- | --- |\n| 1 | **2** |",
        "a < b & c > d",
        "2 * 3 * 4, snake_case, [1], a|b",
        "---",
    ],
)
def test_common_markdown_stays_as_it_is(markdown: str) -> None:
    [shown] = chunks(markdown)
    assert parse(shown) == parse(markdown)
    assert shown.split() == markdown.split()


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("_it_ __bold__", "*it* **bold**"),
        ("[l](javascript:x)", "[l](javascript:x)"),
        ("[l](notes.md)", "l (notes.md)"),
        ("![pic](https://e.org/a.png)", "[pic](https://e.org/a.png)"),
        (r"\*not italic\*", r"\*not italic\*"),
        (r"\# no heading", r"\# no heading"),
        (r"1\. no list", r"1\. no list"),
        (f"{FENCE}{FENCE[0]}\n{FENCE}\n{FENCE}{FENCE[0]}", f"{FENCE}{FENCE[0]}\n{FENCE}\n{FENCE}{FENCE[0]}"),
        ("`` a`b ``", "``a`b``"),
        ("<!channel> @here", f"<{ZERO}!channel> @{ZERO}here"),
        ("<@U012AB> <#C1|x>", f"<{ZERO}@U012AB> <{ZERO}#C1|x>"),
        ("`<!here>` `<!DOCTYPE html>`", f"`<{ZERO}!here>` `<!DOCTYPE html>`"),
        (f"{FENCE}\n@Everyone <@U1>\n{FENCE}", f"{FENCE}\n@{ZERO}Everyone <{ZERO}@U1>\n{FENCE}"),
        ("[x](https://e.org/@here)", "[x](https://e.org/%40here)"),
        ("ann@example.org", "ann@example.org"),
        ("a\n\n    code", f"a\n\n{FENCE}\ncode\n{FENCE}"),
    ],
)
def test_what_would_be_read_otherwise_is_written_with_care(markdown: str, shown: str) -> None:
    assert chunks(markdown) == (shown,)


def test_a_table_too_wide_for_a_screen_is_code() -> None:
    [shown] = chunks(f"| a | b |\n|---|---|\n| {'word ' * 30} | 2 |")
    assert shown.startswith(f"{FENCE}\na ")
    assert "word" in shown


@pytest.mark.parametrize("blank", ["", " \n\t", "\u200b\u2060", "\u3164", "&nbsp;", f"{FENCE}\n\n{FENCE}", "# "])
def test_what_shows_nothing_is_no_message(blank: str) -> None:
    assert chunks(blank) == ()
    assert render(reply(TextSegment("t1", blank, open=True))) == ()


def test_a_long_text_ends_its_messages_between_paragraphs() -> None:
    parts = chunks("\n\n".join(f"{n} " + "word " * 150 for n in range(36)))
    assert len(parts) == 3
    assert all(part.endswith("word") for part in parts)
    assert all(len(part) <= 10_800 for part in parts)


def test_a_fence_over_the_limit_is_opened_again_in_its_language() -> None:
    parts = chunks(f"{FENCE}py\n" + "\n".join(f"line = {n}" for n in range(2400)))
    assert len(parts) > 2
    assert all(part.startswith(f"{FENCE}py\nline") and part.endswith(f"\n{FENCE}") for part in parts)


def test_finished_messages_are_not_touched_while_a_text_grows() -> None:
    markdown = "\n\n".join(f"**{n}** {'word ' * 100}" for n in range(60))
    before: dict[str, str] = {}
    for end in range(500, len(markdown), 500):
        pieces = render(reply(TextSegment("t1", markdown[:end], open=True)))
        now = {piece.key: piece.digest for piece in pieces}
        finished = list(before)[:-1]
        assert [now[key] for key in finished] == [before[key] for key in finished]
        before = now


def test_an_open_text_carries_the_status_and_the_stop_button() -> None:
    shown = texts(render(reply(TextSegment("t1", "So far", open=True), status="shell: ls <x>")))
    assert shown == [("t1/0", "So far", "⏳ shell: ls <x> stop:run-1")]
    assert texts(render(reply(TextSegment("t1", "So far", open=True)))) == [("t1/0", "So far", "stop:run-1")]
    assert texts(render(reply(TextSegment("t1", "All", open=True), status="x", done=True))) == [("t1/0", "All", "")]
    assert texts(render(reply(TextSegment("t1", "So far"), parked=True))) == [("t1/0", "So far", "")]


def test_the_status_is_a_message_of_its_own_after_a_picture_and_before_any_text() -> None:
    own = ("status", "", "⏳ shell: ls stop:run-1")
    assert texts(render(reply(CallSegment("c1", "shell", "shell: ls", "running"), status="shell: ls"))) == [own]
    assert texts(render(reply(TextSegment("t1", "Look:"), MediaSegment("m1", PNG), status="shell: ls"))) == [
        ("t1/0", "Look:", ""),
        own,
    ]


def test_calls_are_tasks_of_the_text_that_they_stand_by() -> None:
    calls = (
        CallSegment("c1", "shell", "shell: ls", "done"),
        CallSegment("c2", "shell", "shell: rm", "denied"),
        CallSegment("c3", "shell", "shell: cat", "running"),
    )
    [piece] = render(reply(calls[0], TextSegment("t1", "I look."), *calls[1:], status="shell: cat"))
    assert isinstance(piece.content, Text)
    assert piece.content.tasks == (
        Task("c1", "shell: ls", "complete"),
        Task("c2", "shell: rm (denied)", "error"),
        Task("c3", "shell: cat", "in_progress"),
    )
    [waiting] = render(reply(TextSegment("t1", "I look."), status="waiting for the model"))
    assert isinstance(waiting.content, Text)
    assert waiting.content.tasks == (Task("notice", "waiting for the model", "in_progress"),)


def test_a_question_is_a_message_of_its_own_with_a_button_for_each_option() -> None:
    asked = QuestionSegment("q:1_0", "**Which** one?", ("red", "blue & green"))
    first, second = render(reply(TextSegment("t1", "Well."), asked, parked=True))
    assert isinstance(second.content, Text)
    assert second.content.markdown == "**Which** one?"
    assert second.content.buttons == (
        Button("answer-0", "red", "answer:q:1_0:0"),
        Button("answer-1", "blue & green", "answer:q:1_0:1"),
    )
    assert (first.key, second.key, second.editable, second.content.growing) == ("t1/0", "q:1_0/0", False, False)


def test_an_option_too_long_for_a_button_is_cut_there_and_listed_above() -> None:
    [piece] = render(reply(QuestionSegment("q:1_0", "Which?", ("word " * 30, "no", " ")), parked=True))
    assert isinstance(piece.content, Text)
    assert piece.content.markdown.startswith("Which?\n\n1. word word")
    assert [button.label for button in piece.content.buttons] == [f"{('word ' * 15)[:74]}…", "no", "3"]


def test_many_options_are_all_listed_and_a_button_each_while_they_fit() -> None:
    options = tuple(f"option {n}" for n in range(30))
    [piece] = render(reply(QuestionSegment("q:1_0", "Which?", options)))
    assert isinstance(piece.content, Text)
    assert "30. option 29" in piece.content.markdown
    assert len(piece.content.buttons) == 25
    assert piece.content.buttons[-1].data == "stop:run-1"


def test_an_answered_question_has_no_buttons_and_says_what_was_chosen() -> None:
    asked = QuestionSegment("q:1_0", "Which one?", ("red",), open=False, answer="blue <x>")
    assert texts(render(reply(asked, done=True))) == [("q:1_0/0", "Which one?\n\n*→ blue <x>*", "")]


def test_steps_with_only_calls_between_them_are_one_text_under_the_first_ones_key() -> None:
    call = CallSegment("c1", "shell", "shell: ls", "done")
    steps = (TextSegment("t1", "I look.", interrupted=True), call, TextSegment("t2", f"{FENCE}\nx"))
    assert texts(render(reply(*steps, TextSegment("end", "Bye"), done=True))) == [
        ("t1/0", f"I look.\n\n*⏸ interrupted*\n\n{FENCE}\nx\n{FENCE}\n\nBye", "")
    ]
    new_message = TextSegment("t2", "Five", new_message=True)
    assert [key for key, _, _ in texts(render(reply(steps[0], new_message, done=True)))] == ["t1/0", "t2/0"]


def test_pictures_stand_where_they_were_made_with_plain_captions() -> None:
    pieces = render(reply(TextSegment("t1", "a"), MediaSegment("m1", PNG, "1 < **2**"), TextSegment("t2", "b")))
    assert [piece.key for piece in pieces] == ["t1/0", "m1", "t2/0"]
    assert pieces[1].content == Media("run-1/m1", PNG, "1 < 2")
    long = render(reply(MediaSegment("m1", PNG, "word " * 1000), done=True))
    assert [piece.key for piece in long] == ["m1", "m1/0"]


def test_notifications_mention_nobody() -> None:
    [piece] = render(reply(TextSegment("t1", "<!channel> & @here"), done=True))
    assert isinstance(piece.content, Text)
    assert fallback_of(piece.content) == f"&lt;{ZERO}!channel&gt; &amp; @{ZERO}here"


def test_blocks_are_the_text_its_quiet_lines_and_its_buttons() -> None:
    [piece] = render(reply(TextSegment("t1", "So far", open=True), status="ls"))
    assert isinstance(piece.content, Text)
    shown = blocks_of(piece.content, repeat=True)
    assert [block["type"] for block in shown] == ["markdown", "context", "context", "actions"]
    assert [block["type"] for block in plain_blocks_of(piece.content)] == ["section", "context", "actions"]


def test_the_gateways_own_words_name_commands_as_slack_takes_them() -> None:
    own = TextSegment("n1", "Try `/stop` or `/busy queue`, or read `/etc/hosts`.")
    models = TextSegment("t1", "Try `/stop`.", step=1)
    pieces = (*render(reply(own, done=True)), *render(reply(models, done=True)))
    shown = [piece.content.markdown for piece in pieces if isinstance(piece.content, Text)]
    assert shown == ["Try `!stop` or `!busy queue`, or read `/etc/hosts`.", "Try `/stop`."]


GROWING = [
    "Plain words, and **bold ones**, then *italic* and `code` and [a link](https://e.org/x) too.",
    "_Leaning_ at the start, and then _again_ here.\n\nNext.",
    "# A title\n\nText\n\n- one\n- **two**\n  - three\n\n1. a\n2. b\n\nEnd.",
    f"Look:\n\n{FENCE}python\ndef f(x):\n    return x\n{FENCE}\n\nThat is all.",
    "A table:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nThere.",
    "> quoted\n> more\n\n![pic](https://e.org/a.png) and text\n\n---\n\nend",
]


def test_what_is_told_of_the_work_is_not_settled_as_long_as_it_may_change() -> None:
    doing = TextSegment("a1", "- ✓ `ls`\n- ⏳ `rm`", open=True, step=1, secondary=True)
    done = TextSegment("a1", "- ✓ `ls`\n- ✓ `rm`", step=1, secondary=True)
    [piece] = render(reply(TextSegment("t1", "I look.", step=1), doing, status="rm"))
    assert isinstance(piece.content, Text)
    assert (piece.content.settled, piece.content.growing) == ("I look.", True)
    [alone] = render(reply(doing, TextSegment("u:a", "Look!", step=1)))
    assert isinstance(alone.content, Text)
    assert alone.content.settled == ""
    [over] = render(reply(done, status="thinking"))
    assert isinstance(over.content, Text)
    assert over.content.settled == over.content.markdown


@pytest.mark.parametrize("markdown", GROWING)
def test_what_is_settled_stays_as_it_is_while_a_text_grows(markdown: str) -> None:
    """Token by token, as models write: a stream can then go on to its end."""
    shown = ""
    for token in re.finditer(r"\s*\S+", markdown):
        pieces = render(reply(TextSegment("t1", markdown[: token.end()], open=True)))
        if not pieces:
            continue
        [piece] = pieces
        assert isinstance(piece.content, Text)
        assert piece.content.markdown.startswith(shown)
        # It may wait with more, but takes nothing back.
        assert piece.content.settled.startswith(shown) or shown.startswith(piece.content.settled)
        shown = max(shown, piece.content.settled, key=len)
    [final] = chunks(markdown)
    assert final.startswith(shown)
    assert len(shown) > len(final) / 3


@settings(max_examples=300, deadline=None)
@given(MARKDOWN, st.integers(1, 60), st.booleans())
def test_any_reply_is_within_slacks_limits_and_loses_no_word(markdown: str, times: int, interrupted: bool) -> None:
    markdown = markdown * times
    segment = TextSegment("t1", markdown, open=not interrupted, interrupted=interrupted)
    said = ""
    for piece in render(reply(segment, status=markdown[:500])):
        assert isinstance(piece.content, Text)
        assert len(fallback_of(piece.content)) <= 4000
        for blocks in (blocks_of(piece.content, repeat=True), plain_blocks_of(piece.content, repeat=True)):
            assert blocks
            assert sum(map(_length, blocks)) <= 13_200
            assert all(0 < len(block["text"]) <= 12_000 for block in blocks if block["type"] == "markdown")
        said += piece.content.markdown
    letters = "".join(re.findall("[a-z]", said))
    # The language of a code block in which nothing stands yet is not shown.
    meant = re.sub("(`{3}|~{3})[a-z]+", " ", markdown.replace("&amp;", " "))
    assert all(word in letters for word in re.findall("[a-z]{2,}", meant))


def _length(block: Any) -> int:
    match block:
        case dict():
            own = len(block["text"]) if isinstance(block.get("text"), str) else 0
            return own + sum(map(_length, block.values()))
        case list():
            return sum(map(_length, block))
        case _:
            return 0


@settings(max_examples=300, deadline=None)
@given(MARKDOWN)
def test_any_text_is_read_back_as_it_was_meant(markdown: str) -> None:
    blocks = parse(markdown)
    again = parse(write(blocks))
    assert _letters(write(blocks)) == _letters(write(again))
    assert len(settled(blocks)) <= len(write(blocks))


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["<", "!", "channel", ">", "@", "here", "U01", "`", "*", "\n", " ", "|x", "#C1"])))
def test_nothing_mentions_anybody(parts: list[str]) -> None:
    shown = write(parse("".join(parts)))
    assert not re.search(r"<[!@#](channel|here|U01|C1)|(?<!%40)@here\b", shown)
