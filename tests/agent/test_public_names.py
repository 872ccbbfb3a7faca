"""The package `interject`: what extends the product imports from it alone."""

import inspect
import subprocess
import sys
import typing

import pytest

import interject
from interject.public import __all__ as names

NO_CLASSES = {"Approval", "Effect", "Entry", "Event", "OnSteer", "Point", "Ruling", "Subject"}
"""Aliases of types, which have no docstrings of their own."""


@pytest.mark.parametrize("name", sorted(set(names) - NO_CLASSES))
def test_a_public_name_says_what_it_is(name: str) -> None:
    found = getattr(interject, name)
    doc = inspect.getdoc(found) or ""
    assert doc, f"{name} has no docstring"
    assert not doc.startswith(f"{name}("), f"{name} has only the docstring that dataclasses make"


@pytest.mark.parametrize("name", sorted(NO_CLASSES))
def test_an_alias_is_a_closed_set(name: str) -> None:
    assert typing.get_args(getattr(interject, name))


def test_names_are_listed_and_others_refused() -> None:
    assert set(names) <= set(dir(interject))
    with pytest.raises(AttributeError, match="Nothing"):
        interject.Nothing  # noqa: B018


def test_importing_the_package_alone_loads_nothing_of_ours() -> None:
    script = (
        "import interject, sys; print([m for m in sys.modules if m.split('.')[0] in ('agent', 'gateway', 'channels')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
