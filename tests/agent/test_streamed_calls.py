"""Calls put together from the pieces in which servers stream them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.models.protocols.tool_calls import CallAssembler

Piece = tuple[object, object, object, object]
"""Index, id, name and arguments, as a server sent them."""


def put_together(*pieces: Piece) -> list[tuple[str, str]]:
    assembler = CallAssembler()
    for index, id, name, arguments in pieces:
        assembler.add(index=index, id=id, name=name, arguments=arguments)
    return [(call.name, call.arguments) for call in assembler.calls()]


SHELL = ("shell", '{"command": "ls"}')
LOOK = ("look", '{"at": 5}')

STREAMS: dict[str, tuple[list[Piece], list[tuple[str, str]]]] = {
    "as documented": (
        [(0, "a", "shell", ""), (0, None, None, '{"comm'), (0, None, None, 'and": "ls"}'), (1, "b", *LOOK)],
        [SHELL, LOOK],
    ),
    "index always 0": ([(0, "a", *SHELL), (0, "b", *LOOK), (0, "c", *LOOK)], [SHELL, LOOK, LOOK]),
    "index always 0, without ids": ([(0, None, *SHELL), (0, None, *LOOK)], [SHELL, LOOK]),
    "without an index": (
        [(None, "a", "shell", '{"command":'), (None, None, None, ' "ls"}'), (None, "b", *LOOK)],
        [SHELL, LOOK],
    ),
    "without index and ids": (
        [(None, None, "shell", '{"command":'), (None, None, None, ' "ls"}'), (None, None, *LOOK)],
        [SHELL, LOOK],
    ),
    "without arguments, index and ids": (
        [(None, None, "look", "{}"), (None, None, "list", "{}")],
        [("look", "{}"), ("list", "{}")],
    ),
    "the index as a text": ([("0", "a", *SHELL), ("1", "b", *LOOK)], [SHELL, LOOK]),
    "an index of no type": ([({}, "a", *SHELL), ([], "b", *LOOK)], [SHELL, LOOK]),
    "name and id in every piece": (
        [(0, "a", "shell", '{"command":'), (0, "a", "shell", ' "ls"'), (0, "a", "shell", "}")],
        [SHELL],
    ),
    "the name in every piece": ([(0, None, "shell", '{"command":'), (0, None, "shell", ' "ls"}')], [SHELL]),
    "a new id for every piece": ([(0, "a", "shell", '{"command":'), (0, "b", "shell", ' "ls"}')], [SHELL]),
    "the name in pieces": ([(0, "a", "she", None), (0, None, "ll", None), (0, None, None, SHELL[1])], [SHELL]),
    "the name grows": ([(0, "a", "she", None), (0, "a", "shell", None), (0, None, None, SHELL[1])], [SHELL]),
    "the id first": ([(0, "a", None, None), (0, None, "shell", None), (0, None, None, SHELL[1])], [SHELL]),
    "the id last": ([(0, None, "shell", SHELL[1]), (0, "a", None, None)], [SHELL]),
    "by turns": (
        [(0, "a", "shell", '{"command"'), (1, "b", "look", '{"at"'), (0, None, None, ': "ls"}'), (1, "", "", ": 5}")],
        [SHELL, LOOK],
    ),
    "the same id for all": ([(0, "x", *SHELL), (1, "x", *LOOK)], [SHELL, LOOK]),
    "all again at the end": (
        [
            (0, "a", "shell", '{"command"'),
            (0, None, None, ': "ls"}'),
            (1, "b", *LOOK),
            (0, "a", *SHELL),
            (1, "b", *LOOK),
        ],
        [SHELL, LOOK],
    ),
    "all again at the end, without ids": (
        [(None, None, *SHELL), (None, None, *LOOK), (None, None, *SHELL), (None, None, *LOOK)],
        [SHELL, LOOK],
    ),
    "snapshots": ([(0, "a", "shell", '{"comm'), (0, "a", "shell", '{"command": "ls"}')], [SHELL]),
    "a placeholder first": ([(0, "a", "shell", "{}"), (0, None, None, SHELL[1])], [SHELL]),
    "an object": ([(0, "a", "shell", {"command": "ls"})], [SHELL]),
    "JSON in JSON": ([(0, "a", "shell", json.dumps(SHELL[1]))], [SHELL]),
    "a comma at the end": ([(0, "a", "shell", '{"command": "ls",}')], [SHELL]),
    "Python": ([(0, "a", "shell", "{'command': 'ls'}")], [SHELL]),
    "a fence": ([(0, "a", "shell", '```json\n{"command": "ls"}\n```')], [SHELL]),
    "a line break in a text": ([(0, "a", "shell", '{"command": "a\nb"}')], [("shell", '{"command": "a\\nb"}')]),
    "null": ([(0, "a", "look", None)], [("look", "{}")]),
    "null as a text": ([(0, "a", "look", "null")], [("look", "{}")]),
    "nothing": ([(0, "a", "look", "")], [("look", "{}")]),
    "a number as the name": ([(0, "a", 5, "{}")], [("5", "{}")]),
    "a piece that says nothing": ([(0, None, None, None), (0, "a", *SHELL)], [SHELL]),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_calls_are_put_together(stream: str) -> None:
    pieces, calls = STREAMS[stream]
    assert put_together(*pieces) == calls


@pytest.mark.parametrize(
    "arguments",
    ['{"command": "rm -r /tmp', '{"command": "rm"}{"command": "ls"}', "rm", '["rm"]', "5", '{"command": }', "{1: 2}"],
)
def test_arguments_that_are_not_certain_stay_as_they_were_written(arguments: str) -> None:
    assert put_together((0, "a", "shell", arguments)) == [("shell", arguments)]


def test_two_different_objects_are_not_certain() -> None:
    assert put_together((0, "a", "shell", '{"command": "rm"}'), (0, None, None, '{"command": "ls"}')) == [
        ("shell", '{"command": "rm"}{"command": "ls"}')
    ]


def test_every_call_has_an_id() -> None:
    assembler = CallAssembler()
    assembler.add(name="look", arguments="{}")
    assembler.add(name="list", arguments="{}")
    first, second = assembler.calls()
    assert first.id
    assert second.id
    assert first.id != second.id


def test_a_piece_says_which_call_it_belongs_to() -> None:
    assembler = CallAssembler()
    assert assembler.add() is None
    assert [assembler.add(index=index, name="look") for index in (0, 1, 0)] == [0, 1, 0]


OBJECTS = st.dictionaries(
    st.text(max_size=4), st.one_of(st.text(), st.integers(), st.none(), st.booleans()), max_size=3
)


@given(st.lists(OBJECTS, min_size=1, max_size=4), st.lists(st.integers(1, 6), max_size=8))
def test_however_calls_are_cut_they_are_the_same(objects: list[dict[str, Any]], cuts: list[int]) -> None:
    pieces: list[Piece] = []
    for number, arguments in enumerate(objects):
        rest = json.dumps(arguments)
        pieces.append((number, f"id{number}", "look", ""))
        for cut in cuts:
            pieces.append((number, None, None, rest[:cut]))
            rest = rest[cut:]
        pieces.append((number, None, None, rest))
    assert [json.loads(arguments) for _, arguments in put_together(*pieces)] == objects


ODD = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), OBJECTS)


@given(st.lists(st.tuples(ODD, ODD, ODD, ODD), max_size=8))
def test_whatever_a_server_sends_there_are_calls(pieces: list[Piece]) -> None:
    for name, arguments in put_together(*pieces):
        assert isinstance(name, str)
        assert isinstance(arguments, str)


def test_the_work_grows_with_the_arguments_and_not_with_their_square() -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        put_together((0, "a", "look", '{"at": "'), *([(0, "a", "look", 'a "{')] * count), (0, "a", "look", '"}'))
        return time.process_time() - start

    seconds(500)
    assert seconds(16_000) < 60 * max(seconds(1_000), 0.002)
