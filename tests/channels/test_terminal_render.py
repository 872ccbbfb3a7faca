"""What a terminal prints of a reply that grows: never the same twice, never something that may still change."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.media import Attachment
from channels.address import Address
from channels.markdown import parse
from channels.reply import CallSegment, CallState, MediaSegment, QuestionSegment, Reply, Segment, TextSegment
from channels.terminal.ansi import block_lines, unstyled
from channels.terminal.render import FilePart, Part, PrintState, Style, TextPart, advance, growing

PIPE = Style()
TERMINAL = Style(width=60, color=True)
COLORLESS = Style(width=60)
CHART = Attachment("ab" * 32, "chart.png", "image/png", 10, 4, 4)


def reply(*segments: Segment, done: bool = False) -> Reply:
    return Reply("run-1", Address("terminal", "local", "main"), None, segments, done=done)


def texts(parts: tuple[Part, ...]) -> list[str]:
    return [part.text for part in parts if isinstance(part, TextPart) and part.text]


def play(style: Style, *states: Reply) -> list[Part]:
    shown, printed = PrintState(), []
    for state in states:
        shown, parts = advance(shown, state, style)
        printed.extend(parts)
    return printed


def test_a_pipe_gets_the_markdown_letter_by_letter() -> None:
    states = [reply(TextSegment("t1", text, open=True)) for text in ("**Hi", "**Hi** th", "**Hi** there")]
    end = reply(TextSegment("t1", "**Hi** there."), done=True)
    assert texts(tuple(play(PIPE, *states, end))) == ["**Hi", "** th", "ere", "."]


def test_a_terminal_gets_a_block_when_it_can_no_longer_change() -> None:
    shown, parts = advance(PrintState(), reply(TextSegment("t1", "One.\n\nTw", open=True)), COLORLESS)
    assert texts(parts) == []
    shown, parts = advance(shown, reply(TextSegment("t1", "One.\n\nTwo\n", open=True)), COLORLESS)
    assert texts(parts) == ["One."]
    shown, parts = advance(shown, reply(TextSegment("t1", "One.\n\nTwo\nthree")), COLORLESS)
    assert texts(parts) == ["Two\nthree"]


def test_what_is_not_printed_yet_is_what_grows() -> None:
    state = reply(TextSegment("t1", "One.\n\nTwo.\n\nThr", open=True))
    shown, parts = advance(PrintState(), state, COLORLESS)
    assert texts(parts) == ["One."]
    assert growing(shown, state, COLORLESS) == ["Two.", "", "Thr"]
    assert growing(shown, reply(TextSegment("t1", "One.")), COLORLESS) == []


MARKDOWN = st.lists(
    st.sampled_from(
        [
            "word",
            " ",
            "\n",
            "\n\n",
            "- ",
            "1. ",
            "# ",
            "> ",
            "```",
            "`",
            "**",
            "*",
            "| a | b |\n|--|--|\n",
            "---",
            "    ",
        ]
    ),
    max_size=40,
).map("".join)


@settings(deadline=None)
@given(markdown=MARKDOWN, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_however_a_text_arrives_a_terminal_prints_it_once_and_whole(markdown: str, cuts: list[int]) -> None:
    states = [reply(TextSegment("t1", markdown[:cut], open=True)) for cut in sorted(cuts)]
    printed = texts(tuple(play(COLORLESS, *states, reply(TextSegment("t1", markdown), done=True))))
    whole = [unstyled("\n".join(block_lines(block, 60))) for block in parse(markdown)]
    assert "\n\n".join(printed) == "\n\n".join(filter(None, whole))


@settings(deadline=None)
@given(markdown=MARKDOWN, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_however_a_text_arrives_a_pipe_gets_it_as_it_is(markdown: str, cuts: list[int]) -> None:
    states = [reply(TextSegment("t1", markdown[:cut], open=True)) for cut in sorted(cuts)]
    printed = texts(tuple(play(PIPE, *states, reply(TextSegment("t1", markdown), done=True))))
    assert "".join(printed) == markdown


@pytest.mark.parametrize("style", [PIPE, COLORLESS], ids=["pipe", "terminal"])
def test_a_text_that_is_taken_back_is_said_to_begin_again(style: Style) -> None:
    first = reply(TextSegment("t1", "A first try.\n\nIt\nbrea", open=True))
    second = reply(TextSegment("t1", "A better one."), done=True)
    printed = texts(tuple(play(style, first, second)))
    assert printed[-2:] == ["(the answer was interrupted and starts again)", "A better one."]


def test_a_text_of_which_nothing_was_printed_is_taken_back_silently() -> None:
    first = reply(TextSegment("t1", "A first tr", open=True))
    second = reply(TextSegment("t1", "A better one."), done=True)
    assert texts(tuple(play(COLORLESS, first, second))) == ["A better one."]


@pytest.mark.parametrize("style", [PIPE, COLORLESS], ids=["pipe", "terminal"])
def test_an_older_state_changes_nothing(style: Style) -> None:
    texts_in_order = ("One.\n\nTwo\nthree\n", "One.\n\nTw", "One.\n\nTwo\nthree\nfour")
    states = [reply(TextSegment("t1", text, open=True)) for text in texts_in_order]
    printed = texts(tuple(play(style, *states, reply(TextSegment("t1", texts_in_order[-1]), done=True))))
    assert re.sub(r"\s+", " ", " ".join(printed)) == "One. Two three four"


def test_a_text_that_loses_its_last_line_break_is_the_same_text() -> None:
    states = reply(TextSegment("t1", "One.\n\nTwo.\n", open=True)), reply(TextSegment("t1", "One.\n\nTwo."), done=True)
    assert texts(tuple(play(COLORLESS, *states))) == ["One.", "Two."]


def test_an_interrupted_text_says_so() -> None:
    assert texts(tuple(play(COLORLESS, reply(TextSegment("t1", "I was ab", interrupted=True))))) == [
        "I was ab",
        "(interrupted)",
    ]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("done", "✓ shell: ls"),
        ("failed", "✗ failed: shell: ls"),
        ("skipped", "↷ skipped: shell: ls"),
        ("cancelled", "■ cancelled: shell: ls"),
        ("denied", "✗ denied: shell: ls"),
        ("unknown", "? interrupted by a restart: shell: ls"),
    ],
)
def test_a_call_is_one_line_once_its_end_is_known(state: CallState, line: str) -> None:
    call = CallSegment("c:1", "shell", "shell: ls", "waiting")
    states = (reply(call), reply(replace(call, state="running")), reply(replace(call, state=state)))
    printed = play(COLORLESS, *states, *states[-1:])
    assert [(part.text, part.secondary) for part in printed if isinstance(part, TextPart)] == [(line, True)]


def test_a_picture_stands_where_it_was_made_and_once() -> None:
    state = reply(
        TextSegment("t1", "Here:"), MediaSegment("m:1:0", CHART, "Cups"), TextSegment("t2", "There."), done=True
    )
    printed = play(COLORLESS, state, state)
    kinds = [part.text if isinstance(part, TextPart) else part for part in printed]
    assert [kind for kind in kinds if kind] == ["Here:", FilePart(CHART, "Cups"), "There."]


@pytest.mark.parametrize("style", [PIPE, COLORLESS], ids=["pipe", "terminal"])
def test_a_question_is_printed_with_its_numbered_options_and_its_answer_once_it_is_given(style: Style) -> None:
    question = QuestionSegment("q:r_1_0", "Which one?", ("Red", "Light\nblue"))
    answered = replace(question, open=False, answer="Light blue")
    printed = play(style, reply(question), reply(question), reply(answered), reply(answered), reply(question))
    assert [(part.text, part.secondary) for part in printed if isinstance(part, TextPart) and part.text] == [
        ("Which one?\n1) Red\n2) Light blue", False),
        ("→ Light blue", True),
    ]


@pytest.mark.parametrize("style", [PIPE, COLORLESS], ids=["pipe", "terminal"])
def test_a_decision_is_printed_with_the_words_for_how_it_ended(style: Style) -> None:
    question = QuestionSegment("d:a", "May I use `shell`?", ("Allow once", "Deny"), step=1)
    denied = replace(question, open=False, answer="Denied by Ada: too risky", decision="denied")
    *_, option, answer = texts(tuple(play(style, reply(question), reply(denied))))
    assert (option.endswith("2) Deny"), answer) == (True, "→ Denied by Ada: too risky")


@pytest.mark.parametrize("style", [PIPE, COLORLESS], ids=["pipe", "terminal"])
def test_what_is_told_of_the_work_is_printed_once_beside_the_answer(style: Style) -> None:
    thinking = TextSegment("r1", "> …one", open=True, step=1, secondary=True)
    thought, note = TextSegment("r1", "> One", step=1, secondary=True), TextSegment("n1", "Noted", secondary=True)
    begun, said = TextSegment("t1", "So\n\nbe", open=True, step=1), TextSegment("t1", "So\n\nbe it", step=1)
    states = [(thinking,), (thought, begun), (thought, note, begun), (thought, note, said), (thought, note, said)]
    printed = [part for part in play(style, *(reply(*state) for state in states)) if isinstance(part, TextPart)]
    assert "".join("".join(part.text for part in printed if not part.secondary).split()) == "Sobeit"
    asides = [part.text.strip(">▏ ") for part in printed if part.secondary]
    assert asides == ["One", "Noted"]
    assert printed[0].secondary


def test_a_question_that_was_answered_before_is_printed_without_its_options() -> None:
    past = QuestionSegment("q:r_1_0", "Which one?", ("Red", "Blue"), open=False, answer="Blue")
    assert texts(tuple(play(COLORLESS, reply(past, done=True)))) == ["Which one?", "→ Blue"]
    assert texts(tuple(play(COLORLESS, reply(replace(past, answer=""), done=True)))) == ["Which one?"]


def test_a_long_option_stays_behind_its_number() -> None:
    question = QuestionSegment("q:r_1_0", "**Which**?", ("word " * 20,))
    (text,) = texts(tuple(play(COLORLESS, reply(question))))
    asked, first, *rest = text.split("\n")
    assert (asked, first[:7]) == ("Which?", "1) word")
    assert rest
    assert all(line.startswith("   word") and len(line) <= 60 for line in rest)


@pytest.mark.parametrize("style", [PIPE, COLORLESS, TERMINAL], ids=["pipe", "colorless", "terminal"])
def test_a_model_cannot_steer_the_terminal(style: Style) -> None:
    evil = "\x1b]0;title\x07\x1b[2Jgone\x9b31m\r\x08 `\x1b[5m`"
    state = reply(TextSegment("t1", evil), CallSegment("c:1", "x", evil, "done"), MediaSegment("m", CHART, evil))
    question = QuestionSegment("q", evil, (evil,))
    state = replace(state, segments=(*state.segments, question, replace(question, key="p", open=False, answer=evil)))
    for part in play(style, state):
        text = part.caption if isinstance(part, FilePart) else part.text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", re.sub(r"\x1b\[[1-9;0]*m", "", text))
        assert "\x1b[2J" not in text
        assert "\x1b[5m" not in text


@pytest.mark.parametrize(
    ("markdown", "lines"),
    [
        ("# Title\n\ntext", ["\x1b[1m\x1b[4mTitle\x1b[0m"]),
        ("a **b** `c`", ["a \x1b[1mb\x1b[0m \x1b[36mc\x1b[0m"]),
        ("- one\n- two\n  - three", ["• one", "• two", "  • three"]),
        ("3. x\n4. y", ["3. x", "4. y"]),
        ("```py\nx = 1\n\ny\n```", ["  \x1b[36mx = 1\x1b[0m", "  ", "  \x1b[36my\x1b[0m"]),
        ("> q", ["\x1b[2m▏\x1b[0m q"]),
        ("[t](http://x)", ["\x1b[4mt\x1b[0m\x1b[4m \x1b[0m\x1b[4m(http://x)\x1b[0m"]),
        ("|a|b|\n|-|-|\n|1|22|", ["a │ b", "─ │ ──", "1 │ 22"]),
    ],
)
def test_markdown_stays_readable(markdown: str, lines: list[str]) -> None:
    assert block_lines(parse(markdown)[0], 60) == lines


def test_lines_break_between_words_by_the_width_of_letters() -> None:
    (block,) = parse("漢字漢字漢字 " * 6)
    lines = block_lines(block, 30)
    assert [line.strip() for line in lines] == ["漢字漢字漢字 漢字漢字漢字"] * 3


def test_without_color_there_are_no_escape_codes() -> None:
    state = reply(TextSegment("t1", "# T\n\n**b** `c`\n\n> q\n\n---"), CallSegment("c:1", "x", "x", "done"), done=True)
    assert "\x1b" not in "".join(texts(tuple(play(COLORLESS, state))))


@pytest.mark.parametrize(
    "segment",
    [
        QuestionSegment("retry:1", "⚠️ I could not finish this.", ("Try again",), typed="`/retry` tries again."),
        TextSegment("end", "⏹ _Stopped._", unanswered=True),
    ],
)
@pytest.mark.parametrize(("style", "apart"), [(PIPE, True), (TERMINAL, False)])
def test_a_pipe_tells_failures_and_offers_beside_the_answer(segment: Segment, style: Style, apart: bool) -> None:
    printed = play(style, reply(segment), reply(segment, done=True))
    told = [part for part in printed if isinstance(part, TextPart) and part.text]
    assert told
    assert all(part.secondary is apart for part in told)
