"""What `pip install .` may choose: releases of major versions that the tests have not seen are left out."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for each in DEPENDENCIES:
        assert sorted(bound.operator for bound in each.specifier) == ["<", ">="], each


def test_what_is_pinned_is_within_the_bounds() -> None:
    for each in DEPENDENCIES:
        if each.marker is None or each.marker.evaluate():
            assert version(each.name) in each.specifier
