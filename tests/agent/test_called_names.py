"""Names of tools as models write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.log import Call, Text
from agent.model import Answer, ToolSpec
from agent.models.called_names import known_name, with_known_names

DECLARED = ("shell", "web_search", "read_file", "tools_list")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shell", "shell"),
        ("functions.shell", "shell"),
        ("functions.shell:0", "shell"),
        ("functions__shell", "shell"),
        ("shell<|channel|>commentary", "shell"),
        ("tools/shell", "shell"),
        ("default_api.read_file", "read_file"),
        ("Shell", "shell"),
        ('"shell"', "shell"),
        (" shell\n", "shell"),
        ("shell()", "shell"),
        ("read-file", "read_file"),
        ("ReadFile", "read_file"),
        ("web search", "web_search"),
        ("tools_list", "tools_list"),
    ],
)
def test_the_tool_that_is_meant_is_called(name: str, meant: str) -> None:
    assert known_name(name, DECLARED) == meant


@pytest.mark.parametrize("name", ["evil.shell", "shell!", "日本shell", "x" * 70, "日本語", "", "delete file", "shel"])
def test_any_other_name_is_no_tools_and_accepted_by_every_provider(name: str) -> None:
    accepted = known_name(name, DECLARED)
    assert accepted not in DECLARED
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", accepted)


def test_a_name_that_two_tools_may_have_meant_is_none_of_them() -> None:
    assert known_name("ReadFile", ("read_file", "read-file")) == "ReadFile"


def test_only_the_names_of_an_answers_calls_change() -> None:
    answer = Answer((Text("I look."), Call("a", "functions.shell", "{}")))
    specs = [ToolSpec(name, "", {}) for name in DECLARED]
    assert with_known_names(answer, specs).parts == (Text("I look."), Call("a", "shell", "{}"))
    assert with_known_names(Answer((Text("Hi."),)), specs).parts == (Text("Hi."),)


@given(st.text())
def test_every_name_ends_in_the_grammar(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", known_name(name, DECLARED))
