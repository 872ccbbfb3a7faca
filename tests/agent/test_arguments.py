"""Arguments of calls: what is meant runs, and what is not certain is refused by name."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agent.arguments import fit_arguments
from agent.tool import ToolContext, ToolError, tool


class Place(BaseModel):
    x: int
    name: str = ""


@tool(effect="read")
async def look(
    context: ToolContext,
    path: str,
    file_name: str = "",
    lines: int = 3,
    size: float = 1.0,
    deep: bool = False,
    only: list[str] = [],  # noqa: B006  # a declared default
    most: int | None = None,
    place: Place | None = None,
    order: Literal["up", "down"] = "up",
) -> str:
    """Looks."""
    return ""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"lines": "5"}, {"lines": 5}),
        ({"lines": 5.0}, {"lines": 5}),
        ({"size": "1.5"}, {"size": 1.5}),
        ({"deep": "True"}, {"deep": True}),
        ({"most": "5"}, {"most": 5}),
        ({"most": None}, {"most": None}),
        ({"lines": None, "only": None, "order": None}, {}),
        ({"only": "a"}, {"only": ["a"]}),
        ({"only": '["a", "b"]'}, {"only": ["a", "b"]}),
        ({"only": [1, "b"]}, {"only": ["1", "b"]}),
        ({"file_name": 5}, {"file_name": "5"}),
        ({"fileName": "b"}, {"file_name": "b"}),
        ({"place": '{"x": "3"}'}, {"place": {"x": 3}}),
        ({"place": {"x": "3", "name": None}}, {"place": {"x": 3}}),
        ({"why": None}, {}),
    ],
)
def test_arguments_run_as_they_are_meant(written: dict[str, Any], meant: dict[str, Any]) -> None:
    assert json.loads(look.fit(json.dumps({"path": "a", **written}))) == {"path": "a", **meant}
    look.check(json.dumps({"path": "a", **written}))


def test_arguments_in_a_text_are_read() -> None:
    assert look.fit(json.dumps(json.dumps({"path": "a"}))) == '{"path": "a"}'


def test_arguments_that_fit_stay_as_they_were_written() -> None:
    written = '{"path":"a",  "lines":3}'
    assert look.fit(written) is written


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('{"path": "a", "lines": "five"}', "lines: "),
        ('{"path": null}', "path: "),
        ("null", "path: "),
        ('{"path": {"a": 1}}', "path: "),
        ('{"path": "a", "why": "because"}', "why: .*The arguments are: path, file_name, lines"),
        ('{"path": "a", "deep": "perhaps"}', "deep: "),
        ('{"path": "a", "order": "left"}', "order: "),
        ('{"path": "a", "fileName": "b", "filename": "c"}', "fileName: "),
        ('{"path": "a"', "Invalid JSON"),
        ("[]", "arguments: "),
    ],
)
def test_what_is_not_certain_is_refused_by_name(written: str, named: str) -> None:
    with pytest.raises(ToolError, match=f"Invalid arguments for look: .*{named}"):
        look.check(written)


@pytest.mark.parametrize("name", ["", "größe", "a" * 65, "two words", "a.b"])
def test_a_tool_with_a_name_that_providers_refuse_cannot_be_made(name: str) -> None:
    async def work(context: ToolContext) -> str:
        """Works."""
        return ""

    work.__name__ = name
    with pytest.raises(ValueError, match="cannot have this name"):
        tool(effect="read")(work)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
KEYWORDS = st.sampled_from(["type", "properties", "items", "required", "anyOf", "enum", "$ref", "additionalProperties"])
SCHEMAS = st.recursive(
    st.one_of(JSON, st.sampled_from(["string", "integer", "array", "object", "null", "#/properties", "#/anyOf/0"])),
    lambda inner: st.one_of(st.dictionaries(KEYWORDS, inner, max_size=4), st.lists(inner, max_size=2)),
    max_leaves=12,
)


@given(st.dictionaries(KEYWORDS, SCHEMAS, max_size=4), JSON)
def test_any_schema_and_any_arguments_are_borne(schema: dict[str, Any], written: object) -> None:
    fit_arguments(json.dumps(written), schema)


def test_a_schema_that_refers_to_itself_is_borne() -> None:
    schema = {"properties": {"a": {"$ref": "#/properties/a"}}}
    assert fit_arguments('{"a": 1}', schema) == '{"a": 1}'
    wide = {"properties": {"a": {"anyOf": [{"anyOf": [{"$ref": "#/properties/a"}] * 9}] * 9}}}
    assert fit_arguments('{"a": 1}', wide) == '{"a": 1}'
