"""The text of an answer, its reasoning and the calls in it, however the answer is cut into pieces."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Sequence, Set

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.events import Delta, ReasoningDelta, TextDelta, Withdrawn
from agent.log import Call, Part, Text, Thinking, text_of
from agent.models.protocols.answer_text import AnswerText

BAR = "\N{FULLWIDTH VERTICAL LINE}"
LS = '{"command": "ls"}'
CALL = '{"name": "shell", "arguments": {"command": "ls"}}'


def shown(deltas: Iterable[Delta]) -> tuple[str, str]:
    """The text and the reasoning that people see in the end."""
    text = thoughts = ""
    for delta in deltas:
        match delta:
            case TextDelta(piece):
                text += piece
            case ReasoningDelta(piece):
                thoughts += piece
            case Withdrawn():
                text = thoughts = ""
            case _:
                raise AssertionError(delta)
    return text, thoughts


def read(
    *pieces: str, with_calls: bool = False, tools: Set[str] = frozenset()
) -> tuple[tuple[Part, ...], tuple[str, str]]:
    answer = AnswerText(tools=tools)
    deltas = [delta for piece in pieces for delta in answer.add(piece)]
    deltas += answer.end(with_calls=with_calls)
    return answer.parts(), shown(deltas)


def thoughts_of(parts: Sequence[Part]) -> list[str]:
    return [part.text for part in parts if isinstance(part, Thinking)]


def calls_of(parts: Sequence[Part]) -> list[tuple[str, str]]:
    return [(part.name, part.arguments) for part in parts if isinstance(part, Call)]


REASONING = {
    "<think>\nHm.\n</think>\n\nFour.": ("Hm.", "Four."),
    "<THINK>Hm.</THINK>Four.": ("Hm.", "Four."),
    "<thinking>Hm.</thinking>\nFour.": ("Hm.", "Four."),
    "<thought>Hm.</thought>\nFour.": ("Hm.", "Four."),
    "<reasoning>Hm.</reasoning>\nFour.": ("Hm.", "Four."),
    "[THINK]Hm.[/THINK]Four.": ("Hm.", "Four."),
    "◁think▷Hm.◁/think▷Four.": ("Hm.", "Four."),
    "\n\n<think>Hm.</think>\n\nFour.": ("Hm.", "Four."),
    "<think>\n\n</think>\n\nFour.": (None, "Four."),
    "<think>a < b, `</think>` is a tag</think>Four.": ("a < b, `</think>` is a tag", "Four."),
    "Hm, well.\n</think>\n\nFour.": ("Hm, well.", "Four."),
    "Hm, well.</think>Four.": ("Hm, well.", "Four."),
    "\n</think>\n\nFour.": (None, "Four."),
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>": (
        "Hm.",
        "Four.",
    ),
}


@pytest.mark.parametrize("written", REASONING)
def test_reasoning_is_not_the_answer(written: str) -> None:
    thought, text = REASONING[written]
    parts, (seen, seen_thoughts) = read(*written)
    assert (thoughts_of(parts), text_of(parts)) == ([thought] if thought else [], text)
    assert (seen, seen_thoughts.strip()) == (text, thought or "")


def test_reasoning_without_a_beginning_is_withdrawn_when_its_end_comes() -> None:
    answer = AnswerText()
    assert answer.add("Hm, well.") == [TextDelta("Hm, well.")]
    assert answer.add("\n</think>\n\nFour.") == [Withdrawn(), ReasoningDelta("Hm, well.\n"), TextDelta("Four.")]


@pytest.mark.parametrize(
    "written",
    [
        "Use `<think>` and `</think>`.",
        "The <think> tag begins it, and </think> ends it.",
        "Write <think></think> around it.",
        "```\n<think>\nHm.\n</think>\n```\nLike this.",
        "~~~xml\n</think>\n~~~",
        "````md\n```\n<tool_call>\n```\n````\nLike this.",
        f"Write `<tool_call>{CALL}</tool_call>`.",
        f"One would write <tool_call>{CALL}</tool_call> there.",
        f"```\n<tool_call>{CALL}</tool_call>\n```",
        "The token <|im_end|> ends it.",
        "```python\nprint(shell(command='ls'))\n```",
        "a < b, x[0] and <s>old</s> ~~new~~",
    ],
)
def test_what_is_quoted_stays_text(written: str) -> None:
    parts, (seen, _) = read(*written)
    assert (parts, seen) == ((Text(written),), written)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<think>It is four.", "It is four."),
        ("Well.\n<think>It is four.", "Well.\nIt is four."),
        ("<think>It is four.</think>", "It is four."),
        ("<think>It is four.</think>\n\n", "It is four."),
    ],
)
def test_a_tag_that_is_not_closed_or_that_nothing_follows_never_loses_the_answer(written: str, text: str) -> None:
    parts, (seen, _) = read(*written)
    assert (text_of(parts), seen, thoughts_of(parts)) == (text, text, [])


def test_before_calls_a_tag_that_is_not_closed_is_reasoning() -> None:
    parts, (seen, _) = read("<think>I have to look", with_calls=True)
    assert (thoughts_of(parts), seen) == (["I have to look"], "")


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ('{"name": "shell", "arguments": {"command": "ls"}}', 1),
        ('\n{"name": "shell", "parameters": {"command": "ls"}}\n', 1),
        ('{"type": "function", "name": "shell", "parameters": {"command": "ls"}}', 1),
        ('{"function": "shell", "arguments": "{\\"command\\": \\"ls\\"}"}', 1),
        ('```json\n{\n  "name": "shell",\n  "arguments": {"command": "ls"}\n}\n```', 1),
        ('```\n{"name": "shell", "arguments": {"command": "ls"}}\n```', 1),
        (f"[{CALL}, {CALL}]", 2),
        (f"{CALL}\n{CALL}", 2),
        (f"<think>Hm.</think>\n\n{CALL}", 1),
    ],
)
def test_an_answer_that_is_nothing_but_the_json_of_a_call_is_a_call(written: str, count: int) -> None:
    for pieces in ((written,), tuple(written), (written[:9], written[9:])):
        parts, (seen, _) = read(*pieces, tools=frozenset({"shell"}))
        assert [(part.name, part.arguments) for part in parts if isinstance(part, Call)] == [("shell", LS)] * count
        assert (seen, text_of(parts)) == ("", "")


@pytest.mark.parametrize(
    "written",
    [
        '{"name": "other", "arguments": {"command": "ls"}}',
        '{"name": "shell", "version": 7}',
        '{"name": "shell", "arguments": {"command": "ls"',
        f"{CALL}\n\nThis is how a call of the tool looks.",
        f"A call looks so:\n\n{CALL}",
        f"```json\n{CALL}\n```\nThis is how a call of the tool looks.",
        '{"a": 1}',
        "```python\nprint(1)\n```",
        "[1, 2]",
        "{",
        "`name`",
    ],
)
def test_other_json_is_text(written: str) -> None:
    for pieces in ((written,), tuple(written), (written[:9], written[9:])):
        parts, (seen, _) = read(*pieces, tools=frozenset({"shell"}))
        assert (parts, seen) == ((Text(written),), written)
    parts, _ = read(CALL, with_calls=True, tools=frozenset({"shell"}))
    assert parts == (Text(CALL),)


RAW_CALLS = {
    f"<tool_call>\n{CALL}\n</tool_call>": [("shell", LS)],
    f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>": [("shell", LS)] * 2,
    f"<tool_calls>\n<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>\n</tool_calls>": [("shell", LS)] * 2,
    f"<tool_call>[{CALL}, {CALL}]</tool_call>": [("shell", LS)] * 2,
    f"<tool_call>{CALL}": [("shell", LS)],
    '<tool_call>{"name": "shell", "arguments": {"command": "ls",}}</tool_call>': [("shell", LS)],
    '<tool_call>{"name": "shell", "arguments": "{\\"command\\": \\"ls\\"}"}</tool_call>': [("shell", LS)],
    "<tool_call>\n<function=shell>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>": [("shell", LS)],
    "<function=shell>\n<parameter=command>\nls\n</parameter>\n</function>": [("shell", LS)],
    f"<function=shell>{LS}</function>": [("shell", LS)],
    "<tool_call>shell\n<arg_key>command</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>": [("shell", LS)],
    '<function_calls>\n<invoke name="shell">\n<parameter name="command">ls</parameter>\n</invoke>\n</function_calls>': [
        ("shell", LS)
    ],
    '<minimax:tool_call>\n<invoke name="shell">\n<parameter name="command">ls</parameter>\n</invoke>'
    "\n</minimax:tool_call>": [("shell", LS)],
    f'<{BAR}DSML{BAR}function_calls>\n<{BAR}DSML{BAR}invoke name="shell">\n<{BAR}DSML{BAR}parameter name="command" '
    f'string="true">ls</{BAR}DSML{BAR}parameter>\n</{BAR}DSML{BAR}invoke>\n</{BAR}DSML{BAR}function_calls>': [
        ("shell", LS)
    ],
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.shell:0<|tool_call_argument_begin|>"
    f"{LS}<|tool_call_end|><|tool_calls_section_end|>": [("functions.shell:0", LS)],
    f"<|tool_call_begin|>functions.shell:0<|tool_call_argument_begin|>{LS}<|tool_call_end|>": [
        ("functions.shell:0", LS)
    ],
    f"[TOOL_CALLS][{CALL}]": [("shell", LS)],
    f"[TOOL_CALLS]shell[ARGS]{LS}": [("shell", LS)],
    f"[TOOL_CALLS]shell[CALL_ID]a1b2[ARGS]{LS}[TOOL_CALLS]shell[ARGS]{LS}": [("shell", LS)] * 2,
    f"[TOOL_REQUEST]\n{CALL}\n[END_TOOL_REQUEST]": [("shell", LS)],
    f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>function<{BAR}tool▁sep{BAR}>shell\n```json\n{LS}\n```"
    f"<{BAR}tool▁call▁end{BAR}><{BAR}tool▁calls▁end{BAR}>": [("shell", LS)],
    f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>shell<{BAR}tool▁sep{BAR}>{LS}<{BAR}tool▁call▁end{BAR}>"
    f"<{BAR}tool▁calls▁end{BAR}>": [("shell", LS)],
    f"<|tool_call|>[{CALL}]<|/tool_call|>": [("shell", LS)],
    '<|tool_call_start|>[shell(command="ls")]<|tool_call_end|>': [("shell", LS)],
    '<|python_tag|>{"name": "shell", "parameters": {"command": "ls"}}<|eom_id|>': [("shell", LS)],
    '<|python_tag|>shell.call(command="ls")<|eom_id|>': [("shell", LS)],
    '```tool_code\nprint(shell(command="ls"))\n```': [("shell", LS)],
    f"```tool_call\n{CALL}\n```": [("shell", LS)],
    f"<|channel|>commentary to=functions.shell <|constrain|>json<|message|>{LS}<|call|>": [("functions.shell", LS)],
    '<tool_call>{"name": "shell", "arguments": {"command": "echo </tool_call>"}}</tool_call>': [
        ("shell", '{"command": "echo </tool_call>"}')
    ],
}


@pytest.mark.parametrize("written", RAW_CALLS)
def test_a_call_in_the_text_is_a_call_and_never_shown(written: str) -> None:
    on_the_line = () if written.startswith("```") else ("I look. ",)
    for before in ("", "I look.\n", "I look.\n\n", *on_the_line):
        parts, (seen, _) = read(*before, *written)
        assert (calls_of(parts), text_of(parts), seen) == (RAW_CALLS[written], before, before)


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ('<tool_call>{"name": "shell", "arguments": {"command": "rm -r /tmp', "shell"),
        ("<tool_call>run ls, please</tool_call>", ""),
        ("<function=shell>\n<parameter=command>\nrm -r /tmp", "shell"),
        ('```tool_code\nshell("ls")\n```', "shell"),
        ("<|tool_call_begin|>functions.shell:0<|tool_call_argument_begin|>{", ""),
    ],
)
def test_a_call_that_is_not_certain_is_hidden_and_can_be_answered(written: str, calls: str) -> None:
    parts, (seen, _) = read(*written)
    ((name, arguments),) = calls_of(parts)
    assert seen == ""
    assert not arguments.startswith('{"command"')
    assert name == (calls or "unreadable_call")


def test_text_goes_on_after_a_call() -> None:
    parts, (seen, _) = read(f"I look.\n<tool_call>{CALL}</tool_call>\nThat is all.")
    assert (calls_of(parts), seen) == ([("shell", LS)], "I look.\n\nThat is all.")


def test_text_is_shown_at_once_and_only_what_may_be_a_tag_waits() -> None:
    answer = AnswerText()
    assert answer.add("Well, ") == [TextDelta("Well, ")]
    assert answer.add("a <") == [TextDelta("a ")]
    assert answer.add(" b <to") == [TextDelta("< b ")]
    assert answer.add("p> and [1") == [TextDelta("<top> and [1")]
    assert answer.add("].") == [TextDelta("].")]


@pytest.mark.parametrize("written", ['{"a"', '{"version"', "```p", "``` python", "[1", "{ x", "<b"])
def test_what_cannot_be_the_json_of_a_call_is_shown_at_once(written: str) -> None:
    answer = AnswerText(tools=frozenset({"shell"}))
    shown_so_far = shown([delta for piece in (*written, "bc") for delta in answer.add(piece)])
    assert shown_so_far == (f"{written}bc", "")


def test_line_breaks_before_the_answer_go() -> None:
    assert read("\n", "\n  \n", "Four.\n")[0] == (Text("Four.\n"),)


PIECES = (
    CALL,
    *REASONING,
    *RAW_CALLS,
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|channel|>", "<|message|>", "<|end|>"),
    *("`", "``", "```", "```tool_code", "~~~", "\n", "\n\n", " ", "{", "}", '"', "a", "Well.", "<", "[", "İK◁"),
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.lists(st.integers(1, 9)), st.booleans())
def test_however_an_answer_is_cut_the_result_is_the_same(written: str, cuts: list[int], with_calls: bool) -> None:
    pieces, rest = [], written
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    for tools in (frozenset[str](), frozenset({"shell"})):
        whole = read(written, with_calls=with_calls, tools=tools)
        assert read(*pieces, rest, with_calls=with_calls, tools=tools) == whole
        assert read(*written, with_calls=with_calls, tools=tools) == whole


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12))
def test_what_is_shown_is_what_the_answer_says(pieces: list[str]) -> None:
    parts, (seen, _) = read(*pieces, tools=frozenset({"shell"}))
    if "\ud800" <= max("".join(pieces), default="") <= "\udfff" or "\0" in "".join(pieces):
        return
    assert seen == text_of(parts)


@pytest.mark.parametrize(
    "piece", ["word ", "<", "<think>", "\n", "`", "```\n", "<tool_call>{", "</tool_call>", "<|channel|>", "word <to"]
)
@pytest.mark.parametrize("before", ["", "<tool_call>{", "<think>"])
def test_the_work_grows_with_the_text_and_not_with_its_square(before: str, piece: str) -> None:
    def seconds(count: int) -> float:
        # A collection takes longer the more else is in memory.
        gc.disable()
        try:
            start = time.process_time()
            read(before, *[piece] * count)
            return time.process_time() - start
        finally:
            gc.enable()

    seconds(500)
    # A square would be 256 times the work.
    assert seconds(16_000) < 150 * max(min(seconds(1_000) for _ in range(3)), 0.001)


@pytest.mark.parametrize(
    ("before", "call", "after"),
    [
        ("<tool_call>", '{"name":"a"}', "</tool_call>"),
        ("[TOOL_CALLS]", "a{}", "[/TOOL_CALLS]"),
        ("<|tool_calls_section_begin|>", "<|tool_call_begin|>a<|tool_call_argument_begin|>{}<|tool_call_end|>", ""),
    ],
)
def test_so_does_the_work_of_many_calls_in_one_piece(before: str, call: str, after: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        parts, _ = read(before + call * count + after)
        assert len(parts) == count
        return time.process_time() - start

    seconds(500)
    # A square would be 1,024 times the work.
    assert seconds(32_000) < 400 * max(min(seconds(1_000) for _ in range(3)), 0.001)
