"""The gate before the log: whatever is put in, what comes out is stored, and read again as it was."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events import Charged, Logged, TextDelta
from agent.gate import MAX_COUNT, MAX_DEPTH, TextJoiner, count, json_text, json_value, storable, text, tokens
from agent.log import (
    ApprovalRequested,
    Call,
    CallEnded,
    Entry,
    ModelAnswered,
    Notice,
    Text,
    Thinking,
    Usage,
    UserMessage,
    dump,
    load,
)
from agent.media import Attachment
from tests.agent.logs import logs

KINDS: tuple[Any, ...] = get_args(Entry)

texts = st.text(st.characters(exclude_categories=()), max_size=12)
scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | texts | st.just("done")
)
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def junk_of(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{field.name: junk for field in fields(kind) if field.name != "kind"})


values = junk | st.one_of(*map(junk_of, (Text, Thinking, Call, Usage, UserMessage, Attachment)))


def broken(kind: Any) -> st.SearchStrategy[Any]:
    names = [field.name for field in fields(kind) if field.name != "kind"]
    return st.builds(kind, **dict.fromkeys(names, values | st.lists(values, max_size=3).map(tuple)))


@given(st.one_of(*map(broken, KINDS)))
def test_any_entry_becomes_one_that_is_read_again_as_it_was(entry: Any) -> None:
    passed = storable(entry)
    assert storable(passed) is passed
    assert load([dump(passed)]) == (passed,)
    dump(passed).encode()
    (read,) = load([dump(entry)])
    assert type(read) is type(entry)


@given(logs)
def test_what_is_whole_passes_unchanged(log: tuple[Entry, ...]) -> None:
    assert all(storable(entry) is entry for entry in log)


@given(st.sampled_from(KINDS), st.data())
def test_any_stored_object_of_a_known_kind_is_read(kind: Any, data: st.DataObject) -> None:
    names = [field.name for field in fields(kind) if field.name != "kind"]
    stored = {"kind": kind.__dataclass_fields__["kind"].default}
    stored |= {name: data.draw(junk) for name in names if data.draw(st.booleans())}
    (read,) = load([json.dumps(stored)])
    assert type(read) is kind
    assert load([dump(read)]) == (read,)


@pytest.mark.parametrize(
    "line", ["", "{", "5", "[]", '{"kind": 5}', '{"kind": "later"}', "[" * 100_000, '{"kind": {}}']
)
def test_what_is_no_entry_is_told_in_its_place(line: str) -> None:
    whole = ModelAnswered(1, (Text("Hello."),))
    first, read, last = load([dump(whole), line or "null", dump(whole)])
    assert (first, last) == (whole, whole)
    assert isinstance(read, Notice)


def test_an_entry_is_read_with_its_broken_part_replaced() -> None:
    stored = dump(ModelAnswered(3, (Text("Hello."), Call("c", "shell", "{}")), Usage(10, 5), "m"))
    stored = stored.replace('"input":10', '"input":10.5').replace('"name":"shell"', '"name":["shell"]')
    assert load([stored]) == (ModelAnswered(3, (Text("Hello."), Call("c", '["shell"]', "{}")), Usage(10, 5), "m"),)


@given(st.text(max_size=20), st.data())
def test_pairs_that_were_split_are_joined(whole: str, data: st.DataObject) -> None:
    units = whole.encode("utf-16-le")
    halves = [units[start : start + 2].decode("utf-16-le", "surrogatepass") for start in range(0, len(units), 2)]
    joiner, shown = TextJoiner(), ""
    while halves:
        size = data.draw(st.integers(1, 4))
        shown += joiner.add("".join(halves[:size]))
        del halves[:size]
        shown.encode()
    assert shown == text(whole)


@given(texts)
def test_a_text_that_passed_can_be_encoded_and_passes_again(raw: str) -> None:
    passed = text(raw)
    passed.encode()
    assert "\0" not in passed
    assert text(passed) is passed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((5, 5), (10.5, 10), ("12", 12), ("10.5", 10), (10.0, 10)),
        *((-1, 0), (10**30, 0), (float("nan"), 0), (float("inf"), 0), ("inf", 0), ("many", 0), ("9" * 5000, 0)),
        *((None, 0), (True, 0), ([5], 0), ({"a": 1}, 0)),
    ],
)
def test_counts(value: object, expected: int) -> None:
    assert count(value) == tokens(value) == expected


def test_a_count_of_tokens_is_a_credible_one() -> None:
    assert (count(10**10), tokens(10**10), count(MAX_COUNT + 1)) == (10**10, 0, 0)


@pytest.mark.parametrize("value", [float("nan"), 10**400, {1: object()}, [[["\ud83d"]]], {"a": ({"b"}, b"\0")}])
def test_what_is_no_json_becomes_json(value: object) -> None:
    assert json.dumps(json_value(value), allow_nan=False, ensure_ascii=False).encode()


@given(junk)
def test_json_passes_in_its_form(value: object) -> None:
    passed = json_value(value)
    assert json.dumps(passed, allow_nan=False, ensure_ascii=False).encode()
    assert json_value(passed) == passed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": "b"}', '{"a": "b"}'),
        (r'{"a": "\u00e9"}', r'{"a": "\u00e9"}'),
        (r'{"a": "\ud83d\ude00"}', r'{"a": "\ud83d\ude00"}'),
        (r'{"a": "\ud83a", "n": 1.50}', r'{"a": "\ufffd", "n": 1.5}'),
        (r'{"a": "\\ud83a"}', r'{"a": "\\ud83a"}'),
        ('{"a": "\ud83a"}', '{"a": "�"}'),
        ("{broken \\ud83a", "{broken \\ud83a"),
        ("", ""),
    ],
)
def test_arguments_are_changed_only_where_they_must_be(arguments: str, expected: str) -> None:
    assert json_text(arguments) == expected


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 900, 100_000])
def test_arguments_that_are_nested_too_deeply_say_so(levels: int) -> None:
    assert "nested too deeply" in json_text("[" * levels + "]" * levels)
    assert json_text("[" * 60 + "]" * 60) == "[" * 60 + "]" * 60
    assert len(json_text("[" * levels)) <= levels


def test_events_pass_too() -> None:
    assert storable(TextDelta("a\ud83d")) == TextDelta("a�")
    broken_usage: Any = 10.5
    assert storable(Charged(Usage(broken_usage), "m", "failed")) == Charged(Usage(10), "m", "failed")
    assert storable(Logged(ModelAnswered(1, (Text("a\0"),)))) == Logged(ModelAnswered(1, (Text("a�"),)))


def test_a_request_in_a_log_of_an_earlier_version_has_the_text_that_a_hook_supplied() -> None:
    stored = {
        "kind": "approval_requested",
        "id": "c",
        "subject": "call",
        "question": "?",
        "options": [],
        "expires_at": 1,
    }
    (read,) = load([json.dumps({**stored, "response": "42"})])
    assert isinstance(read, ApprovalRequested)
    assert read.supplied == CallEnded("c", "done", "42")
