"""What `pip install .` may choose: releases of major versions that the tests have not seen are left out."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
MORE = {"otel", "postgres", "s3"}
"""Extras with what the default does not have."""

DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for each in DEPENDENCIES:
        assert sorted(bound.operator for bound in each.specifier) == ["<", ">="], each


def test_what_is_pinned_is_within_the_bounds() -> None:
    for each in DEPENDENCIES:
        if each.marker is None or each.marker.evaluate():
            assert version(each.name) in each.specifier


def test_an_extra_brings_what_the_default_has_so_that_naming_it_changes_nothing() -> None:
    default = {str(each) for each in DEPENDENCIES}
    extras = PROJECT["optional-dependencies"]
    assert {"slack", "discord", "telegram", "charts", "documents", "mcp", "otel"} <= set(extras)
    for name in set(extras) - MORE:
        assert {str(Requirement(text)) for text in extras[name]} <= default, name


def test_every_python_since_the_oldest_may_install_it() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
